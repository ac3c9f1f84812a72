#include <algorithm>
#include <cmath>

#include "quant/codecs.h"
#include "quant/fp8/layout.h"
#include "quant/mxfp4/layout.h"
#include "quant/nvfp4/layout.h"
#include "quant/search.h"

namespace millrace {
namespace {

constexpr int kGroup = 16;
constexpr float kMaxE2m1 = 6.0f, kMaxE4m3 = 448.0f;

float value_of(int code) { return 0.5f * static_cast<float>(kMxfp4Doubled[code]); }

// The code whose value is nearest, of two equally near the smaller magnitude.
int nearest_code(float x) {
  int code = 0;
  while (code < 7 && std::fabs(x) > 0.5f * (value_of(code) + value_of(code + 1))) ++code;
  return x < 0.0f && code > 0 ? code + 8 : code;
}

void encode_group(const float* x, int first, BlockNvfp4& block) {
  const float largest_ratio = std::fabs(largest(x, kGroup)) / kMaxE2m1 / block.d;
  block.s[first / kGroup] = e4m3_of_float(largest_ratio);
  const float scale = block.d * float_of_e4m3(block.s[first / kGroup]);
  for (int j = 0; j < kGroup && scale > 0.0f; ++j)
    set_nvfp4_code(block, first + j, nearest_code(x[j] / scale));
}

}  // namespace

void decode_nvfp4(const std::byte* blocks, float* out, int64_t n_elems) {
  const auto* b = reinterpret_cast<const BlockNvfp4*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) {
    const BlockNvfp4& block = b[i / kNvfp4Elems];
    const auto k = static_cast<int>(i % kNvfp4Elems);
    out[i] = block.d * float_of_e4m3(block.s[k / kGroup]) * value_of(nvfp4_code(block, k));
  }
}

// The scale of the row stands for that of the matrix. The importance is not needed.
void encode_nvfp4(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  auto* b = reinterpret_cast<BlockNvfp4*>(blocks);
  const float d = std::fabs(largest(in, static_cast<int>(n_elems))) / kMaxE2m1 / kMaxE4m3;
  for (int64_t i = 0; i < n_elems; i += kNvfp4Elems, ++b) {
    *b = {};
    b->d = std::min(d, std::numeric_limits<float>::max());
    const auto n = static_cast<int>(std::min<int64_t>(kNvfp4Elems, n_elems - i));
    for (int first = 0; first < n && d > 0.0f; first += kGroup) encode_group(in + i + first, first, *b);
  }
}

bool is_sound_nvfp4(const std::byte* blocks, int64_t n_elems) {
  const auto* b = reinterpret_cast<const BlockNvfp4*>(blocks);
  for (int64_t i = 0; i < n_elems; i += kGroup) {
    const BlockNvfp4& block = b[i / kNvfp4Elems];
    if (!std::isfinite(block.d) || is_nan_e4m3(block.s[i % kNvfp4Elems / kGroup])) return false;
  }
  return true;
}

}  // namespace millrace
