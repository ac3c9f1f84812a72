// 4-bit formats whose nibbles index a table of 16 unevenly spaced levels.
#pragma once

#include <cstdint>

namespace millrace {

inline constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

struct BlockIq4Nl {  // 32 elements, nibbles as in Q4_0; y = d * level
  uint16_t d;        // float16
  uint8_t qs[16];
};

// 256 elements in 8 groups of 32; y = d * (s - 32) * level, with s the group's 6-bit scale: low nibble in
// scales_l[g / 2] (low nibble for even g), high two bits at 2g of scales_h.
struct BlockIq4Xs {
  uint16_t d;
  uint16_t scales_h;
  uint8_t scales_l[4];
  uint8_t qs[128];
};

static_assert(sizeof(BlockIq4Nl) == 18 && sizeof(BlockIq4Xs) == 136);

inline int iq4xs_scale(const BlockIq4Xs& block, int group) {
  const int low = block.scales_l[group / 2] >> 4 * (group % 2) & 15;
  return (low | (block.scales_h >> 2 * group & 3) << 4) - 32;
}

}  // namespace millrace
