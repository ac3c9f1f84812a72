// NVFP4: groups of 16 elements of E2M1 under an E4M3 scale each, all of them under one float32 of the matrix,
// which is repeated in every block here.
#pragma once

#include <cstdint>

namespace millrace {

inline constexpr int kNvfp4Elems = 64;

struct BlockNvfp4 {  // y = d * s[k / 16] * value of element k
  float d;
  uint8_t s[4];    // E4M3
  uint8_t qs[32];  // of each 32 elements, byte j holds element j in its low nibble and j + 16 in its high one
};
static_assert(sizeof(BlockNvfp4) == 40);

// Of element k of a block.
inline int nvfp4_code(const BlockNvfp4& block, int k) {
  return block.qs[k / 32 * 16 + k % 16] >> 4 * (k / 16 % 2) & 15;
}
inline void set_nvfp4_code(BlockNvfp4& block, int k, int code) {
  block.qs[k / 32 * 16 + k % 16] |= static_cast<uint8_t>(code << 4 * (k / 16 % 2));
}

}  // namespace millrace
