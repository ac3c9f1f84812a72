// Integers around a zero point, y = d * (q - z): what the 4-bit and 8-bit integer checkpoints of Hugging Face
// hold. Members are bytes, so that a block may lie anywhere.
#pragma once

#include <cstdint>
#include <cstring>

namespace millrace {

inline constexpr int kZeroPointElems = 32;

struct BlockQ4Z {  // q and z from 0 to 15
  uint8_t d[2];    // float16
  uint8_t z;
  uint8_t qs[16];  // nibbles as in Q4_0
};

struct BlockQ8Z {  // q from -128 to 127, z from -255 to 255
  uint8_t d[4];    // float32
  uint8_t z[2];    // int16
  int8_t qs[32];
};

static_assert(sizeof(BlockQ4Z) == 19 && sizeof(BlockQ8Z) == 38);

// The number in those bytes.
template <class T, class Bytes>
T number_in(const Bytes& bytes) {
  T number;
  static_assert(sizeof number == sizeof bytes);
  std::memcpy(&number, &bytes, sizeof number);
  return number;
}
template <class T, class Bytes>
void put_number(T number, Bytes& bytes) {
  static_assert(sizeof number == sizeof bytes);
  std::memcpy(&bytes, &number, sizeof number);
}

}  // namespace millrace
