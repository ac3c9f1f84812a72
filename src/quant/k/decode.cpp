#include "quant/codecs.h"
#include "quant/k/layout.h"

namespace millrace {
namespace {

template <class Block, class DecodeBlock>
void decode(const std::byte* blocks, float* out, int64_t n_elems, DecodeBlock decode_block) {
  const auto* b = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < n_elems / kSuperElems; ++i) decode_block(b[i], out + i * kSuperElems);
}

int two_bits(const uint8_t (&qs)[64], int k) { return qs[k / 128 * 32 + k % 32] >> k % 128 / 32 * 2 & 3; }

int nibble(const uint8_t (&qs)[128], int k) {
  const uint8_t byte = qs[k / 64 * 32 + k % 32];
  return k % 64 < 32 ? byte & 15 : byte >> 4;
}

}  // namespace

void decode_q2_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ2K>(blocks, out, n_elems, [](const BlockQ2K& b, float* y) {
    const float d = float_of_f16(b.d), dmin = float_of_f16(b.dmin);
    for (int k = 0; k < kSuperElems; ++k) {
      const uint8_t scale = b.scales[k / 16];
      y[k] = d * static_cast<float>(scale & 15) * static_cast<float>(two_bits(b.qs, k)) -
             dmin * static_cast<float>(scale >> 4);
    }
  });
}

void decode_q3_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ3K>(blocks, out, n_elems, [](const BlockQ3K& b, float* y) {
    const float d = float_of_f16(b.d);
    int8_t scales[16];
    unpack_q3k_scales(b.scales, scales);
    for (int k = 0; k < kSuperElems; ++k) {
      const int high = b.hmask[k % 32] >> k / 32 & 1;
      y[k] = d * static_cast<float>(scales[k / 16]) * static_cast<float>(two_bits(b.qs, k) - 4 * (1 - high));
    }
  });
}

void decode_q4_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ4K>(blocks, out, n_elems, [](const BlockQ4K& b, float* y) {
    const float d = float_of_f16(b.d), dmin = float_of_f16(b.dmin);
    const ScalesMins s = unpack_scales_mins(b.scales);
    for (int k = 0; k < kSuperElems; ++k) {
      const int i = k / 32;
      y[k] = d * static_cast<float>(s.sc[i]) * static_cast<float>(nibble(b.qs, k)) -
             dmin * static_cast<float>(s.mn[i]);
    }
  });
}

void decode_q5_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ5K>(blocks, out, n_elems, [](const BlockQ5K& b, float* y) {
    const float d = float_of_f16(b.d), dmin = float_of_f16(b.dmin);
    const ScalesMins s = unpack_scales_mins(b.scales);
    for (int k = 0; k < kSuperElems; ++k) {
      const int i = k / 32;
      const int q = nibble(b.qs, k) | (b.qh[k % 32] >> i & 1) << 4;
      y[k] = d * static_cast<float>(s.sc[i]) * static_cast<float>(q) - dmin * static_cast<float>(s.mn[i]);
    }
  });
}

void decode_q6_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ6K>(blocks, out, n_elems, [](const BlockQ6K& b, float* y) {
    const float d = float_of_f16(b.d);
    for (int k = 0; k < kSuperElems; ++k) {
      const int n = k / 128, g = k % 128 / 32, l = k % 32;
      const uint8_t low_byte = b.ql[64 * n + 32 * (g % 2) + l];
      const int low = g < 2 ? low_byte & 15 : low_byte >> 4;
      const int q = (low | (b.qh[32 * n + l] >> 2 * g & 3) << 4) - 32;
      y[k] = d * static_cast<float>(b.scales[k / 16]) * static_cast<float>(q);
    }
  });
}

bool is_sound_q2_k(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ2K>(blocks, n_elems / kSuperElems,
                              [](const auto& b) { return is_finite_f16(b.d) && is_finite_f16(b.dmin); });
}
bool is_sound_q3_k(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ3K>(blocks, n_elems / kSuperElems,
                              [](const auto& b) { return is_finite_f16(b.d); });
}
bool is_sound_q4_k(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ4K>(blocks, n_elems / kSuperElems,
                              [](const auto& b) { return is_finite_f16(b.d) && is_finite_f16(b.dmin); });
}
bool is_sound_q5_k(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ5K>(blocks, n_elems / kSuperElems,
                              [](const auto& b) { return is_finite_f16(b.d) && is_finite_f16(b.dmin); });
}
bool is_sound_q6_k(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ6K>(blocks, n_elems / kSuperElems,
                              [](const auto& b) { return is_finite_f16(b.d); });
}

}  // namespace millrace
