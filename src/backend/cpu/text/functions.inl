// Elementary functions and row operations, the same polynomial on every machine.

// e^x. Range reduction by ln 2 in two parts, then a polynomial of degree 6 (Cephes, Moshier 1989): relative
// error below 2e-7; 0 below the normal numbers, the largest finite power above.
inline Floats exp_of(Floats x) {
  const Floats clamped = min(max(x, splat(-87.33654f)), splat(88.37626f));
  const Floats n = round(mul(clamped, splat(1.44269504f)));
  Floats r = fnma(n, splat(0.693359375f), clamped);
  r = fnma(n, splat(-2.12194440e-4f), r);
  Floats y = splat(1.9875691500e-4f);
  y = fma(y, r, splat(1.3981999507e-3f));
  y = fma(y, r, splat(8.3334519073e-3f));
  y = fma(y, r, splat(4.1665795894e-2f));
  y = fma(y, r, splat(1.6666665459e-1f));
  y = fma(y, r, splat(5.0000001201e-1f));
  y = fma(y, mul(r, r), add(r, splat(1.0f)));
  return select_less(x, splat(-87.33654f), zeros(), scale_by_power(y, n));
}

// tanh: a series where |x| is small, 1 - 2 / (e^2x + 1) beyond.
inline Floats tanh_of(Floats x) {
  const Floats size = abs(x);
  const Floats s = mul(x, x);
  Floats y = splat(62.0f / 2835.0f);
  y = fma(y, s, splat(-17.0f / 315.0f));
  y = fma(y, s, splat(2.0f / 15.0f));
  y = fma(y, s, splat(-1.0f / 3.0f));
  const Floats series = fma(mul(y, s), size, size);
  const Floats large = sub(splat(1.0f), div(splat(2.0f), add(exp_of(add(size, size)), splat(1.0f))));
  return copy_sign(select_less(size, splat(0.3f), series, large), x);
}

// x / (1 + e^-u): silu for u = x, and gelu-tanh for u = 2 sqrt(2 / pi) (x + 0.044715 x^3).
inline Floats gate_by(Floats x, Floats u) { return div(x, add(splat(1.0f), exp_of(sub(zeros(), u)))); }
inline Floats silu_of(Floats x) { return gate_by(x, x); }
inline Floats gelu_of(Floats x) {
  const Floats cubed = mul(mul(x, x), x);
  return gate_by(x, mul(splat(1.5957691216f), fma(splat(0.044715f), cubed, x)));
}

// out[i] = f(a[i], b[i]); the end of the row goes through padded vectors.
template <class F>
inline void for_each(const float* a, const float* b, float* out, int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, f(load(a + i), load(b + i)));
  if (i == n) return;
  alignas(64) float pa[kLanes] = {}, pb[kLanes] = {};
  const auto n_bytes = static_cast<size_t>(n - i) * sizeof(float);
  __builtin_memcpy(pa, a + i, n_bytes);
  __builtin_memcpy(pb, b + i, n_bytes);
  store(pa, f(load(pa), load(pb)));
  __builtin_memcpy(out + i, pa, n_bytes);
}

inline void norm_row(const NormRow& row) {
  Floats sum = zeros();
  float rest = 0.0f;
  int64_t i = 0;
  for (; i + kLanes <= row.n; i += kLanes) {
    const Floats x = load(row.x + i);
    sum = fma(x, x, sum);
  }
  for (; i < row.n; ++i) rest += row.x[i] * row.x[i];
  const float mean = (sum_of(sum) + rest) / static_cast<float>(row.n);
  const Floats scale = splat(1.0f / __builtin_sqrtf(mean + row.eps));
  for_each(row.x, row.weight, row.out, row.n, [&](Floats x, Floats w) { return mul(mul(x, scale), w); });
}

inline void add_rows(float* x, const float* y, int64_t n) {
  for_each(x, y, x, n, [](Floats a, Floats b) { return add(a, b); });
}
inline void scale_row(float* x, float by, int64_t n) {
  for_each(x, x, x, n, [by](Floats a, Floats) { return mul(a, splat(by)); });
}
inline void weighted_add_row(float* x, const float* y, float weight, int64_t n) {
  for_each(x, y, x, n, [weight](Floats a, Floats b) { return fma(splat(weight), b, a); });
}
inline void softcap_row(float* x, float cap, int64_t n) {
  for_each(x, x, x, n, [cap](Floats a, Floats) { return mul(splat(cap), tanh_of(div(a, splat(cap)))); });
}
inline void silu_mul_row(const float* gate, const float* up, float* out, int64_t n) {
  for_each(gate, up, out, n, [](Floats g, Floats u) { return mul(silu_of(g), u); });
}
inline void gelu_mul_row(const float* gate, const float* up, float* out, int64_t n) {
  for_each(gate, up, out, n, [](Floats g, Floats u) { return mul(gelu_of(g), u); });
}
inline void exp_row(float* x, int64_t n) {
  for_each(x, x, x, n, [](Floats a, Floats) { return exp_of(a); });
}

// Rotates (x[i], x[i + n_pairs]) by the angle of cos[i], sin[i].
inline void rotate_halves_row(float* x, const float* cos, const float* sin, int64_t n_pairs) {
  int64_t i = 0;
  for (; i + kLanes <= n_pairs; i += kLanes) {
    const Floats a = load(x + i), b = load(x + n_pairs + i), c = load(cos + i), s = load(sin + i);
    store(x + i, sub(mul(a, c), mul(b, s)));
    store(x + n_pairs + i, add(mul(b, c), mul(a, s)));
  }
  for (; i < n_pairs; ++i) {
    const float a = x[i], b = x[n_pairs + i];
    x[i] = a * cos[i] - b * sin[i];
    x[n_pairs + i] = b * cos[i] + a * sin[i];
  }
}

struct StoreF32 {
  static constexpr int kBytes = 4;
  static void put(uint8_t* p, Floats x) { store(reinterpret_cast<float*>(p), x); }
};
struct StoreF16 {
  static constexpr int kBytes = 2;
  static void put(uint8_t* p, Floats x) { store_f16(p, x); }
};
struct StoreBf16 {
  static constexpr int kBytes = 2;
  static void put(uint8_t* p, Floats x) { store_bf16(p, x); }
};
template <class S>
void store_row(const float* x, std::byte* out, int64_t n) {
  auto* p = reinterpret_cast<uint8_t*>(out);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) S::put(p + i * S::kBytes, load(x + i));
  if (i == n) return;
  alignas(64) float padded[kLanes] = {};
  alignas(64) uint8_t bytes[kLanes * 4];
  __builtin_memcpy(padded, x + i, static_cast<size_t>(n - i) * sizeof(float));
  S::put(bytes, load(padded));
  __builtin_memcpy(p + i * S::kBytes, bytes, static_cast<size_t>(n - i) * S::kBytes);
}
