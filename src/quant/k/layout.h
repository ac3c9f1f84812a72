// The K formats: super-blocks of 256 elements, whose sub-blocks of 16 or 32 have small integer scales (and
// minima) under one float16 scale. As GGUF stores them: packed, little-endian.
#pragma once

#include <cstdint>

namespace millrace {

inline constexpr int kSuperElems = 256;

// Element k: n = k / 128, j = k % 128 / 32, l = k % 32; q = qs[32n + l] >> 2j & 3; y = d * sc * q - dmin *
// mn, with sc, mn the low and high nibble of scales[k / 16].
struct BlockQ2K {
  uint8_t scales[16];
  uint8_t qs[64];
  uint16_t d, dmin;  // float16
};

// q as in Q2_K, minus 4 where bit 4n + j of hmask[l] is clear; y = d * (s - 32) * q with s the 6-bit scale of
// k / 16.
struct BlockQ3K {
  uint8_t hmask[32];
  uint8_t qs[64];
  uint8_t scales[12];  // low nibbles of s[0..7] | s[8..15], then the high two bits
  uint16_t d;
};

// Element k: p = k / 64, l = k % 32; nibble of qs[32p + l], low where k % 64 < 32; y = d * sc * q - dmin * mn
// with the 6-bit (sc, mn) of k / 32.
struct BlockQ4K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qs[128];
};

// As Q4_K, with bit 4 of element k in bit k / 32 of qh[k % 32].
struct BlockQ5K {
  uint16_t d, dmin;
  uint8_t scales[12];
  uint8_t qh[32];
  uint8_t qs[128];
};

// Element k: n = k / 128, g = k % 128 / 32, l = k % 32; low 4 bits: nibble (low for g < 2) of ql[64n + 32(g %
// 2) + l], high 2 bits: qh[32n + l] >> 2g & 3; y = d * scales[k / 16] * (q - 32).
struct BlockQ6K {
  uint8_t ql[128];
  uint8_t qh[64];
  int8_t scales[16];
  uint16_t d;
};

static_assert(sizeof(BlockQ2K) == 84 && sizeof(BlockQ3K) == 110 && sizeof(BlockQ4K) == 144 &&
              sizeof(BlockQ5K) == 176 && sizeof(BlockQ6K) == 210);

// The 6-bit scales and minima of Q4_K and Q5_K.
struct ScalesMins {
  uint8_t sc[8];
  uint8_t mn[8];
};

inline ScalesMins unpack_scales_mins(const uint8_t (&packed)[12]) {
  ScalesMins out;
  for (int i = 0; i < 4; ++i) {
    out.sc[i] = packed[i] & 63;
    out.mn[i] = packed[i + 4] & 63;
    out.sc[i + 4] = static_cast<uint8_t>((packed[i + 8] & 15) | (packed[i] >> 6) << 4);
    out.mn[i + 4] = static_cast<uint8_t>(packed[i + 8] >> 4 | (packed[i + 4] >> 6) << 4);
  }
  return out;
}

// The 6-bit scales of Q3_K, 32 already taken off.
inline void unpack_q3k_scales(const uint8_t (&packed)[12], int8_t (&out)[16]) {
  for (int i = 0; i < 16; ++i) {
    const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
    const int high = packed[8 + i % 4] >> 2 * (i / 4) & 3;
    out[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

}  // namespace millrace
