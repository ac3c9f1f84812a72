// Vectors of AVX-512 with VNNI, for the kernel text in text/. Include only from kernels_avx512.cpp.
//
// A lane is a row of a group of weights. Bytes hold four bytes of each row, in its lane.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace millrace::cpu {
namespace {

constexpr int kLanes = 16;
// Whether products read interleaved weights, too (text/interleaved.inl).
constexpr bool kInterleaves = true;
// Kernels::reads_near.
constexpr bool kReadsNear = true;
// Whether the registers are enough to multiply a block with up to eight columns at once.
constexpr bool kMultipliesFewAtOnce = true;
constexpr int kTileGroups = 2;
constexpr int kTileColumns = 6;
constexpr int kFloatTileColumns = 6;
// Signed weights are stored with this added, because dot() wants them unsigned.
constexpr int kWideOffset = 128;
// Whether dot<false>() takes any unsigned bytes and any signed ones.
constexpr bool kDotsAnyBytes = true;

using Floats = __m512;
using Ints = __m512i;
using Bytes = __m512i;

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats splat(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x); }
inline void stream(float* p, Floats x) { _mm512_stream_ps(p, x); }  // past the caches; p is aligned
inline void finish_streams() { _mm_sfence(); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
inline Floats max(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats abs(Floats a) { return _mm512_abs_ps(a); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
inline Floats fnma(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
inline Floats round(Floats a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Floats select_less(Floats a, Floats b, Floats then, Floats otherwise) {  // a < b ? then : otherwise
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), otherwise, then);
}
inline Floats copy_sign(Floats magnitude, Floats sign) {
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(0x80000000u));
  return _mm512_castsi512_ps(
      _mm512_ternarylogic_epi32(mask, _mm512_castps_si512(sign), _mm512_castps_si512(magnitude), 0xca));
}
// x * 2^n for a whole n in [-126, 127].
inline Floats scale_by_power(Floats x, Floats n) {
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(x), _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23)));
}
inline float sum_of(Floats a) {
  const __m256 a8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 a4 = _mm_add_ps(_mm256_castps256_ps128(a8), _mm256_extractf128_ps(a8, 1));
  const __m128 a2 = _mm_add_ps(a4, _mm_movehl_ps(a4, a4));
  return _mm_cvtss_f32(_mm_add_ss(a2, _mm_movehdup_ps(a2)));
}
inline float max_of(Floats a) { return _mm512_reduce_max_ps(a); }

using Words = __m256i;  // kLanes of 16 bits
inline Words load_words(const uint8_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline Floats widen_f16(Words x) { return _mm512_cvtph_ps(x); }
inline Floats widen_bf16(Words x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}
inline void store_f16(uint8_t* p, Floats x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// Rounds to nearest, ties to even; a NaN stays one.
inline void store_bf16(uint8_t* p, Floats x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(64));
  rounded = _mm512_mask_mov_epi32(rounded, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}

// kLanes codes of E4M3 as float16 with the same bits: 1/256 of their values.
inline Floats load_e4m3(const uint8_t* p) {
  const __m256i codes = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m256i moved = _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 1);
  return _mm512_cvtph_ps(_mm256_and_si256(moved, _mm256_set1_epi16(static_cast<short>(0xbf80))));
}
inline Ints widen_bytes(const uint8_t* p) {  // kLanes of them, unsigned
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Ints widen_words(const uint8_t* p) {  // kLanes of 16 bits, unsigned
  return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Ints widen_int8(const uint8_t* p) {  // kLanes of them, signed
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Ints splat(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints load(const int32_t* p) { return _mm512_loadu_si512(p); }
inline void store(int32_t* p, Ints x) { _mm512_storeu_si512(p, x); }
inline Ints add(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints sub(Ints a, Ints b) { return _mm512_sub_epi32(a, b); }
inline Ints mul(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
inline Ints bit_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
inline Ints bit_or(Ints a, Ints b) { return _mm512_or_si512(a, b); }
inline Ints shift_left(Ints a, int n) { return _mm512_slli_epi32(a, static_cast<unsigned>(n)); }
inline Ints shift_right(Ints a, int n) { return _mm512_srli_epi32(a, static_cast<unsigned>(n)); }
inline Ints shift_right_signed(Ints a, int n) { return _mm512_srai_epi32(a, static_cast<unsigned>(n)); }
inline Floats to_float(Ints a) { return _mm512_cvtepi32_ps(a); }
inline Floats bits_to_float(Ints a) { return _mm512_castsi512_ps(a); }
inline Ints float_to_bits(Floats a) { return _mm512_castps_si512(a); }
// Rounded to nearest, narrowed to int8 (values are within range).
inline void store_int8(int8_t* p, Floats x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
// The float16 in the lower half of each lane.
inline Floats f16_to_float(Ints a) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(a)); }

// Activations that all rows are multiplied with.
inline Bytes repeat4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm512_set1_epi32(four);
}
inline Ints repeat_pair(const int16_t* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, 4);
  return _mm512_set1_epi32(pair);
}

// Rows of weights, `stride` bytes apart.
struct Rows {
  const uint8_t* p;
  int64_t stride;
};

// (x >> n) & mask, byte by byte, where the mask cuts off what the neighbour byte shifted in.
inline Bytes shift_mask(Bytes x, int n, int mask) {
  const __m512i shifted = n > 0   ? _mm512_srli_epi16(x, static_cast<unsigned>(n))
                          : n < 0 ? _mm512_slli_epi16(x, static_cast<unsigned>(-n))
                                  : x;
  return _mm512_and_si512(shifted, _mm512_set1_epi8(static_cast<char>(mask)));
}
inline Bytes join_bits(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
inline Bytes as_bytes(Ints x) { return x; }
inline Bytes widen_signed(Bytes x) { return _mm512_xor_si512(x, _mm512_set1_epi8(static_cast<char>(0x80))); }
// table[x] + kWideOffset for x in [0, 16).
inline Bytes lookup_signed(const int8_t* table, Bytes x) {
  const __m128i row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm512_shuffle_epi8(widen_signed(_mm512_broadcast_i32x4(row)), x);
}

// Sums of four products each; weights as the formats' expand() gives them.
template <bool kIsWide>
inline Ints dot(Ints acc, Bytes weights, Bytes x) {
  return _mm512_dpbusd_epi32(acc, weights, x);
}
inline Ints dot_pairs(Ints acc, Ints a, Ints b) { return _mm512_dpwssd_epi32(acc, a, b); }

inline void transpose_quarters(Ints a, Ints b, Ints c, Ints d, Ints* out) {
  const Ints ab_low = _mm512_unpacklo_epi32(a, b), ab_high = _mm512_unpackhi_epi32(a, b);
  const Ints cd_low = _mm512_unpacklo_epi32(c, d), cd_high = _mm512_unpackhi_epi32(c, d);
  out[0] = _mm512_unpacklo_epi64(ab_low, cd_low);
  out[1] = _mm512_unpackhi_epi64(ab_low, cd_low);
  out[2] = _mm512_unpacklo_epi64(ab_high, cd_high);
  out[3] = _mm512_unpackhi_epi64(ab_high, cd_high);
}
// 32 bytes of each row: vector k of `out` holds bytes [4k, 4k + 4).
inline void load32(Rows rows, int at, Bytes* out) {
  Ints pairs[8];  // vector i: rows i and i + 4 for i < 4, i + 4 and i + 8 beyond
  for (int i = 0; i < 8; ++i) {
    const uint8_t* row = rows.p + (i < 4 ? i : i + 4) * rows.stride + at;
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + 4 * rows.stride));
    pairs[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
  Ints first[4], second[4];  // 16 bytes of rows i, i + 4, i + 8, i + 12
  for (int i = 0; i < 4; ++i) {
    first[i] = _mm512_shuffle_i32x4(pairs[i], pairs[4 + i], 0x88);
    second[i] = _mm512_shuffle_i32x4(pairs[i], pairs[4 + i], 0xdd);
  }
  transpose_quarters(first[0], first[1], first[2], first[3], out);
  transpose_quarters(second[0], second[1], second[2], second[3], out + 4);
}

inline __m128i load_row16(Rows rows, int r, int at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.p + r * rows.stride + at));
}
inline Ints four_rows(Rows rows, int r, int at) {  // rows r, r + 4, r + 8, r + 12, 16 bytes each
  Ints x = _mm512_castsi128_si512(load_row16(rows, r, at));
  x = _mm512_inserti32x4(x, load_row16(rows, r + 4, at), 1);
  x = _mm512_inserti32x4(x, load_row16(rows, r + 8, at), 2);
  return _mm512_inserti32x4(x, load_row16(rows, r + 12, at), 3);
}
// 16 bytes of each row: vector k of `out` holds bytes [4k, 4k + 4).
inline void load16(Rows rows, int at, Bytes* out) {
  transpose_quarters(four_rows(rows, 0, at), four_rows(rows, 1, at), four_rows(rows, 2, at),
                     four_rows(rows, 3, at), out);
}
// The same as integers, and the first or the last alone.
inline void gather16(Rows rows, int at, Ints* out) { load16(rows, at, out); }
inline Ints first_of16(Rows rows, int at) {
  const Ints ab = _mm512_unpacklo_epi32(four_rows(rows, 0, at), four_rows(rows, 1, at));
  const Ints cd = _mm512_unpacklo_epi32(four_rows(rows, 2, at), four_rows(rows, 3, at));
  return _mm512_unpacklo_epi64(ab, cd);
}
inline Ints last_of16(Rows rows, int at) {
  const Ints ab = _mm512_unpackhi_epi32(four_rows(rows, 0, at), four_rows(rows, 1, at));
  const Ints cd = _mm512_unpackhi_epi32(four_rows(rows, 2, at), four_rows(rows, 3, at));
  return _mm512_unpackhi_epi64(ab, cd);
}

// Three stages of a transpose of 16-bit words: quarter L of out[i] holds word 8 L + i of rows 0 to 7.
[[gnu::always_inline]] inline void transpose_lanes16(const Ints* rows, Ints* out) {
  Ints pairs[8], fours[8];
  for (int r = 0; r < 8; r += 2) {
    pairs[r] = _mm512_unpacklo_epi16(rows[r], rows[r + 1]);
    pairs[r + 1] = _mm512_unpackhi_epi16(rows[r], rows[r + 1]);
  }
  for (int r = 0; r < 8; r += 4) {
    for (int half = 0; half < 2; ++half) {
      fours[r + 2 * half] = _mm512_unpacklo_epi32(pairs[r + half], pairs[r + half + 2]);
      fours[r + 2 * half + 1] = _mm512_unpackhi_epi32(pairs[r + half], pairs[r + half + 2]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    out[2 * i] = _mm512_unpacklo_epi64(fours[i], fours[i + 4]);
    out[2 * i + 1] = _mm512_unpackhi_epi64(fours[i], fours[i + 4]);
  }
}
// Calls body(i, word i of kLanes rows from byte `at` of each on) for i from 0 to 2 kLanes - 1, in order.
template <class Body>
[[gnu::always_inline]] inline void for_each_word(const uint8_t* const* rows, int at, const Body& body) {
  Ints low[8], high[8], pair[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) low[r] = _mm512_loadu_si512(rows[r] + at);
  transpose_lanes16(low, low);
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) high[r] = _mm512_loadu_si512(rows[8 + r] + at);
  transpose_lanes16(high, high);
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    const Ints quarters = half == 0 ? _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11)
                                    : _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      pair[i] = _mm512_permutex2var_epi64(low[i], quarters, high[i]);
      body(16 * half + i, _mm512_castsi512_si256(pair[i]));
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) body(16 * half + 8 + i, _mm512_extracti64x4_epi64(pair[i], 1));
  }
}
// The bytes [at, at + 32) of kLanes rows: out[i][r] is byte i of row r.
inline void transpose_bytes(const uint8_t* const* rows, int at, uint8_t* out) {
  Ints x[8], pairs[8], fours[8];
  for (int r = 0; r < 8; ++r) {
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + at));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r + 8] + at));
    x[r] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
  for (int r = 0; r < 8; r += 2) {
    pairs[r] = _mm512_unpacklo_epi8(x[r], x[r + 1]);
    pairs[r + 1] = _mm512_unpackhi_epi8(x[r], x[r + 1]);
  }
  for (int r = 0; r < 8; r += 4) {
    for (int half = 0; half < 2; ++half) {
      fours[r + 2 * half] = _mm512_unpacklo_epi16(pairs[r + half], pairs[r + half + 2]);
      fours[r + 2 * half + 1] = _mm512_unpackhi_epi16(pairs[r + half], pairs[r + half + 2]);
    }
  }
  // quarter L of a vector: bytes 16 (L % 2) + 2 v and + 1 of rows 8 (L / 2) to 8 (L / 2) + 7
  const Ints order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  for (int i = 0; i < 4; ++i) {
    const Ints vectors[2] = {_mm512_unpacklo_epi32(fours[i], fours[i + 4]),
                             _mm512_unpackhi_epi32(fours[i], fours[i + 4])};
    for (int v = 0; v < 2; ++v) {
      const Ints ordered = _mm512_permutexvar_epi64(order, vectors[v]);
      uint8_t* to = out + 16 * (4 * i + 2 * v);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(ordered));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 256), _mm512_extracti64x4_epi64(ordered, 1));
    }
  }
}

// Writes the transpose of a kLanes x kLanes tile of floats.
inline void transpose(const Floats* rows, float* out, int64_t out_stride) {
  Ints t[16];
  for (int j = 0; j < 4; ++j) {
    transpose_quarters(_mm512_castps_si512(rows[4 * j]), _mm512_castps_si512(rows[4 * j + 1]),
                       _mm512_castps_si512(rows[4 * j + 2]), _mm512_castps_si512(rows[4 * j + 3]), t + 4 * j);
  }
  // t[4 j + i], quarter c: element 4 c + i of rows 4 j .. 4 j + 3
  for (int i = 0; i < 4; ++i) {
    const Ints a = _mm512_shuffle_i32x4(t[i], t[4 + i], 0x88), b = _mm512_shuffle_i32x4(t[i], t[4 + i], 0xdd);
    const Ints c = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0x88),
               d = _mm512_shuffle_i32x4(t[8 + i], t[12 + i], 0xdd);
    const Ints lines[4] = {_mm512_shuffle_i32x4(a, c, 0x88), _mm512_shuffle_i32x4(b, d, 0x88),
                           _mm512_shuffle_i32x4(a, c, 0xdd), _mm512_shuffle_i32x4(b, d, 0xdd)};
    for (int q = 0; q < 4; ++q) store(out + (4 * q + i) * out_stride, _mm512_castsi512_ps(lines[q]));
  }
}

}  // namespace
}  // namespace millrace::cpu
