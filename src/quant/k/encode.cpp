#include <cmath>
#include <cstring>

#include "quant/codecs.h"
#include "quant/k/layout.h"
#include "quant/search.h"

namespace millrace {
namespace {

// Calls each(x, importance of the super-block or nullptr, block) for every super-block.
template <class Block, class Each>
void for_supers(const float* in, std::byte* blocks, int64_t n_elems, Importance importance, Each each) {
  auto* b = reinterpret_cast<Block*>(blocks);
  for (int64_t i = 0; i < n_elems / kSuperElems; ++i) {
    std::memset(&b[i], 0, sizeof(Block));
    each(in + i * kSuperElems, importance.empty() ? nullptr : importance.data() + i * kSuperElems, b[i]);
  }
}

float variance(const float* x, int n) { return sum_of_squares(x, n) / static_cast<float>(n); }

void pack_two_bits(const uint8_t* levels, uint8_t (&qs)[64]) {
  for (int n = 0; n < 2; ++n) {
    const uint8_t* l = levels + 128 * n;
    for (int i = 0; i < 32; ++i) {
      qs[32 * n + i] = static_cast<uint8_t>(l[i] | l[i + 32] << 2 | l[i + 64] << 4 | l[i + 96] << 6);
    }
  }
}

// Levels again, with the scale d and minimum dm that the block really holds; a group without a scale keeps
// its levels.
void round_again(const float* x, int n, int n_max, float d, float dm, uint8_t* levels) {
  if (d == 0.0f) return;
  for (int i = 0; i < n; ++i)
    levels[i] = static_cast<uint8_t>(clamped(nearest_int((x[i] + dm) / d), 0, n_max));
}

void round_again_signed(const float* x, int n, int n_max, float d, uint8_t* levels) {
  if (d == 0.0f) return;
  for (int i = 0; i < n; ++i)
    levels[i] = static_cast<uint8_t>(clamped(nearest_int(x[i] / d), -n_max, n_max - 1) + n_max);
}

float max_of(const float* x, int n) {
  float max = 0.0f;
  for (int i = 0; i < n; ++i) max = x[i] > max ? x[i] : max;
  return max;
}

// Scales or minima of `n` groups as integers up to n_max under one factor, which is returned.
float round_scales(const float* scales, int n, int n_max, uint8_t* levels) {
  const float max = max_of(scales, n);
  const float inverse = max > 0.0f ? static_cast<float>(n_max) / max : 0.0f;
  for (int i = 0; i < n; ++i)
    levels[i] = static_cast<uint8_t>(clamped(nearest_int(inverse * scales[i]), 0, n_max));
  return max / static_cast<float>(n_max);
}

// The groups of a format with scales and minima (Q2_K, Q4_K, Q5_K): `n_groups` of `size` elements, levels to
// n_max, their scales and minima to scale_max.
struct GroupFormat {
  int n_groups, size, n_max, scale_max;
  ScaleMinSteps steps;    // of the search without importance
  float variance_factor;  // with importance
};
constexpr GroupFormat kQ2Groups{16, 16, 3, 15, {-0.5f, 0.1f, 15, ErrorMeasure::absolute}, 1.0f};
constexpr GroupFormat kQ4Groups{8, 32, 15, 63, {-1.0f, 0.1f, 20, ErrorMeasure::squared}, 2.0f};
constexpr GroupFormat kQ5Groups{8, 32, 31, 63, {-0.5f, 0.1f, 15, ErrorMeasure::squared}, 2.0f};

struct GroupScales {
  float d, dmin;  // already rounded to float16
  uint8_t sc[16];
  uint8_t mn[16];
};

// Without importance an element weighs |x|, and where groups are of 32 the group's rms on top.
void weigh_plainly(const float* x, int size, float* weights) {
  for (int first = 0; first < kSuperElems; first += size) {
    const float rms = size == 32 ? std::sqrt(variance(x + first, size)) : 0.0f;
    for (int i = first; i < first + size; ++i) weights[i] = rms + std::fabs(x[i]);
  }
}

// The sum of the weights of each group.
void sum_groups(const float* weights, int size, float* sums) {
  for (int g = 0; g < kSuperElems / size; ++g) {
    sums[g] = 0.0f;
    for (int i = 0; i < size; ++i) sums[g] += weights[g * size + i];
  }
}

GroupScales encode_groups(const float* x, const float* importance, const GroupFormat& format,
                          uint8_t* levels) {
  const int n = format.n_groups, size = format.size;
  float weights[kSuperElems], sums[16], scales[16], minima[16];
  ScaleMin found[16];
  if (importance == nullptr) {
    weigh_plainly(x, size, weights);
  } else {
    weigh(x, importance, format.variance_factor * variance(x, kSuperElems), kSuperElems, weights);
    sum_groups(weights, size, sums);
  }
  searches().scale_min({x, weights, n, size}, format.n_max,
                       importance == nullptr ? format.steps : kWeightedSteps, found, levels);
  for (int g = 0; g < n; ++g) {
    scales[g] = found[g].scale;
    minima[g] = found[g].minimum;
  }
  const auto rounded = [&](const float* values, uint8_t* out) {
    return rounded_f16(importance == nullptr ? round_scales(values, n, format.scale_max, out)
                                             : search_positive(values, n, format.scale_max, sums, out));
  };
  GroupScales out;
  out.d = rounded(scales, out.sc);
  out.dmin = rounded(minima, out.mn);
  for (int g = 0; g < n; ++g) {
    round_again(x + g * size, size, format.n_max, out.d * static_cast<float>(out.sc[g]),
                out.dmin * static_cast<float>(out.mn[g]), levels + g * size);
  }
  return out;
}

void pack_scales_mins(const GroupScales& s, uint8_t (&packed)[12]) {
  for (int i = 0; i < 4; ++i) {
    packed[i] = static_cast<uint8_t>(s.sc[i] | (s.sc[i + 4] >> 4) << 6);
    packed[i + 4] = static_cast<uint8_t>(s.mn[i] | (s.mn[i + 4] >> 4) << 6);
    packed[i + 8] = static_cast<uint8_t>((s.sc[i + 4] & 15) | (s.mn[i + 4] & 15) << 4);
  }
}

// Low four bits of the levels as Q4_K and Q5_K store them.
void pack_nibbles(const uint8_t* levels, uint8_t (&qs)[128]) {
  for (int p = 0; p < 4; ++p) {
    for (int l = 0; l < 32; ++l) {
      qs[32 * p + l] = static_cast<uint8_t>((levels[64 * p + l] & 15) | (levels[64 * p + 32 + l] & 15) << 4);
    }
  }
}

void pack_q3k_scales(const uint8_t* scales, uint8_t (&packed)[12]) {
  for (int i = 0; i < 16; ++i) {
    uint8_t& low = packed[i < 8 ? i : i - 8];
    low = static_cast<uint8_t>(low | (scales[i] & 15) << (i < 8 ? 0 : 4));
    uint8_t& high = packed[8 + i % 4];
    high = static_cast<uint8_t>(high | (scales[i] >> 4) << 2 * (i / 4));
  }
}

// The 6-bit scales (32 added) of Q3_K's groups under one factor, which is returned.
float q3k_scales(const float* x, const float* importance, uint8_t* levels, uint8_t* scales) {
  float group_scales[16];
  if (importance != nullptr) {
    float weights[kSuperElems], sums[16], d;
    weigh(x, importance, 2.0f * variance(x, kSuperElems), kSuperElems, weights);
    sum_groups(weights, 16, sums);
    searches().signed_levels({x, weights, 16, 16}, 4, group_scales, levels);
    searches().signed_levels({group_scales, sums, 1, 16}, 32, &d, scales);
    return d;
  }
  searches().descent({x, nullptr, 16, 16}, 4, group_scales, levels);
  const float max = largest(group_scales, 16);
  if (max == 0.0f) {
    std::memset(scales, 0, 16);
    return 0.0f;
  }
  const float inverse = -32.0f / max;
  for (int g = 0; g < 16; ++g)
    scales[g] = static_cast<uint8_t>(clamped(nearest_int(inverse * group_scales[g]), -32, 31) + 32);
  return 1.0f / inverse;
}

void pack_q6k(const uint8_t* levels, BlockQ6K& b) {
  for (int n = 0; n < 2; ++n) {
    const uint8_t* l = levels + 128 * n;
    for (int i = 0; i < 32; ++i) {
      b.ql[64 * n + i] = static_cast<uint8_t>((l[i] & 15) | (l[i + 64] & 15) << 4);
      b.ql[64 * n + 32 + i] = static_cast<uint8_t>((l[i + 32] & 15) | (l[i + 96] & 15) << 4);
      b.qh[32 * n + i] = static_cast<uint8_t>(l[i] >> 4 | (l[i + 32] >> 4) << 2 | (l[i + 64] >> 4) << 4 |
                                              (l[i + 96] >> 4) << 6);
    }
  }
}

}  // namespace

void encode_q2_k(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_supers<BlockQ2K>(in, blocks, n_elems, importance,
                       [](const float* x, const float* weights, BlockQ2K& b) {
                         uint8_t levels[kSuperElems];
                         const GroupScales s = encode_groups(x, weights, kQ2Groups, levels);
                         b.d = f16_of_float(s.d);
                         b.dmin = f16_of_float(s.dmin);
                         for (int g = 0; g < 16; ++g)
                           b.scales[g] = static_cast<uint8_t>(s.sc[g] | s.mn[g] << 4);
                         pack_two_bits(levels, b.qs);
                       });
}

void encode_q3_k(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_supers<BlockQ3K>(
      in, blocks, n_elems, importance, [](const float* x, const float* weights, BlockQ3K& b) {
        uint8_t levels[kSuperElems], scales[16];
        b.d = f16_of_float(q3k_scales(x, weights, levels, scales));
        pack_q3k_scales(scales, b.scales);
        for (int g = 0; g < 16; ++g) {
          round_again_signed(x + 16 * g, 16, 4, float_of_f16(b.d) * static_cast<float>(scales[g] - 32),
                             levels + 16 * g);
        }
        for (int k = 0; k < kSuperElems; ++k) {
          b.hmask[k % 32] = static_cast<uint8_t>(b.hmask[k % 32] | (levels[k] >> 2) << k / 32);
          levels[k] &= 3;
        }
        pack_two_bits(levels, b.qs);
      });
}

void encode_q4_k(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_supers<BlockQ4K>(in, blocks, n_elems, importance,
                       [](const float* x, const float* weights, BlockQ4K& b) {
                         uint8_t levels[kSuperElems];
                         const GroupScales s = encode_groups(x, weights, kQ4Groups, levels);
                         b.d = f16_of_float(s.d);
                         b.dmin = f16_of_float(s.dmin);
                         pack_scales_mins(s, b.scales);
                         pack_nibbles(levels, b.qs);
                       });
}

void encode_q5_k(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_supers<BlockQ5K>(in, blocks, n_elems, importance,
                       [](const float* x, const float* weights, BlockQ5K& b) {
                         uint8_t levels[kSuperElems];
                         const GroupScales s = encode_groups(x, weights, kQ5Groups, levels);
                         b.d = f16_of_float(s.d);
                         b.dmin = f16_of_float(s.dmin);
                         pack_scales_mins(s, b.scales);
                         pack_nibbles(levels, b.qs);
                         for (int k = 0; k < kSuperElems; ++k)
                           b.qh[k % 32] = static_cast<uint8_t>(b.qh[k % 32] | (levels[k] >> 4) << k / 32);
                       });
}

void encode_q6_k(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  for_supers<BlockQ6K>(
      in, blocks, n_elems, importance, [](const float* x, const float* weights, BlockQ6K& b) {
        uint8_t levels[kSuperElems];
        float scales[16];
        searches().signed_levels({x, weights, 16, 16}, 32, scales, levels);
        const float max = largest(scales, 16);
        if (std::fabs(max) < kGroupEps) return;
        const float inverse = -128.0f / max;
        b.d = f16_of_float(1.0f / inverse);
        for (int g = 0; g < 16; ++g) {
          b.scales[g] = static_cast<int8_t>(clamped(nearest_int(inverse * scales[g]), -128, 127));
          round_again_signed(x + 16 * g, 16, 32, float_of_f16(b.d) * static_cast<float>(b.scales[g]),
                             levels + 16 * g);
        }
        pack_q6k(levels, b);
      });
}

}  // namespace millrace
