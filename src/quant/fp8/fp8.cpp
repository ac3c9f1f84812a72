#include <algorithm>
#include <cmath>

#include "quant/codecs.h"
#include "quant/fp8/layout.h"
#include "quant/search.h"

namespace millrace {
namespace {

constexpr float kMax = 448.0f;

const BlockF8E4M3* blocks_of(const std::byte* bytes) { return reinterpret_cast<const BlockF8E4M3*>(bytes); }

}  // namespace

uint8_t e4m3_of_float(float value) {
  const auto sign = static_cast<uint8_t>(std::signbit(value) ? 0x80 : 0);
  const float magnitude = std::fabs(value);
  if (!(magnitude > 0.0f)) return sign & 0x80;
  if (magnitude >= kMax) return sign | 0x7e;
  if (magnitude < 0x1p-6f) return sign | static_cast<uint8_t>(nearest_int(magnitude * 512.0f));  // subnormal
  const auto bits = std::bit_cast<uint32_t>(magnitude);
  const uint32_t rounded = (bits + 0x7ffff + (bits >> 20 & 1)) >> 20;
  return sign | static_cast<uint8_t>(std::min<uint32_t>(rounded - (120 << 3), 0x7e));
}

void decode_f8_e4m3(const std::byte* blocks, float* out, int64_t n_elems) {
  const BlockF8E4M3* b = blocks_of(blocks);
  for (int64_t i = 0; i < n_elems; ++i)
    out[i] = b[i / kF8Elems].d * float_of_e4m3(b[i / kF8Elems].q[i % kF8Elems]);
}

// The importance is not needed: floats are as precise in small elements as in large ones.
void encode_f8_e4m3(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  auto* b = reinterpret_cast<BlockF8E4M3*>(blocks);
  for (int64_t i = 0; i < n_elems; i += kF8Elems, ++b) {
    const auto n = static_cast<int>(std::min<int64_t>(kF8Elems, n_elems - i));
    *b = {};
    b->d = std::fabs(largest(in + i, n)) / kMax;
    if (!std::isfinite(b->d)) b->d = std::numeric_limits<float>::max() / kMax;
    for (int j = 0; j < n && b->d > 0.0f; ++j) b->q[j] = e4m3_of_float(in[i + j] / b->d);
  }
}

bool is_sound_f8_e4m3(const std::byte* blocks, int64_t n_elems) {
  const BlockF8E4M3* b = blocks_of(blocks);
  for (int64_t i = 0; i < n_elems; ++i) {
    if (!std::isfinite(b[i / kF8Elems].d) || is_nan_e4m3(b[i / kF8Elems].q[i % kF8Elems])) return false;
  }
  return true;
}

}  // namespace millrace
