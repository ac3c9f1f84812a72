#include "backend/tools/peak.h"

#if defined(__AVX2__)
#include <immintrin.h>

namespace millrace::peak {
namespace {

constexpr int kSums = 12;  // two units of five cycles need ten

// A value that the compiler knows nothing about from here on: nothing is computed once for all rounds.
template <class Vector>
void forget(Vector& value) {
  asm volatile("" : "+x"(value));
}

double run_f32(int n_rounds) {
  __m256 sums[kSums];  // begin apart, or the compiler would keep one
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_ps(i);
  __m256 a = _mm256_set1_ps(1e-9f);
  for (int i = 0; i < n_rounds; ++i) {
    for (__m256& sum : sums) {
      forget(a);
      sum = _mm256_fmadd_ps(a, a, sum);
    }
  }
  float total = 0;
  for (const __m256& sum : sums) total += _mm256_cvtss_f32(sum);
  return total;
}

// The products of unsigned and signed bytes in pairs, and in fours, and their sum: 32 multiply-adds.
double run_int8(int n_rounds) {
  __m256i sums[kSums];  // begin apart, or the compiler would keep one
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_set1_epi32(i);
  __m256i a = _mm256_set1_epi8(1);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int i = 0; i < n_rounds; ++i) {
    for (__m256i& sum : sums) {
      forget(a);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, a), ones));
    }
  }
  int total = 0;
  for (const __m256i& sum : sums) total += _mm256_cvtsi256_si32(sum);
  return total;
}

}  // namespace

Loops avx2() { return {.f32 = {run_f32, kSums * 8 * 2.0}, .int8 = {run_int8, kSums * 32 * 2.0}}; }

}  // namespace millrace::peak
#endif
