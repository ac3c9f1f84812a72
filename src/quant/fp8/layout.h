// E4M3 (OCP 8-bit floating point, the variant without infinities) under a float32 scale. Checkpoints scale
// blocks of 128 x 128, rows or whole matrices: all of them are such blocks.
#pragma once

#include <cstdint>
#include <limits>

#include "quant/half.h"

namespace millrace {

inline constexpr int kF8Elems = 128;

struct BlockF8E4M3 {  // y = d * value of q
  float d;
  uint8_t q[kF8Elems];
};
static_assert(sizeof(BlockF8E4M3) == 132);

inline bool is_nan_e4m3(uint8_t bits) { return (bits & 0x7f) == 0x7f; }

// As a float16 its exponent is too small by 8, and its subnormals stay subnormal.
inline float float_of_e4m3(uint8_t bits) {
  if (is_nan_e4m3(bits)) return std::numeric_limits<float>::quiet_NaN();
  return 256.0f * float_of_f16(static_cast<uint16_t>((bits & 0x80) << 8 | (bits & 0x7f) << 7));
}

// The nearest, ties to even; beyond 448 the largest, for NaN zero.
uint8_t e4m3_of_float(float value);

}  // namespace millrace
