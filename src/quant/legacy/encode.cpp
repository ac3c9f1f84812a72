#include <cmath>

#include "quant/codecs.h"
#include "quant/legacy/layout.h"
#include "quant/search.h"

namespace millrace {
namespace {

void pack_nibbles(const uint8_t* levels, uint8_t (&qs)[16]) {
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>((levels[j] & 15) | (levels[j + 16] & 15) << 4);
}

void pack_fifth_bits(const uint8_t* levels, uint8_t (&qh)[4]) {
  for (int k = 0; k < 4; ++k) qh[k] = 0;
  for (int k = 0; k < 32; ++k) qh[k / 8] = static_cast<uint8_t>(qh[k / 8] | (levels[k] >> 4 & 1) << k % 8);
}

struct Range {
  float min, max;
};

Range range_of(const float* x) {
  Range range{x[0], x[0]};
  for (int i = 1; i < kLegacyElems; ++i) {
    if (x[i] < range.min) range.min = x[i];
    if (x[i] > range.max) range.max = x[i];
  }
  return range;
}

// Rounds to levels around n_max: x ~ (level - n_max) * d. Returns d.
float round_signed(const float* x, int n_max, uint8_t* levels) {
  const float d = largest(x, kLegacyElems) / static_cast<float>(-n_max);
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  const float half = static_cast<float>(n_max) + 0.5f;
  for (int i = 0; i < kLegacyElems; ++i)
    levels[i] = static_cast<uint8_t>(truncated(x[i] * inverse + half, 2 * n_max - 1));
  return d;
}

// Rounds to levels above the minimum: x ~ level * d + min. Returns d.
float round_above(const float* x, int n_max, float min, float max, uint8_t* levels) {
  const float d = (max - min) / static_cast<float>(n_max);
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  for (int i = 0; i < kLegacyElems; ++i)
    levels[i] = static_cast<uint8_t>(truncated((x[i] - min) * inverse + 0.5f, n_max));
  return d;
}

// Calls each(x, weights, block) for every block; weights is nullptr where there is no importance.
template <class Block, class Each>
void for_blocks(const float* in, std::byte* blocks, int64_t n_elems, Importance importance, Each each) {
  float sigma2 = 0.0f;
  if (!importance.empty()) {
    for (int64_t i = 0; i < n_elems; ++i) sigma2 += in[i] * in[i];
    sigma2 /= static_cast<float>(n_elems);
  }
  auto* b = reinterpret_cast<Block*>(blocks);
  for (int64_t i = 0; i < n_elems / kLegacyElems; ++i) {
    const float* x = in + i * kLegacyElems;
    float weights[kLegacyElems];
    if (!importance.empty()) {
      for (int k = 0; k < kLegacyElems; ++k) {
        weights[k] = importance[static_cast<size_t>(i * kLegacyElems + k)] * std::sqrt(sigma2 + x[k] * x[k]);
      }
    }
    each(x, importance.empty() ? nullptr : weights, b[i]);
  }
}

// d of a signed block: rounded from the largest element, or searched with weights.
float signed_scale(const float* x, int n_max, const float* weights, uint8_t* levels) {
  return weights == nullptr ? round_signed(x, n_max, levels)
                            : search_signed(x, kLegacyElems, n_max, weights, levels);
}

// (d, m) of a block above its minimum.
Range scale_and_minimum(const float* x, int n_max, const float* weights, uint8_t* levels) {
  if (weights == nullptr) {
    const Range range = range_of(x);
    return {round_above(x, n_max, range.min, range.max, levels), range.min};
  }
  const ScaleMin found =
      search_scale_min(x, kLegacyElems, n_max, weights, {-0.9f, 0.05f, 36}, ErrorMeasure::squared, levels);
  return {found.scale, -found.minimum};
}

}  // namespace

void encode_q4_0(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_blocks<BlockQ4_0>(in, blocks, n_elems, importance,
                        [](const float* x, const float* weights, BlockQ4_0& b) {
                          uint8_t levels[kLegacyElems];
                          b.d = f16_of_float(signed_scale(x, 8, weights, levels));
                          pack_nibbles(levels, b.qs);
                        });
}

void encode_q4_1(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_blocks<BlockQ4_1>(in, blocks, n_elems, importance,
                        [](const float* x, const float* weights, BlockQ4_1& b) {
                          uint8_t levels[kLegacyElems];
                          const auto [d, m] = scale_and_minimum(x, 15, weights, levels);
                          b.d = f16_of_float(d);
                          b.m = f16_of_float(m);
                          pack_nibbles(levels, b.qs);
                        });
}

void encode_q5_0(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_blocks<BlockQ5_0>(in, blocks, n_elems, importance,
                        [](const float* x, const float* weights, BlockQ5_0& b) {
                          uint8_t levels[kLegacyElems];
                          b.d = f16_of_float(signed_scale(x, 16, weights, levels));
                          pack_nibbles(levels, b.qs);
                          pack_fifth_bits(levels, b.qh);
                        });
}

void encode_q5_1(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_blocks<BlockQ5_1>(in, blocks, n_elems, importance,
                        [](const float* x, const float* weights, BlockQ5_1& b) {
                          uint8_t levels[kLegacyElems];
                          const auto [d, m] = scale_and_minimum(x, 31, weights, levels);
                          b.d = f16_of_float(d);
                          b.m = f16_of_float(m);
                          pack_nibbles(levels, b.qs);
                          pack_fifth_bits(levels, b.qh);
                        });
}

// 8 bits gain nothing from a search: the importance is not needed.
void encode_q8_0(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  auto* b = reinterpret_cast<BlockQ8_0*>(blocks);
  for (int64_t i = 0; i < n_elems / kLegacyElems; ++i) {
    const float* x = in + i * kLegacyElems;
    const float d = std::fabs(largest(x, kLegacyElems)) / 127.0f;
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    b[i].d = f16_of_float(d);
    for (int k = 0; k < kLegacyElems; ++k) {
      const float scaled = std::round(x[k] * inverse);
      b[i].qs[k] = static_cast<int8_t>(scaled >= -127.0f && scaled <= 127.0f ? scaled : 0.0f);
    }
  }
}

}  // namespace millrace
