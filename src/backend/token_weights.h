// How logits become the weights by which a token is drawn. Plain operations in one order, which give the same
// bits on every machine and device: what is drawn must not depend on where.
#pragma once

#include <bit>
#include <cstdint>

namespace millrace {

// The weights of so many tokens are added up by themselves: weight i of them to lane i % kWeightLanes, then
// the lanes in their order. The sum of all is that of the blocks, in their order.
inline constexpr int64_t kWeightBlock = 1024;
inline constexpr int64_t kWeightLanes = 8;

constexpr int64_t n_weight_blocks(int64_t n_vocab) { return (n_vocab + kWeightBlock - 1) / kWeightBlock; }

// exp(x) for x <= 0 to about one ulp; 0 below -87, where float would be denormal. Cephes' reduction and
// polynomial (Moshier 1989).
[[gnu::always_inline]] constexpr float weight_of(float x) {
  constexpr int32_t kLeast = 0x42ae0000;  // 87.0f
  constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: a sum with it is rounded to an integer, in its low bits
  // Masks of integers: g++ makes no vector code of a choice between floats, which might trap.
  const int32_t magnitude = std::bit_cast<int32_t>(x) & 0x7fffffff;
  const int32_t is_zero = (kLeast - magnitude) >> 31;  // all bits, or none
  const float y = -std::bit_cast<float>((magnitude & ~is_zero) | (kLeast & is_zero));
  const float rounded = y * 1.44269504f + kRound;
  const float n = rounded - kRound;
  const float r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float fraction = p * (r * r) + r + 1.0f;
  const auto power = std::bit_cast<float>((std::bit_cast<uint32_t>(rounded) + 127) << 23);
  return std::bit_cast<float>(std::bit_cast<int32_t>(fraction * power) & ~is_zero);
}

// out[i] = the weight of logits[i], the largest of all being `max`
inline void weigh(const float* logits, int64_t n, float max, float temperature, float* __restrict out) {
  for (int64_t i = 0; i < n; ++i) out[i] = weight_of((logits[i] - max) / temperature);
}

// Of the weights of a block.
inline double sum_of_block(const float* weights, int64_t n) {
  double lanes[kWeightLanes] = {};
  int64_t i = 0;
  for (; i + kWeightLanes <= n; i += kWeightLanes) {
    for (int64_t lane = 0; lane < kWeightLanes; ++lane) lanes[lane] += static_cast<double>(weights[i + lane]);
  }
  for (int64_t lane = 0; i + lane < n; ++lane) lanes[lane] += static_cast<double>(weights[i + lane]);
  double sum = 0.0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

// Where a draw ends: at the first of `items` (block sums, or weights of a block) with which the sum, from
// `before` on, exceeds `target`; where rounding leaves none, at the last that is not 0. -1 where all are.
struct DrawEnd {
  int64_t item;
  double before;  // the sum of what comes before it
};
template <class Item>
constexpr DrawEnd draw_end(const Item* items, int64_t n, double before, double target) {
  DrawEnd last{-1, before};
  for (int64_t i = 0; i < n; ++i) {
    const auto item = static_cast<double>(items[i]);
    if (item > 0.0) last = {i, before};
    before += item;
    if (target < before) return last;
  }
  return last;
}

// Doubles in tensors of int32: the lower half first, as in memory.
constexpr double double_of_halves(const int32_t* halves) {
  return std::bit_cast<double>(static_cast<uint64_t>(static_cast<uint32_t>(halves[1])) << 32 |
                               static_cast<uint32_t>(halves[0]));
}
constexpr void write_halves(double value, int32_t* halves) {
  const auto bits = std::bit_cast<uint64_t>(value);
  halves[0] = static_cast<int32_t>(static_cast<uint32_t>(bits));
  halves[1] = static_cast<int32_t>(static_cast<uint32_t>(bits >> 32));
}

}  // namespace millrace
