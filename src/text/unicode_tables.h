// The tables behind unicode.h, written by scripts/make_unicode_tables.py. For unicode.cpp and unicode.h only.
#pragma once

#include <cstdint>

namespace millrace {

constexpr int kUnicodeBlockBits = 7;

// Which block of properties the code points [i << 7, (i + 1) << 7) have.
extern const uint16_t kUnicodeBlocks[];
// Low five bits: Category. Then White_Space, script Han, "NFC may change, reorder or join it".
extern const uint8_t kUnicodeProperties[];

struct LowerRun {
  uint32_t first, last, step;
  int32_t delta;
};
extern const LowerRun kLowerRuns[];
extern const int kNLowerRuns;

}  // namespace millrace
