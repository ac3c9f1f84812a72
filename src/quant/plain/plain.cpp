// F32, F16 and BF16: no blocks, nothing to search for. Encoding rounds to nearest, ties to even.
#include <bit>
#include <cmath>
#include <cstring>

#include "quant/codecs.h"

namespace millrace {
namespace {

template <float (*Widen)(uint16_t)>
void decode16(const std::byte* blocks, float* out, int64_t n_elems) {
  const auto* in = reinterpret_cast<const uint16_t*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) out[i] = Widen(in[i]);
}

// float_of_f16() without branches, which vectorises.
float widen_f16(uint16_t half) {
  const uint32_t magnitude = half & 0x7fffu;
  const uint32_t normal = (magnitude << 13) + (112u << 23);
  const auto subnormal =
      std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
  const uint32_t bits = magnitude < 0x0400u ? subnormal : normal;
  const uint32_t not_finite = magnitude >= 0x7c00u ? 0x7f800000u : 0u;
  return std::bit_cast<float>(bits | not_finite | static_cast<uint32_t>(half & 0x8000u) << 16);
}

template <uint16_t (*Narrow)(float)>
void encode16(const float* in, std::byte* blocks, int64_t n_elems) {
  auto* out = reinterpret_cast<uint16_t*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) out[i] = Narrow(in[i]);
}

template <uint16_t ExponentMask>
bool is_finite16(const std::byte* blocks, int64_t n_elems) {
  const auto* in = reinterpret_cast<const uint16_t*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) {
    if ((in[i] & ExponentMask) == ExponentMask) return false;
  }
  return true;
}

}  // namespace

void decode_f32(const std::byte* blocks, float* out, int64_t n_elems) {
  std::memcpy(out, blocks, static_cast<size_t>(n_elems) * sizeof(float));
}
void encode_f32(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  std::memcpy(blocks, in, static_cast<size_t>(n_elems) * sizeof(float));
}
bool is_sound_f32(const std::byte* blocks, int64_t n_elems) {
  const auto* in = reinterpret_cast<const float*>(blocks);
  for (int64_t i = 0; i < n_elems; ++i) {
    if (!std::isfinite(in[i])) return false;
  }
  return true;
}

void decode_f16(const std::byte* blocks, float* out, int64_t n_elems) {
  decode16<widen_f16>(blocks, out, n_elems);
}
void encode_f16(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  encode16<f16_of_float>(in, blocks, n_elems);
}
bool is_sound_f16(const std::byte* blocks, int64_t n_elems) { return is_finite16<0x7c00>(blocks, n_elems); }

void decode_bf16(const std::byte* blocks, float* out, int64_t n_elems) {
  decode16<float_of_bf16>(blocks, out, n_elems);
}
void encode_bf16(const float* in, std::byte* blocks, int64_t n_elems, Importance) {
  encode16<bf16_of_float>(in, blocks, n_elems);
}
bool is_sound_bf16(const std::byte* blocks, int64_t n_elems) { return is_finite16<0x7f80>(blocks, n_elems); }

}  // namespace millrace
