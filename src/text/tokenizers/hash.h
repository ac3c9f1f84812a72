// Hashes of byte strings and of pairs of ids for the flat tables of the tokenizers. Seeded once per process,
// so that no vocabulary can be written to collide; no result depends on the seed.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace millrace {

uint64_t hash_seed();  // the same for the life of the process, never 0

inline uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

inline uint64_t load_u64(const char* bytes) {
  uint64_t value;
  std::memcpy(&value, bytes, 8);
  return value;
}

// 1 to 8 bytes as an integer. Reads none beyond the n.
inline uint64_t load_short(const char* bytes, size_t n) {
  if (n >= 4) {
    uint32_t low, high;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + n - 4, 4);
    return uint64_t{high} << 32 | low;
  }
  if (n == 0) return 0;
  const auto at = [bytes](size_t i) { return uint64_t{static_cast<uint8_t>(bytes[i])}; };
  return at(0) << 16 | at(n / 2) << 8 | at(n - 1);
}

inline uint64_t hash_bytes(std::string_view bytes, uint64_t seed) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u;
  const char* at = bytes.data();
  size_t n = bytes.size();
  uint64_t hash = seed ^ mix(n ^ kOdd, seed);
  for (; n > 16; n -= 16, at += 16) hash = mix(load_u64(at) ^ seed, load_u64(at + 8) ^ hash);
  const uint64_t low = n > 8 ? load_u64(at) : load_short(at, n);
  const uint64_t high = n > 8 ? load_u64(at + n - 8) : 0;
  return mix(low ^ kOdd ^ seed, high ^ hash);
}

inline uint64_t hash_pair(uint32_t left, uint32_t right, uint64_t seed) {
  return mix((uint64_t{left} << 32 | right) ^ seed, 0xd1342543de82ef95u);
}

}  // namespace millrace
