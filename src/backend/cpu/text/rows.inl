// Functions of one row of floats. A tail shorter than the lanes is computed in lanes filled with zeros.

// out[i] = f(lanes of each input at i) for i < n.
template <class F, class... In>
inline void map(int64_t n, float* out, const F& f, const In*... in) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, f(load(in + i)...));
  if (i == n) return;
  alignas(64) float tail[kLanes];
  store(tail, f(load_some<F32>(bytes_of(in + i), n - i)...));
  __builtin_memcpy(out + i, tail, static_cast<size_t>(n - i) * sizeof(float));
}

// Writes that wait for no line of the caches: of results that are read only after the caches have held much
// else. A strip's columns are far apart, and each would bring in, and push out, lines of its own.
void stream_row(const float* from, float* to, int64_t n) {
  int64_t i = 0;
  if (reinterpret_cast<uintptr_t>(to) % (kLanes * sizeof(float)) == 0) {
    for (; i + kLanes <= n; i += kLanes) stream(to + i, load(from + i));
  }
  __builtin_memcpy(to + i, from + i, static_cast<size_t>(n - i) * sizeof(float));
}
void add_row(float* x, const float* y, int64_t n) {
  map(
      n, x, [](Floats a, Floats b) { return add(a, b); }, x, y);
}
void scale_row(float* x, float by, int64_t n) {
  map(
      n, x, [by](Floats a) { return mul(a, splat(by)); }, x);
}
void weighted_add_row(float* x, const float* y, float weight, int64_t n) {
  map(
      n, x, [weight](Floats a, Floats b) { return fma(splat(weight), b, a); }, x, y);
}
void softcap_row(float* x, float cap, int64_t n) {
  map(
      n, x, [cap](Floats a) { return mul(splat(cap), tanh_of(div(a, splat(cap)))); }, x);
}
template <class F>
void activate_row(float* x, int64_t n) {
  map(
      n, x, [](Floats a) { return F::of(a); }, x);
}
template <class F>
void gate_row(const float* gate, const float* x, float* out, int64_t n) {
  map(
      n, out, [](Floats g, Floats a) { return mul(F::of(g), a); }, gate, x);
}
void exp_row(float* x, int64_t n) {
  map(
      n, x, [](Floats a) { return exp_of(a); }, x);
}

// out = (x - mean) * scale * weight + bias, where weight and bias are there.
void scale_norm(const NormRow& row, float mean, float scale) {
  const auto normed = [mean, scale](Floats x) { return mul(sub(x, splat(mean)), splat(scale)); };
  if (row.weight == nullptr) {
    map(row.n, row.out, normed, row.x);
  } else {
    map(
        row.n, row.out, [normed](Floats x, Floats w) { return mul(normed(x), w); }, row.x, row.weight);
  }
  if (row.bias != nullptr) add_row(row.out, row.bias, row.n);
}

float mean_of(const float* x, int64_t n) {
  Floats sum = zeros();
  for (int64_t i = 0; i < n; i += kLanes) sum = add(sum, load_upto<F32>(bytes_of(x + i), n - i));
  return sum_of(sum) / static_cast<float>(n);
}

// mean((x - mean)^2). Lanes beyond the end of the row hold `mean`: they add nothing.
float variance_of(const float* x, int64_t n, float mean) {
  Floats squares = zeros();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats off = sub(load(x + i), splat(mean));
    squares = fma(off, off, squares);
  }
  if (i < n) {
    alignas(64) float tail[kLanes];
    store(tail, splat(mean));
    __builtin_memcpy(tail, x + i, static_cast<size_t>(n - i) * sizeof(float));
    const Floats off = sub(load(tail), splat(mean));
    squares = fma(off, off, squares);
  }
  return sum_of(squares) / static_cast<float>(n);
}

float mean_square_row(const float* x, int64_t n) { return variance_of(x, n, 0.0f); }

float cutoff_row(const CutoffRow& row) {
  const float mean = mean_of(row.x, row.n);
  return mean + row.n_deviations * __builtin_sqrtf(variance_of(row.x, row.n, mean));
}

void cut_row(const float* x, float by, float* out, int64_t n) {
  map(
      n, out, [by](Floats a) { return max(sub(a, splat(by)), zeros()); }, x);
}

void norm_from(const NormRow& row, float mean) {
  const float variance = variance_of(row.x, row.n, mean);
  scale_norm(row, mean, 1.0f / __builtin_sqrtf(variance + row.eps));
}

void rms_norm_row(const NormRow& row) { norm_from(row, 0.0f); }
void layer_norm_row(const NormRow& row) { norm_from(row, mean_of(row.x, row.n)); }

// Pairs (i, i + n_pairs) of a head, in place.
void rotate_halves_row(float* x, const float* cos, const float* sin, int64_t n_pairs) {
  for (int64_t i = 0; i < n_pairs; i += kLanes) {
    const int64_t n = n_pairs - i < kLanes ? n_pairs - i : kLanes;
    const Floats a = load_upto<F32>(bytes_of(x + i), n), b = load_upto<F32>(bytes_of(x + n_pairs + i), n);
    const Floats c = load_upto<F32>(bytes_of(cos + i), n), s = load_upto<F32>(bytes_of(sin + i), n);
    alignas(64) float first[kLanes], second[kLanes];
    store(first, fnma(b, s, mul(a, c)));
    store(second, fma(a, s, mul(b, c)));
    __builtin_memcpy(x + i, first, static_cast<size_t>(n) * sizeof(float));
    __builtin_memcpy(x + n_pairs + i, second, static_cast<size_t>(n) * sizeof(float));
  }
}

inline void store_lanes(uint8_t* p, Floats x, F32) { store(reinterpret_cast<float*>(p), x); }
inline void store_lanes(uint8_t* p, Floats x, F16) { store_f16(p, x); }
inline void store_lanes(uint8_t* p, Floats x, BF16) { store_bf16(p, x); }

template <class F>
void store_row(const float* x, std::byte* out, int64_t n) {
  auto* p = reinterpret_cast<uint8_t*>(out);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store_lanes(p + i * F::kBytes, load(x + i), F{});
  if (i == n) return;
  alignas(64) uint8_t tail[F::kBytes * kLanes];
  store_lanes(tail, load_some<F32>(bytes_of(x + i), n - i), F{});
  __builtin_memcpy(p + i * F::kBytes, tail, static_cast<size_t>((n - i) * F::kBytes));
}
