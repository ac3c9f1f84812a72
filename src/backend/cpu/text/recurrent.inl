// What sequences carry from row to row. Lanes are channels, or value dimensions: each is a chain of its own,
// over the taps or the key dimensions in order.

inline void store_upto(float* p, Floats x, int64_t n) {
  if (n >= kLanes) return store(p, x);
  alignas(64) float tail[kLanes];
  store(tail, x);
  __builtin_memcpy(p, tail, static_cast<size_t>(n) * sizeof(float));
}

void convolve_row(const ConvRow& row) {
  for (int64_t i = 0; i < row.n; i += kLanes) {
    Floats sum = zeros();
    for (int j = 0; j < row.n_taps; ++j) {
      const Floats x = load_upto<F32>(bytes_of(row.inputs[j] + i), row.n - i);
      sum = fma(load_upto<F32>(bytes_of(row.taps[j] + i), row.n - i), x, sum);
    }
    store_upto(row.out + i, silu_of(sum), row.n - i);
  }
}

// Columns [at, at + kVectors * kLanes) of the state, or those of them that it has. Twice over it: what the
// key finds, then the update and what the query finds.
template <int kVectors, bool kIsWhole>
inline void delta_rule_tile(const DeltaRuleRow& row, int64_t at) {
  const int64_t n = row.v_head_dim;
  const auto load_at = [&](const float* p, int v) {
    if constexpr (kIsWhole) return load(p + v * kLanes);
    return load_upto<F32>(bytes_of(p + v * kLanes), n - at - v * kLanes);
  };
  const auto store_at = [&](float* p, int v, Floats x) {
    if constexpr (kIsWhole) return store(p + v * kLanes, x);
    store_upto(p + v * kLanes, x, n - at - v * kLanes);
  };
  Floats found[kVectors], out[kVectors], delta[kVectors];
  for (int v = 0; v < kVectors; ++v) found[v] = out[v] = zeros();
  for (int64_t i = 0; i < row.k_head_dim; ++i) {
    float* state = row.state + i * n + at;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Floats s = mul(load_at(state, v), splat(row.decay[i]));
      store_at(state, v, s);
      found[v] = fma(s, splat(row.k[i]), found[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) delta[v] = mul(splat(row.beta), sub(load_at(row.v + at, v), found[v]));
  for (int64_t i = 0; i < row.k_head_dim; ++i) {
    float* state = row.state + i * n + at;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const Floats s = fma(splat(row.k[i]), delta[v], load_at(state, v));
      store_at(state, v, s);
      out[v] = fma(s, splat(row.q[i]), out[v]);
    }
  }
  for (int v = 0; v < kVectors; ++v) store_at(row.out + at, v, out[v]);
}

void delta_rule_row(const DeltaRuleRow& row) {
  int64_t at = 0;
  for (; at + 4 * kLanes <= row.v_head_dim; at += 4 * kLanes) delta_rule_tile<4, true>(row, at);
  for (; at + kLanes <= row.v_head_dim; at += kLanes) delta_rule_tile<1, true>(row, at);
  if (at < row.v_head_dim) delta_rule_tile<1, false>(row, at);
}
