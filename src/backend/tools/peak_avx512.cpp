#include "backend/tools/peak.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

namespace millrace::peak {
namespace {

constexpr int kSums = 12;  // two units of five cycles need ten

// A value that the compiler knows nothing about from here on: nothing is computed once for all rounds.
template <class Vector>
void forget(Vector& value) {
  asm volatile("" : "+v"(value));
}

double run_f32(int n_rounds) {
  __m512 sums[kSums];  // begin apart, or the compiler would keep one
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_ps(i);
  __m512 a = _mm512_set1_ps(1e-9f);
  for (int i = 0; i < n_rounds; ++i) {
    for (__m512& sum : sums) {
      forget(a);
      sum = _mm512_fmadd_ps(a, a, sum);
    }
  }
  float total = 0;
  for (const __m512& sum : sums) total += _mm512_cvtss_f32(sum);
  return total;
}

double run_int8(int n_rounds) {
  __m512i sums[kSums];  // begin apart, or the compiler would keep one
  for (int i = 0; i < kSums; ++i) sums[i] = _mm512_set1_epi32(i);
  __m512i a = _mm512_set1_epi8(1);
  for (int i = 0; i < n_rounds; ++i) {
    for (__m512i& sum : sums) {
      forget(a);
      sum = _mm512_dpbusd_epi32(sum, a, a);
    }
  }
  int total = 0;
  for (const __m512i& sum : sums) total += _mm512_cvtsi512_si32(sum);
  return total;
}

}  // namespace

Loops avx512() { return {.f32 = {run_f32, kSums * 16 * 2.0}, .int8 = {run_int8, kSums * 64 * 2.0}}; }

}  // namespace millrace::peak
#endif
