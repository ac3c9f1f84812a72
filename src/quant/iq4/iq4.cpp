#include <cmath>
#include <cstring>

#include "quant/codecs.h"
#include "quant/iq4/layout.h"
#include "quant/search.h"

namespace millrace {
namespace {

constexpr int kGroup = 32;
constexpr int kTries = 7;  // candidates each side of the largest level

// The index of the level nearest to x; the higher one of two equally near.
int nearest_level(float x) {
  if (!(x > kIq4Levels[0])) return 0;
  if (x >= kIq4Levels[15]) return 15;
  int low = 0, high = 15;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (x < kIq4Levels[middle] ? high : low) = middle;
  }
  return x - kIq4Levels[low] < kIq4Levels[high] - x ? low : high;
}

struct Fit {
  float qx = 0.0f, qq = 0.0f;
};

Fit fit_levels(const float* x, const float* weights, float inverse) {
  Fit fit;
  for (int i = 0; i < kGroup; ++i) {
    const float q = kIq4Levels[nearest_level(inverse * x[i])];
    fit.qx += weights[i] * q * x[i];
    fit.qq += weights[i] * q * q;
  }
  return fit;
}

// The scale of a group of 32 that loses least.
float search_group(const float* x, const float* weights) {
  const float max = largest(x, kGroup);
  if (std::fabs(max) < kGroupEps) return 0.0f;
  const Fit first = fit_levels(x, weights, 1.0f / (-max / kIq4Levels[0]));
  float d = first.qq > 0.0f ? first.qx / first.qq : 0.0f;  // no weight at all is no scale, not 0 / 0
  float best = d * first.qx;
  for (int step = -kTries; step <= kTries; ++step) {
    const Fit fit = fit_levels(x, weights, static_cast<float>(step + kIq4Levels[0]) / max);
    if (fit.qq > 0.0f && fit.qx * fit.qx > best * fit.qq) {
      d = fit.qx / fit.qq;
      best = d * fit.qx;
    }
  }
  return d;
}

void weigh(const float* x, const float* importance, float sigma2, float* weights) {
  for (int i = 0; i < kGroup; ++i) {
    weights[i] = importance != nullptr ? importance[i] * std::sqrt(sigma2 + x[i] * x[i]) : x[i] * x[i];
  }
}

float twice_variance(const float* x, int n) {
  float sum = 0.0f;
  for (int i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum * (2.0f / static_cast<float>(n));
}

void pack_group(const float* x, float d, uint8_t* qs) {
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  for (int j = 0; j < 16; ++j) {
    qs[j] = static_cast<uint8_t>(nearest_level(inverse * x[j]) | nearest_level(inverse * x[j + 16]) << 4);
  }
}

void encode_iq4_xs_block(const float* x, const float* importance, BlockIq4Xs& b) {
  const float sigma2 = twice_variance(x, 256);
  float scales[8];
  for (int g = 0; g < 8; ++g) {
    float weights[kGroup];
    weigh(x + kGroup * g, importance == nullptr ? nullptr : importance + kGroup * g, sigma2, weights);
    scales[g] = search_group(x + kGroup * g, weights);
  }
  const float d = -largest(scales, 8) / 32.0f;
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  std::memset(&b, 0, sizeof b);
  b.d = f16_of_float(d);
  for (int g = 0; g < 8; ++g) {
    const int scale = clamped(nearest_int(inverse * scales[g]), -32, 31);
    pack_group(x + kGroup * g, d * static_cast<float>(scale), b.qs + 16 * g);
    b.scales_l[g / 2] = static_cast<uint8_t>(b.scales_l[g / 2] | ((scale + 32) & 15) << 4 * (g % 2));
    b.scales_h = static_cast<uint16_t>(b.scales_h | ((scale + 32) >> 4) << 2 * g);
  }
}

}  // namespace

void decode_iq4_nl(const std::byte* blocks, float* out, int64_t n_elems) {
  const auto* b = reinterpret_cast<const BlockIq4Nl*>(blocks);
  for (int64_t i = 0; i < n_elems / kGroup; ++i) {
    const float d = float_of_f16(b[i].d);
    for (int j = 0; j < 16; ++j) {
      out[i * kGroup + j] = d * static_cast<float>(kIq4Levels[b[i].qs[j] & 15]);
      out[i * kGroup + j + 16] = d * static_cast<float>(kIq4Levels[b[i].qs[j] >> 4]);
    }
  }
}

void decode_iq4_xs(const std::byte* blocks, float* out, int64_t n_elems) {
  const auto* b = reinterpret_cast<const BlockIq4Xs*>(blocks);
  for (int64_t g = 0; g < n_elems / kGroup; ++g) {
    const BlockIq4Xs& block = b[g / 8];
    const float d = float_of_f16(block.d) * static_cast<float>(iq4xs_scale(block, static_cast<int>(g % 8)));
    const uint8_t* qs = block.qs + 16 * (g % 8);
    for (int j = 0; j < 16; ++j) {
      out[g * kGroup + j] = d * static_cast<float>(kIq4Levels[qs[j] & 15]);
      out[g * kGroup + j + 16] = d * static_cast<float>(kIq4Levels[qs[j] >> 4]);
    }
  }
}

void encode_iq4_nl(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  auto* b = reinterpret_cast<BlockIq4Nl*>(blocks);
  for (int64_t i = 0; i < n_elems / kGroup; ++i) {
    const float* x = in + i * kGroup;
    float weights[kGroup];
    weigh(x, importance.empty() ? nullptr : importance.data() + i * kGroup, twice_variance(x, kGroup),
          weights);
    const float d = search_group(x, weights);
    b[i].d = f16_of_float(d);
    pack_group(x, d, b[i].qs);
  }
}

void encode_iq4_xs(const float* in, std::byte* blocks, int64_t n_elems, Importance importance) {
  auto* b = reinterpret_cast<BlockIq4Xs*>(blocks);
  for (int64_t i = 0; i < n_elems / 256; ++i) {
    encode_iq4_xs_block(in + i * 256, importance.empty() ? nullptr : importance.data() + i * 256, b[i]);
  }
}

bool is_sound_iq4_nl(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockIq4Nl>(blocks, n_elems / kGroup, [](const auto& b) { return is_finite_f16(b.d); });
}
bool is_sound_iq4_xs(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockIq4Xs>(blocks, n_elems / 256, [](const auto& b) { return is_finite_f16(b.d); });
}

}  // namespace millrace
