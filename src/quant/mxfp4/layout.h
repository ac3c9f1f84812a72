// MXFP4 (OCP Microscaling Formats v1.0): 32 elements of E2M1 under one power of two.
#pragma once

#include <bit>
#include <cstdint>

namespace millrace {

// Twice the values of E2M1, so that they are integers; the scale is halved instead.
inline constexpr int8_t kMxfp4Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

struct BlockMxfp4 {
  uint8_t e;       // E8M0: the scale is 2^(e - 127); 255 is NaN
  uint8_t qs[16];  // nibbles as in Q4_0
};
static_assert(sizeof(BlockMxfp4) == 17);

// 2^(e - 128): the scale of the doubled values.
inline float mxfp4_half_scale(uint8_t e) {
  return std::bit_cast<float>(e < 2 ? 0x00200000u << e : static_cast<uint32_t>(e - 1) << 23);
}

}  // namespace millrace
