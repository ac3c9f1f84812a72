#include "quant/codecs.h"
#include "quant/k/layout.h"

namespace millrace {
namespace {

template <class Block, class DecodeBlock>
void decode(const std::byte* blocks, float* out, int64_t n_elems, DecodeBlock decode_block) {
  const auto* b = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < n_elems / kSuperElems; ++i) decode_block(b[i], out + i * kSuperElems);
}

}  // namespace

void decode_q2_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ2K>(blocks, out, n_elems, [](const BlockQ2K& b, float* y) {
    const float d = float_of_f16(b.d), dmin = float_of_f16(b.dmin);
    for (int g = 0; g < 16; ++g, y += 16) {
      const uint8_t* qs = b.qs + g / 8 * 32 + g % 2 * 16;
      const int shift = g % 8 / 2 * 2;
      const float scale = d * static_cast<float>(b.scales[g] & 15);
      const float minimum = dmin * static_cast<float>(b.scales[g] >> 4);
      for (int l = 0; l < 16; ++l) y[l] = scale * static_cast<float>(qs[l] >> shift & 3) - minimum;
    }
  });
}

void decode_q3_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ3K>(blocks, out, n_elems, [](const BlockQ3K& b, float* y) {
    const float d = float_of_f16(b.d);
    int8_t scales[16];
    unpack_q3k_scales(b.scales, scales);
    for (int g = 0; g < 16; ++g, y += 16) {
      const uint8_t* qs = b.qs + g / 8 * 32 + g % 2 * 16;
      const uint8_t* high = b.hmask + g % 2 * 16;
      const int shift = g % 8 / 2 * 2;
      const float scale = d * static_cast<float>(scales[g]);
      for (int l = 0; l < 16; ++l) {
        const int q = (qs[l] >> shift & 3) | (high[l] >> g / 2 & 1) << 2;
        y[l] = scale * static_cast<float>(q - 4);
      }
    }
  });
}

void decode_q4_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ4K>(blocks, out, n_elems, [](const BlockQ4K& b, float* y) {
    const float d = float_of_f16(b.d), dmin = float_of_f16(b.dmin);
    const ScalesMins s = unpack_scales_mins(b.scales);
    for (int g = 0; g < 8; ++g, y += 32) {
      const uint8_t* qs = b.qs + g / 2 * 32;
      const int shift = g % 2 * 4;
      const float scale = d * static_cast<float>(s.sc[g]), minimum = dmin * static_cast<float>(s.mn[g]);
      for (int l = 0; l < 32; ++l) y[l] = scale * static_cast<float>(qs[l] >> shift & 15) - minimum;
    }
  });
}

void decode_q5_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ5K>(blocks, out, n_elems, [](const BlockQ5K& b, float* y) {
    const float d = float_of_f16(b.d), dmin = float_of_f16(b.dmin);
    const ScalesMins s = unpack_scales_mins(b.scales);
    for (int g = 0; g < 8; ++g, y += 32) {
      const uint8_t* qs = b.qs + g / 2 * 32;
      const int shift = g % 2 * 4;
      const float scale = d * static_cast<float>(s.sc[g]), minimum = dmin * static_cast<float>(s.mn[g]);
      for (int l = 0; l < 32; ++l) {
        const int q = (qs[l] >> shift & 15) | (b.qh[l] >> g & 1) << 4;
        y[l] = scale * static_cast<float>(q) - minimum;
      }
    }
  });
}

void decode_q6_k(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ6K>(blocks, out, n_elems, [](const BlockQ6K& b, float* y) {
    const float d = float_of_f16(b.d);
    for (int g = 0; g < 16; ++g, y += 16) {
      const int half = g / 8, quarter = g % 8 / 2, first = g % 2 * 16;
      const uint8_t* low = b.ql + 64 * half + 32 * (quarter % 2) + first;
      const uint8_t* high = b.qh + 32 * half + first;
      const int low_shift = quarter / 2 * 4, high_shift = quarter * 2;
      const float scale = d * static_cast<float>(b.scales[g]);
      for (int l = 0; l < 16; ++l) {
        const int q = (low[l] >> low_shift & 15) | (high[l] >> high_shift & 3) << 4;
        y[l] = scale * static_cast<float>(q - 32);
      }
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
