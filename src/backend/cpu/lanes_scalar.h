// The same vectors as loops over eight elements, for any machine. Include only from kernels_scalar.cpp.
// lanes_avx512.h says what the functions mean.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "quant/half.h"

namespace millrace::cpu {
namespace {

constexpr int kLanes = 8;
constexpr bool kInterleaves = false;
// Kernels::reads_near.
constexpr bool kReadsNear = false;
constexpr bool kMultipliesFewAtOnce = false;
constexpr int kTileGroups = 1;
constexpr int kTileColumns = 2;
constexpr int kFloatTileColumns = 2;
constexpr int kWideOffset = 0;
constexpr bool kDotsAnyBytes = false;  // see lanes_avx512.h

template <class T>
struct Lanes {
  T at[kLanes];
};
using Floats = Lanes<float>;
using Ints = Lanes<int32_t>;
struct Bytes {
  uint8_t at[32];
};

template <class T, class F>
inline Lanes<T> each(const F& f) {
  Lanes<T> out;
  for (int i = 0; i < kLanes; ++i) out.at[i] = f(i);
  return out;
}

inline Floats splat(float x) {
  return each<float>([&](int) { return x; });
}
inline Floats zeros() { return splat(0.0f); }
inline Floats load(const float* p) {
  return each<float>([&](int i) { return p[i]; });
}
inline void store(float* p, const Floats& x) { std::memcpy(p, x.at, sizeof x.at); }
inline void stream(float* p, const Floats& x) { store(p, x); }
inline void finish_streams() {}
inline Floats add(const Floats& a, const Floats& b) {
  return each<float>([&](int i) { return a.at[i] + b.at[i]; });
}
inline Floats sub(const Floats& a, const Floats& b) {
  return each<float>([&](int i) { return a.at[i] - b.at[i]; });
}
inline Floats mul(const Floats& a, const Floats& b) {
  return each<float>([&](int i) { return a.at[i] * b.at[i]; });
}
inline Floats div(const Floats& a, const Floats& b) {
  return each<float>([&](int i) { return a.at[i] / b.at[i]; });
}
inline Floats max(const Floats& a, const Floats& b) {
  return each<float>([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
}
inline Floats min(const Floats& a, const Floats& b) {
  return each<float>([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
}
inline Floats abs(const Floats& a) {
  return each<float>([&](int i) { return std::fabs(a.at[i]); });
}
// Not fused: without the instruction a fused product costs a library call.
inline Floats fma(const Floats& a, const Floats& b, const Floats& c) {
  return each<float>([&](int i) { return a.at[i] * b.at[i] + c.at[i]; });
}
inline Floats fnma(const Floats& a, const Floats& b, const Floats& c) {
  return each<float>([&](int i) { return c.at[i] - a.at[i] * b.at[i]; });
}
inline Floats round(const Floats& a) {
  return each<float>([&](int i) { return std::nearbyint(a.at[i]); });
}
inline Floats select_less(const Floats& a, const Floats& b, const Floats& then, const Floats& otherwise) {
  return each<float>([&](int i) { return a.at[i] < b.at[i] ? then.at[i] : otherwise.at[i]; });
}
inline Floats copy_sign(const Floats& magnitude, const Floats& sign) {
  return each<float>([&](int i) { return std::copysign(magnitude.at[i], sign.at[i]); });
}
inline Floats scale_by_power(const Floats& x, const Floats& n) {
  return each<float>([&](int i) {
    return std::bit_cast<float>(std::bit_cast<uint32_t>(x.at[i]) +
                                (static_cast<uint32_t>(static_cast<int32_t>(n.at[i])) << 23));
  });
}
inline float sum_of(const Floats& a) {
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = a.at[i] + a.at[i + 4];
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}
inline float max_of(const Floats& a) {
  float out = a.at[0];
  for (const float x : a.at) out = x > out ? x : out;
  return out;
}

inline uint16_t word_at(const uint8_t* p) {
  uint16_t word;
  std::memcpy(&word, p, 2);
  return word;
}
using Words = Lanes<uint16_t>;
inline Words load_words(const uint8_t* p) {
  return each<uint16_t>([&](int i) { return word_at(p + 2 * i); });
}
inline Floats widen_f16(const Words& x) {
  return each<float>([&](int i) { return float_of_f16(x.at[i]); });
}
inline Floats widen_bf16(const Words& x) {
  return each<float>([&](int i) { return float_of_bf16(x.at[i]); });
}
inline void store_f16(uint8_t* p, const Floats& x) {
  const Lanes<uint16_t> bits = each<uint16_t>([&](int i) { return f16_of_float(x.at[i]); });
  std::memcpy(p, bits.at, sizeof bits.at);
}
inline void store_bf16(uint8_t* p, const Floats& x) {
  const Lanes<uint16_t> bits = each<uint16_t>([&](int i) { return bf16_of_float(x.at[i]); });
  std::memcpy(p, bits.at, sizeof bits.at);
}

inline Floats load_e4m3(const uint8_t* p) {
  return each<float>(
      [&](int i) { return float_of_f16(static_cast<uint16_t>((p[i] & 0x80) << 8 | (p[i] & 0x7f) << 7)); });
}
inline Ints widen_bytes(const uint8_t* p) {
  return each<int32_t>([&](int i) { return int32_t{p[i]}; });
}
inline Ints widen_words(const uint8_t* p) {
  return each<int32_t>([&](int i) { return int32_t{word_at(p + 2 * i)}; });
}
inline Ints widen_int8(const uint8_t* p) {
  return each<int32_t>([&](int i) { return int32_t{static_cast<int8_t>(p[i])}; });
}
inline Ints splat(int32_t x) {
  return each<int32_t>([&](int) { return x; });
}
inline Ints load(const int32_t* p) {
  return each<int32_t>([&](int i) { return p[i]; });
}
inline void store(int32_t* p, const Ints& x) { std::memcpy(p, x.at, sizeof x.at); }
inline Ints add(const Ints& a, const Ints& b) {
  return each<int32_t>([&](int i) { return a.at[i] + b.at[i]; });
}
inline Ints sub(const Ints& a, const Ints& b) {
  return each<int32_t>([&](int i) { return a.at[i] - b.at[i]; });
}
inline Ints mul(const Ints& a, const Ints& b) {
  return each<int32_t>([&](int i) { return a.at[i] * b.at[i]; });
}
inline Ints bit_and(const Ints& a, const Ints& b) {
  return each<int32_t>([&](int i) { return a.at[i] & b.at[i]; });
}
inline Ints bit_or(const Ints& a, const Ints& b) {
  return each<int32_t>([&](int i) { return a.at[i] | b.at[i]; });
}
inline Ints shift_left(const Ints& a, int n) {
  return each<int32_t>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.at[i]) << n); });
}
inline Ints shift_right(const Ints& a, int n) {
  return each<int32_t>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.at[i]) >> n); });
}
inline Ints shift_right_signed(const Ints& a, int n) {
  return each<int32_t>([&](int i) { return a.at[i] >> n; });
}
inline Floats to_float(const Ints& a) {
  return each<float>([&](int i) { return static_cast<float>(a.at[i]); });
}
inline Floats bits_to_float(const Ints& a) {
  return each<float>([&](int i) { return std::bit_cast<float>(a.at[i]); });
}
inline void store_int8(int8_t* p, const Floats& x) {
  for (int i = 0; i < kLanes; ++i) {
    const bool is_sound = std::fabs(x.at[i]) < 127.5f;  // else an activation is not finite
    p[i] = is_sound ? static_cast<int8_t>(std::nearbyint(x.at[i])) : int8_t{0};
  }
}
inline Floats f16_to_float(const Ints& a) {
  return each<float>([&](int i) { return float_of_f16(static_cast<uint16_t>(a.at[i])); });
}

inline Bytes repeat4(const int8_t* p) {
  Bytes out;
  for (int i = 0; i < 32; ++i) out.at[i] = static_cast<uint8_t>(p[i % 4]);
  return out;
}
inline Ints repeat_pair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, 4);
  return splat(pair);
}

struct Rows {
  const uint8_t* p;
  int64_t stride;
};

template <class F>
inline Bytes each_byte(const F& f) {
  Bytes out;
  for (int i = 0; i < 32; ++i) out.at[i] = static_cast<uint8_t>(f(i));
  return out;
}
inline Bytes shift_mask(const Bytes& x, int n, int mask) {
  return each_byte([&](int i) { return (n >= 0 ? x.at[i] >> n : x.at[i] << -n) & mask; });
}
inline Bytes as_bytes(const Ints& x) { return std::bit_cast<Bytes>(x); }
inline Bytes join_bits(const Bytes& a, const Bytes& b) {
  return each_byte([&](int i) { return a.at[i] | b.at[i]; });
}
inline Bytes widen_signed(const Bytes& x) { return x; }
inline Bytes lookup_signed(const int8_t* table, const Bytes& x) {
  return each_byte([&](int i) { return table[x.at[i]]; });
}

template <bool kIsWide>
inline Ints dot(const Ints& acc, const Bytes& weights, const Bytes& x) {
  Ints out = acc;
  for (int i = 0; i < 32; ++i)
    out.at[i / 4] += static_cast<int8_t>(weights.at[i]) * static_cast<int8_t>(x.at[i]);
  return out;
}
inline Ints dot_pairs(const Ints& acc, const Ints& a, const Ints& b) {
  const auto low = [](int32_t pair) { return static_cast<int32_t>(static_cast<int16_t>(pair)); };
  return each<int32_t>(
      [&](int i) { return acc.at[i] + low(a.at[i]) * low(b.at[i]) + (a.at[i] >> 16) * (b.at[i] >> 16); });
}

// n vectors of four bytes of each row.
template <class Vector>
inline void load_quads(Rows rows, int at, int n, Vector* out) {
  for (int k = 0; k < n; ++k) {
    int32_t quads[kLanes];
    for (int r = 0; r < kLanes; ++r) std::memcpy(&quads[r], rows.p + r * rows.stride + at + 4 * k, 4);
    std::memcpy(&out[k], quads, sizeof quads);
  }
}
inline void load32(Rows rows, int at, Bytes* out) { load_quads(rows, at, 8, out); }
inline void load16(Rows rows, int at, Bytes* out) { load_quads(rows, at, 4, out); }
inline void gather16(Rows rows, int at, Ints* out) { load_quads(rows, at, 4, out); }
inline Ints first_of16(Rows rows, int at) {
  Ints quad;
  load_quads(rows, at, 1, &quad);
  return quad;
}
inline Ints last_of16(Rows rows, int at) { return first_of16(rows, at + 12); }

template <class Body>
inline void for_each_word(const uint8_t* const* rows, int at, const Body& body) {
  for (int i = 0; i < 2 * kLanes; ++i)
    body(i, each<uint16_t>([&](int r) { return word_at(rows[r] + at + 2 * i); }));
}
inline void transpose_bytes(const uint8_t* const* rows, int at, uint8_t* out) {
  for (int i = 0; i < 32; ++i) {
    for (int r = 0; r < kLanes; ++r) out[i * kLanes + r] = rows[r][at + i];
  }
}
inline void transpose(const Floats* rows, float* out, int64_t out_stride) {
  for (int i = 0; i < kLanes; ++i) {
    for (int r = 0; r < kLanes; ++r) out[i * out_stride + r] = rows[r].at[i];
  }
}

}  // namespace
}  // namespace millrace::cpu
