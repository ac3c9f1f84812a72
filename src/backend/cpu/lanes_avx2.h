// Vectors of AVX2 with FMA and F16C, for the kernel text in text/. Include only from kernels_avx2.cpp.
// lanes_avx512.h says what the functions mean.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace millrace::cpu {
namespace {

constexpr int kLanes = 8;
constexpr bool kInterleaves = true;
// Kernels::reads_near.
constexpr bool kReadsNear = false;
constexpr bool kMultipliesFewAtOnce = false;
constexpr int kTileGroups = 1;
constexpr int kTileColumns = 4;
constexpr int kFloatTileColumns = 3;
// Signed weights stay signed: vpmaddubsw would saturate on larger unsigned ones.
constexpr int kWideOffset = 0;
constexpr bool kDotsAnyBytes = false;  // see lanes_avx512.h

using Floats = __m256;
using Ints = __m256i;
using Bytes = __m256i;

inline Floats zeros() { return _mm256_setzero_ps(); }
inline Floats splat(float x) { return _mm256_set1_ps(x); }
inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Floats x) { _mm256_storeu_ps(p, x); }
inline void stream(float* p, Floats x) { _mm256_stream_ps(p, x); }  // past the caches; p is aligned
inline void finish_streams() { _mm_sfence(); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
inline Floats max(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats min(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Floats abs(Floats a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats fnma(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }
inline Floats round(Floats a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Floats select_less(Floats a, Floats b, Floats then, Floats otherwise) {
  return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
inline Floats copy_sign(Floats magnitude, Floats sign) {
  const __m256 mask = _mm256_set1_ps(-0.0f);
  return _mm256_or_ps(_mm256_and_ps(mask, sign), _mm256_andnot_ps(mask, magnitude));
}
inline Floats scale_by_power(Floats x, Floats n) {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(x), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23)));
}
inline float sum_of(Floats a) {
  const __m128 a4 = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 a2 = _mm_add_ps(a4, _mm_movehl_ps(a4, a4));
  return _mm_cvtss_f32(_mm_add_ss(a2, _mm_movehdup_ps(a2)));
}
inline float max_of(Floats a) {
  const __m128 a4 = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 a2 = _mm_max_ps(a4, _mm_movehl_ps(a4, a4));
  return _mm_cvtss_f32(_mm_max_ss(a2, _mm_movehdup_ps(a2)));
}

using Words = __m128i;
inline Words load_words(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline Floats widen_f16(Words x) { return _mm256_cvtph_ps(x); }
inline Floats widen_bf16(Words x) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(x), 16));
}
inline void store_f16(uint8_t* p, Floats x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void store_bf16(uint8_t* p, Floats x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(64));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i out = _mm256_blendv_epi8(rounded, quiet, is_nan);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(out, out), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

// Moved as signed 16-bit numbers: the sign ends up twice, and the second one is masked.
inline Floats load_e4m3(const uint8_t* p) {
  const __m128i codes = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m128i moved = _mm_srai_epi16(_mm_slli_epi16(codes, 8), 1);
  return _mm256_cvtph_ps(_mm_and_si128(moved, _mm_set1_epi16(static_cast<short>(0xbf80))));
}
inline Ints widen_bytes(const uint8_t* p) {
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Ints widen_words(const uint8_t* p) {
  return _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Ints widen_int8(const uint8_t* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline Ints splat(int32_t x) { return _mm256_set1_epi32(x); }
inline Ints load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store(int32_t* p, Ints x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
inline Ints add(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints sub(Ints a, Ints b) { return _mm256_sub_epi32(a, b); }
inline Ints mul(Ints a, Ints b) { return _mm256_mullo_epi32(a, b); }
inline Ints bit_and(Ints a, Ints b) { return _mm256_and_si256(a, b); }
inline Ints bit_or(Ints a, Ints b) { return _mm256_or_si256(a, b); }
inline Ints shift_left(Ints a, int n) { return _mm256_slli_epi32(a, n); }
inline Ints shift_right(Ints a, int n) { return _mm256_srli_epi32(a, n); }
inline Ints shift_right_signed(Ints a, int n) { return _mm256_srai_epi32(a, n); }
inline Floats to_float(Ints a) { return _mm256_cvtepi32_ps(a); }
inline Floats bits_to_float(Ints a) { return _mm256_castsi256_ps(a); }
// The lower 16 bits of each lane.
inline __m128i narrow16(Ints a) {
  const __m256i low = _mm256_and_si256(a, _mm256_set1_epi32(0xffff));
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08));
}
inline void store_int8(int8_t* p, Floats x) {
  const __m128i words = narrow16(_mm256_cvtps_epi32(x));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
inline Floats f16_to_float(Ints a) { return _mm256_cvtph_ps(narrow16(a)); }

inline Bytes repeat4(const int8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}
inline Ints repeat_pair(const int16_t* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, 4);
  return _mm256_set1_epi32(pair);
}

struct Rows {
  const uint8_t* p;
  int64_t stride;
};

inline Bytes shift_mask(Bytes x, int n, int mask) {
  const __m256i shifted = n > 0 ? _mm256_srli_epi16(x, n) : n < 0 ? _mm256_slli_epi16(x, -n) : x;
  return _mm256_and_si256(shifted, _mm256_set1_epi8(static_cast<char>(mask)));
}
inline Bytes join_bits(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
inline Bytes as_bytes(Ints x) { return x; }
inline Bytes widen_signed(Bytes x) { return x; }
inline Bytes lookup_signed(const int8_t* table, Bytes x) {
  const __m128i row = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(row), x);
}

// Weights up to 127 go in as they are; wide ones are signed, and lend their sign to the activations.
template <bool kIsWide>
inline Ints dot(Ints acc, Bytes weights, Bytes x) {
  const __m256i pairs = kIsWide ? _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights))
                                : _mm256_maddubs_epi16(weights, x);
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline Ints dot_pairs(Ints acc, Ints a, Ints b) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)); }

inline Ints low_halves(Ints a, Ints b) { return _mm256_permute2x128_si256(a, b, 0x20); }
inline Ints high_halves(Ints a, Ints b) { return _mm256_permute2x128_si256(a, b, 0x31); }
inline void transpose_quarters(Ints a, Ints b, Ints c, Ints d, Ints* out) {
  const Ints ab_low = _mm256_unpacklo_epi32(a, b), ab_high = _mm256_unpackhi_epi32(a, b);
  const Ints cd_low = _mm256_unpacklo_epi32(c, d), cd_high = _mm256_unpackhi_epi32(c, d);
  out[0] = _mm256_unpacklo_epi64(ab_low, cd_low);
  out[1] = _mm256_unpackhi_epi64(ab_low, cd_low);
  out[2] = _mm256_unpacklo_epi64(ab_high, cd_high);
  out[3] = _mm256_unpackhi_epi64(ab_high, cd_high);
}
inline void transpose8(const Ints* rows, Ints* out) {
  Ints t[8];
  transpose_quarters(rows[0], rows[1], rows[2], rows[3], t);
  transpose_quarters(rows[4], rows[5], rows[6], rows[7], t + 4);
  for (int k = 0; k < 4; ++k) {
    out[k] = low_halves(t[k], t[4 + k]);
    out[4 + k] = high_halves(t[k], t[4 + k]);
  }
}
inline void load32(Rows rows, int at, Bytes* out) {
  Ints in[8];
  for (int r = 0; r < 8; ++r)
    in[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows.p + r * rows.stride + at));
  transpose8(in, out);
}

inline Ints two_rows(Rows rows, int r, int at) {  // rows r and r + 4, 16 bytes each
  const auto row = [&](int i) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows.p + i * rows.stride + at));
  };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(row(r)), row(r + 4), 1);
}
inline void load16(Rows rows, int at, Bytes* out) {
  transpose_quarters(two_rows(rows, 0, at), two_rows(rows, 1, at), two_rows(rows, 2, at),
                     two_rows(rows, 3, at), out);
}
inline void gather16(Rows rows, int at, Ints* out) { load16(rows, at, out); }
inline Ints first_of16(Rows rows, int at) {
  Ints all[4];
  load16(rows, at, all);
  return all[0];
}
inline Ints last_of16(Rows rows, int at) {
  Ints all[4];
  load16(rows, at, all);
  return all[3];
}

inline void store_halves(uint8_t* first, uint8_t* second, Ints x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(first), _mm256_castsi256_si128(x));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(second), _mm256_extracti128_si256(x, 1));
}
template <class Body>
[[gnu::always_inline]] inline void for_each_word(const uint8_t* const* rows, int at, const Body& body) {
  Ints x[8], pairs[8], fours[8], words[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) x[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + at));
#pragma GCC unroll 4
  for (int r = 0; r < 8; r += 2) {
    pairs[r] = _mm256_unpacklo_epi16(x[r], x[r + 1]);
    pairs[r + 1] = _mm256_unpackhi_epi16(x[r], x[r + 1]);
  }
#pragma GCC unroll 2
  for (int r = 0; r < 8; r += 4) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      fours[r + 2 * half] = _mm256_unpacklo_epi32(pairs[r + half], pairs[r + half + 2]);
      fours[r + 2 * half + 1] = _mm256_unpackhi_epi32(pairs[r + half], pairs[r + half + 2]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    words[2 * i] = _mm256_unpacklo_epi64(fours[i], fours[i + 4]);
    words[2 * i + 1] = _mm256_unpackhi_epi64(fours[i], fours[i + 4]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) body(i, _mm256_castsi256_si128(words[i]));
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) body(8 + i, _mm256_extracti128_si256(words[i], 1));
}
inline void transpose_bytes(const uint8_t* const* rows, int at, uint8_t* out) {
  Ints x[8], pairs[8], fours[8];
  for (int r = 0; r < 8; ++r) x[r] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + at));
  for (int r = 0; r < 8; r += 2) {
    pairs[r] = _mm256_unpacklo_epi8(x[r], x[r + 1]);
    pairs[r + 1] = _mm256_unpackhi_epi8(x[r], x[r + 1]);
  }
  for (int r = 0; r < 8; r += 4) {
    for (int half = 0; half < 2; ++half) {
      fours[r + 2 * half] = _mm256_unpacklo_epi16(pairs[r + half], pairs[r + half + 2]);
      fours[r + 2 * half + 1] = _mm256_unpackhi_epi16(pairs[r + half], pairs[r + half + 2]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    uint8_t* to = out + 32 * i;
    store_halves(to, to + 128, _mm256_unpacklo_epi32(fours[i], fours[i + 4]));
    store_halves(to + 16, to + 144, _mm256_unpackhi_epi32(fours[i], fours[i + 4]));
  }
}

inline void transpose(const Floats* rows, float* out, int64_t out_stride) {
  Ints in[8], lines[8];
  for (int i = 0; i < 8; ++i) in[i] = _mm256_castps_si256(rows[i]);
  transpose8(in, lines);
  for (int i = 0; i < 8; ++i) store(out + i * out_stride, _mm256_castsi256_ps(lines[i]));
}

}  // namespace
}  // namespace millrace::cpu
