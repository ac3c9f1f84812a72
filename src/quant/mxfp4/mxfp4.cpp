#include <cmath>

#include "quant/codecs.h"
#include "quant/mxfp4/layout.h"
#include "quant/search.h"

namespace millrace {
namespace {

constexpr int kElems = 32;

// floor(log2(largest)) - 2: the largest element lands on 4 or 6, the top binade of E2M1.
uint8_t exponent_of(const float* x) {
  const float magnitude = std::fabs(largest(x, kElems));
  if (!(magnitude > 0.0f)) return 0;
  return static_cast<uint8_t>(truncated(std::floor(std::log2(magnitude)) - 2.0f + 127.0f, 254));
}

// The code whose value is nearest to x; the first of equals.
int nearest_code(float x, float half_scale) {
  int best = 0;
  float best_error = std::fabs(static_cast<float>(kMxfp4Doubled[0]) * half_scale - x);
  for (int code = 1; code < 16; ++code) {
    const float error = std::fabs(static_cast<float>(kMxfp4Doubled[code]) * half_scale - x);
    if (error < best_error) {
      best = code;
      best_error = error;
    }
  }
  return best;
}

}  // namespace

void decode_mxfp4(const std::byte* blocks, float* out, int64_t n_elems) {
  const auto* b = reinterpret_cast<const BlockMxfp4*>(blocks);
  for (int64_t i = 0; i < n_elems / kElems; ++i) {
    const float d = mxfp4_half_scale(b[i].e);
    for (int j = 0; j < 16; ++j) {
      out[i * kElems + j] = d * static_cast<float>(kMxfp4Doubled[b[i].qs[j] & 15]);
      out[i * kElems + j + 16] = d * static_cast<float>(kMxfp4Doubled[b[i].qs[j] >> 4]);
    }
  }
}

// The scale is fixed by the specification: the importance is not needed.
void encode_mxfp4(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  auto* b = reinterpret_cast<BlockMxfp4*>(blocks);
  for (int64_t i = 0; i < n_elems / kElems; ++i) {
    const float* x = in + i * kElems;
    b[i].e = exponent_of(x);
    const float d = mxfp4_half_scale(b[i].e);
    for (int j = 0; j < 16; ++j) {
      b[i].qs[j] = static_cast<uint8_t>(nearest_code(x[j], d) | nearest_code(x[j + 16], d) << 4);
    }
  }
}

bool is_sound_mxfp4(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockMxfp4>(blocks, n_elems / kElems, [](const auto& b) { return b.e != 255; });
}

}  // namespace millrace
