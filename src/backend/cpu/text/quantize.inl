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

// The sums of each 16 values of a span. What lies behind the last value is added up, too, for nobody.
inline void add_up_span(const int8_t* q, int32_t* sums) {
  const Bytes ones = as_bytes(splat(0x01010101));
  for (int i = 0; i < kSpan / 16; i += kLanes) {
    Bytes fours[4];
    load16(Rows{reinterpret_cast<const uint8_t*>(q + 16 * i), 16}, 0, fours);
    Ints sum = splat(0);
    for (const Bytes& four : fours) sum = dot<false>(sum, ones, four);
    store(sums + i, sum);
  }
}

// n, at most kSpan, values of a row; q has room for kSpan.
inline void quantize32_span(const float* x, int64_t n, int8_t* q, InputScale32* scales) {
  const int n_blocks = static_cast<int>(n / 32);
  for (int b = 0; b < n_blocks; ++b) scales[b].scale = quantize_block<32>(x + 32 * b, q + 32 * b);
  int32_t sums[kSpan / 16];
  add_up_span(q, sums);
  for (int b = 0; b < n_blocks; ++b) {
    scales[b].sum = sums[2 * b] + sums[2 * b + 1];
    scales[b].scaled_sum = scales[b].scale * static_cast<float>(scales[b].sum);
  }
}

inline uint32_t bits_of_float(float x) { return __builtin_bit_cast(uint32_t, x); }
inline float float_of_bits(uint32_t x) { return __builtin_bit_cast(float, x); }

// Where the i-th sum has its place.
constexpr int place_of_sum(int i) { return (i & ~3) + (i & 1) * 2 + (i >> 1 & 1); }

inline float quantize256_span(const float* x, int8_t* q, int64_t quarter_stride, InputSums256* sums,
                              InputPairs256* pairs) {
  alignas(64) int8_t span[kSpan];
  const float scale = quantize_block<kSpan>(x, span);
  int32_t of16[kSpan / 16];
  add_up_span(span, of16);
  for (int i = 0; i < 16; ++i) sums->of16[place_of_sum(i)] = static_cast<int16_t>(of16[i]);
  for (int i = 0; i < 8; ++i)
    sums->of32[place_of_sum(i)] = static_cast<int16_t>(of16[2 * i] + of16[2 * i + 1]);
  for (int i = 0; pairs != nullptr && i < 16; ++i) {
    const auto whole = static_cast<float>(of16[i]);
    const uint32_t high = bits_of_float(whole) & 0xffff0000;
    const float low = whole - float_of_bits(high);  // of eleven bits those behind eight
    pairs->of16[i] = high >> 16 | bits_of_float(low);
  }
  for (int i = 0; i < 4; ++i) __builtin_memcpy(q + i * quarter_stride, span + i * kQuarter, kQuarter);
  return scale;
}
