// Activations to int8: scale = largest magnitude / 127, values rounded to nearest, ties to even.

// Quantises n (a multiple of kLanes) values by one scale, which is returned.
template <int n>
inline float quantize_block(const float* x, int8_t* q) {
  Floats largest = zeros();
  for (int i = 0; i < n; i += kLanes) largest = max(largest, abs(load(x + i)));
  const float most = max_of(largest);
  const float inverse = most > 1e-30f ? 127.0f / most : 0.0f;  // smaller ones would overflow it
  for (int i = 0; i < n; i += kLanes) store_int8(q + i, mul(load(x + i), splat(inverse)));
  return most / 127.0f;
}

inline int32_t sum_int8(const int8_t* q, int n) {
  int32_t sum = 0;
  for (int i = 0; i < n; ++i) sum += q[i];
  return sum;
}

void quantize32_row(const float* x, int64_t n, int8_t* q, InputScale32* scales) {
  for (int64_t b = 0; b < n / 32; ++b) {
    scales[b].scale = quantize_block<32>(x + 32 * b, q + 32 * b);
    scales[b].sum = sum_int8(q + 32 * b, 32);
    scales[b].scaled_sum = scales[b].scale * static_cast<float>(scales[b].sum);
  }
}

void quantize256_row(const float* x, int64_t n, int8_t* q, InputScale256* scales) {
  for (int64_t b = 0; b < n / 256; ++b) {
    InputScale256& s = scales[b];
    s.scale = quantize_block<256>(x + 256 * b, q + 256 * b);
    for (int i = 0; i < 16; ++i) s.sums16[i] = static_cast<int16_t>(sum_int8(q + 256 * b + 16 * i, 16));
    for (int i = 0; i < 8; ++i) s.sums32[i] = static_cast<int16_t>(s.sums16[2 * i] + s.sums16[2 * i + 1]);
  }
}
