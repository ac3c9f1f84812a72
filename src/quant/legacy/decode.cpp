#include "quant/codecs.h"
#include "quant/legacy/layout.h"

namespace millrace {
namespace {

// Element k of the nibbles of a block, 0 to 15.
int nibble(const uint8_t (&qs)[16], int k) { return k < 16 ? qs[k] & 15 : qs[k - 16] >> 4; }

int fifth_bit(const uint8_t (&qh)[4], int k) { return (qh[k / 8] >> k % 8 & 1) << 4; }

template <class Block, class Value>
void decode(const std::byte* blocks, float* out, int64_t n_elems, Value value) {
  const auto* b = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < n_elems / kLegacyElems; ++i) {
    for (int k = 0; k < kLegacyElems; ++k) out[i * kLegacyElems + k] = value(b[i], k);
  }
}

}  // namespace

void decode_q4_0(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ4_0>(blocks, out, n_elems, [](const BlockQ4_0& b, int k) {
    return static_cast<float>(nibble(b.qs, k) - 8) * float_of_f16(b.d);
  });
}

void decode_q4_1(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ4_1>(blocks, out, n_elems, [](const BlockQ4_1& b, int k) {
    return static_cast<float>(nibble(b.qs, k)) * float_of_f16(b.d) + float_of_f16(b.m);
  });
}

void decode_q5_0(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ5_0>(blocks, out, n_elems, [](const BlockQ5_0& b, int k) {
    return static_cast<float>((nibble(b.qs, k) | fifth_bit(b.qh, k)) - 16) * float_of_f16(b.d);
  });
}

void decode_q5_1(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ5_1>(blocks, out, n_elems, [](const BlockQ5_1& b, int k) {
    return static_cast<float>(nibble(b.qs, k) | fifth_bit(b.qh, k)) * float_of_f16(b.d) + float_of_f16(b.m);
  });
}

void decode_q8_0(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ8_0>(blocks, out, n_elems, [](const BlockQ8_0& b, int k) {
    return static_cast<float>(b.qs[k]) * float_of_f16(b.d);
  });
}

bool is_sound_q4_0(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ4_0>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d); });
}
bool is_sound_q4_1(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ4_1>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d) && is_finite_f16(b.m); });
}
bool is_sound_q5_0(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ5_0>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d); });
}
bool is_sound_q5_1(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ5_1>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d) && is_finite_f16(b.m); });
}
bool is_sound_q8_0(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ8_0>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d); });
}

}  // namespace millrace
