// Activations to int8: scale = largest magnitude / 127, values rounded to nearest, ties to even.

// Quantises n (a multiple of kLanes) values by one scale, which is returned.
template <int n>
inline float quantize_block(const float* x, int8_t* q) {
  Floats largest = zeros();
#pragma GCC unroll 8
  for (int i = 0; i < n; i += kLanes) largest = max(largest, abs(load(x + i)));
  const float most = max_of(largest);
  const float inverse = most > 1e-30f ? 127.0f / most : 0.0f;  // smaller ones would overflow it
#pragma GCC unroll 8
  for (int i = 0; i < n; i += kLanes) store_int8(q + i, mul(load(x + i), splat(inverse)));
  return most / 127.0f;
}

// The sums of each four values of a span. What lies behind the last value is added up, too, for nobody.
struct SumsOfFours {
  explicit SumsOfFours(const int8_t* q) {
    const Bytes ones = as_bytes(splat(0x01010101));
    for (int i = 0; i < kSpan / 4; i += kLanes) {
      const auto* fours = reinterpret_cast<const uint8_t*>(q + 4 * i);
      store(sums + i, dot<false>(splat(0), ones, load_bytes(fours)));
    }
  }
  int32_t of16(int i) const { return sums[4 * i] + sums[4 * i + 1] + sums[4 * i + 2] + sums[4 * i + 3]; }
  int32_t of32(int i) const { return of16(2 * i) + of16(2 * i + 1); }

  int32_t sums[kSpan / 4];
};

// n, at most kSpan, values of a row; q has room for kSpan.
inline void quantize32_span(const float* x, int64_t n, int8_t* q, InputScale32* scales) {
  const int n_blocks = static_cast<int>(n / 32);
  for (int b = 0; b < n_blocks; ++b) scales[b].scale = quantize_block<32>(x + 32 * b, q + 32 * b);
  const SumsOfFours fours(q);
  for (int b = 0; b < n_blocks; ++b) {
    scales[b].sum = fours.of32(b);
    scales[b].scaled_sum = scales[b].scale * static_cast<float>(scales[b].sum);
  }
}

// Where the i-th sum has its place.
constexpr int place_of_sum(int i) { return (i & ~3) + (i & 1) * 2 + (i >> 1 & 1); }

inline void quantize256_span(const float* x, int8_t* q, InputScale256* scale) {
  scale->scale = quantize_block<256>(x, q);
  const SumsOfFours fours(q);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) scale->sums16[place_of_sum(i)] = static_cast<int16_t>(fours.of16(i));
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) scale->sums32[place_of_sum(i)] = static_cast<int16_t>(fours.of32(i));
}
