// Random numbers without state: the n-th draw at a position of a request is a function of (seed, position,
// n). So a sequence draws the same whether it was preempted, batched or resumed.
#pragma once

#include <cstdint>
#include <random>

namespace millrace {

// A seed for who gives none, drawn by the operating system.
inline uint64_t drawn_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

// Uniform in [0, 1) with 53 bits. Mixed by SplitMix64's finaliser (Steele, Lea & Flood 2014), once for each
// input.
inline double uniform(uint64_t seed, uint64_t position, uint64_t draw) {
  const auto mix = [](uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
  };
  return static_cast<double>(mix(mix(mix(seed) ^ position) ^ draw) >> 11) * 0x1p-53;
}

}  // namespace millrace
