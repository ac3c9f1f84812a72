// Blocks of 32 elements with one float16 scale, as GGUF stores them (packed, little-endian). In `qs`, byte j
// holds element j in its low nibble and element j + 16 in its high one.
#pragma once

#include <cstdint>

namespace millrace {

inline constexpr int kLegacyElems = 32;

struct BlockQ4_0 {  // y = (q - 8) * d
  uint16_t d;       // float16
  uint8_t qs[16];
};

struct BlockQ4_1 {  // y = q * d + m
  uint16_t d, m;    // float16
  uint8_t qs[16];
};

struct BlockQ5_0 {  // y = (q - 16) * d, where bit 4 of element k is bit k of qh
  uint16_t d;
  uint8_t qh[4];
  uint8_t qs[16];
};

struct BlockQ5_1 {  // y = q * d + m
  uint16_t d, m;
  uint8_t qh[4];
  uint8_t qs[16];
};

struct BlockQ8_0 {  // y = q * d
  uint16_t d;
  int8_t qs[32];
};

static_assert(sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20 && sizeof(BlockQ5_0) == 22 &&
              sizeof(BlockQ5_1) == 24 && sizeof(BlockQ8_0) == 34);

}  // namespace millrace
