// F32, F16 and BF16: no blocks, nothing to search for. Encoding rounds to nearest, ties to even.
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
  decode16<float_of_f16>(blocks, out, n_elems);
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
