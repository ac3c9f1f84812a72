#include <algorithm>
#include <cstring>

#include "quant/codecs.h"
#include "quant/iq4/layout.h"
#include "quant/search.h"

namespace millrace {
namespace {

constexpr int kGroup = 32;
constexpr int kRun = 8;  // groups that are searched at once; those of an IQ4_XS block

// The indices of the levels nearest to inverse * x, the higher one of two equally near.
void nearest_levels(const float* x, float inverse, int (&indices)[kGroup]) {
  float scaled[kGroup];
  for (int i = 0; i < kGroup; ++i) scaled[i] = inverse * x[i];
  for (int i = 0; i < kGroup; ++i) indices[i] = 0;
  for (int level = 0; level < 15; ++level) {
    const float middle = 0.5f * static_cast<float>(kIq4Levels[level] + kIq4Levels[level + 1]);
    for (int i = 0; i < kGroup; ++i) indices[i] += scaled[i] >= middle ? 1 : 0;
  }
}

float twice_variance(const float* x, int n) { return sum_of_squares(x, n) * (2.0f / static_cast<float>(n)); }

void pack_group(const float* x, float d, uint8_t* qs) {
  int indices[kGroup];
  nearest_levels(x, d != 0.0f ? 1.0f / d : 0.0f, indices);
  for (int j = 0; j < 16; ++j) qs[j] = static_cast<uint8_t>(indices[j] | indices[j + 16] << 4);
}

void encode_iq4_xs_block(const float* x, const float* importance, BlockIq4Xs& b) {
  float weights[kRun * kGroup], scales[kRun];
  if (importance != nullptr) weigh(x, importance, twice_variance(x, 256), 256, weights);
  searches().iq4({x, importance == nullptr ? nullptr : weights, kRun, kGroup}, scales);
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
  for (int64_t first = 0; first < n_elems / kGroup; first += kRun) {
    const float* x = in + first * kGroup;
    const int n = static_cast<int>(std::min<int64_t>(kRun, n_elems / kGroup - first));
    float weights[kRun * kGroup], scales[kRun];
    for (int g = 0; g < n && !importance.empty(); ++g) {
      weigh(x + g * kGroup, importance.data() + (first + g) * kGroup, twice_variance(x + g * kGroup, kGroup),
            kGroup, weights + g * kGroup);
    }
    searches().iq4({x, importance.empty() ? nullptr : weights, n, kGroup}, scales);
    for (int g = 0; g < n; ++g) {
      b[first + g].d = f16_of_float(scales[g]);
      pack_group(x + g * kGroup, scales[g], b[first + g].qs);
    }
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
