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

// The codes whose values are nearest to x, of two equally near the smaller magnitude.
void nearest_codes(const float* x, float half_scale, int (&codes)[kElems]) {
  for (int i = 0; i < kElems; ++i) codes[i] = 0;
  for (int code = 0; code < 7; ++code) {
    const float middle =
        0.5f * static_cast<float>(kMxfp4Doubled[code] + kMxfp4Doubled[code + 1]) * half_scale;
    for (int i = 0; i < kElems; ++i) codes[i] += std::fabs(x[i]) > middle ? 1 : 0;
  }
  for (int i = 0; i < kElems; ++i) codes[i] += x[i] < 0.0f && codes[i] > 0 ? 8 : 0;
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
    int codes[kElems];
    nearest_codes(x, mxfp4_half_scale(b[i].e), codes);
    for (int j = 0; j < 16; ++j) b[i].qs[j] = static_cast<uint8_t>(codes[j] | codes[j + 16] << 4);
  }
}

bool is_sound_mxfp4(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockMxfp4>(blocks, n_elems / kElems, [](const auto& b) { return b.e != 255; });
}

}  // namespace millrace
