// Attention of some queries over one block of keys and values (online softmax, Milakov & Gimelshein 2018). A
// lane is a position while scores are computed and a dimension while values are summed; each query goes
// through the block by itself, so its result does not depend on the others.

// The keys as (head_dim, kBlockPositions): the positions of one dimension are neighbours.
template <class F>
void transpose_keys(const AttentionBlock& b, int n_padded) {
  for (int j = 0; j < n_padded; j += kLanes) {
    for (int d = 0; d < b.head_dim; d += kLanes) {
      const int n = b.head_dim - d < kLanes ? b.head_dim - d : kLanes;
      Floats tile[kLanes];
      for (int i = 0; i < kLanes; ++i) {
        const int position =
            j + i < b.n_positions ? j + i : b.n_positions - 1;  // behind the end: masked later
        const auto* p = reinterpret_cast<const uint8_t*>(b.k_rows[position]) + d * F::kBytes;
        tile[i] = n == kLanes ? F::load_at(p) : load_end<F>(p, n);
      }
      if (n == kLanes) {
        transpose(tile, b.k_panel + d * kBlockPositions + j, kBlockPositions);
      } else {
        alignas(64) float square[kLanes * kLanes];
        transpose(tile, square, kLanes);
        for (int i = 0; i < n; ++i)
          store(b.k_panel + (d + i) * kBlockPositions + j, load(square + i * kLanes));
      }
    }
  }
}

// Scores of query `q` at all positions, those it does not see at minus infinity. Returns their maximum.
inline float score(const AttentionBlock& b, int q, int n_padded, float* scores) {
  constexpr int kVectors = 4;  // so many sums run at once
  for (int j = 0; j < n_padded; j += kVectors * kLanes) {
    Floats acc[kVectors];
    for (Floats& each : acc) each = zeros();
    for (int d = 0; d < b.head_dim; ++d) {
      const Floats x = splat(b.queries[q][d]);
      for (int v = 0; v < kVectors; ++v)
        acc[v] = fma(x, load(b.k_panel + d * kBlockPositions + j + v * kLanes), acc[v]);
    }
    for (int v = 0; v < kVectors; ++v) {
      Floats s = mul(acc[v], splat(b.scale));
      if (b.softcap > 0.0f) s = mul(splat(b.softcap), tanh_of(div(s, splat(b.softcap))));
      store(scores + j + v * kLanes, s);
    }
  }
  const float kMinusInfinity = -__builtin_inff();
  for (int j = 0; j < b.begin[q]; ++j) scores[j] = kMinusInfinity;
  for (int j = b.end[q]; j < n_padded; ++j) scores[j] = kMinusInfinity;
  Floats largest = splat(kMinusInfinity);
  for (int j = 0; j < n_padded; j += kLanes) largest = max(largest, load(scores + j));
  return max_of(largest);
}

// out = sum over j of weights[j] * v[j], j ascending.
inline void sum_values(const AttentionBlock& b, int q, const float* weights) {
  constexpr int kVectors = 4;
  float* out = b.out + q * b.v_head_dim;
  int d = 0;
  for (; d + kVectors * kLanes <= b.v_head_dim; d += kVectors * kLanes) {
    Floats acc[kVectors];
    for (Floats& each : acc) each = zeros();
    for (int j = b.begin[q]; j < b.end[q]; ++j) {
      const Floats w = splat(weights[j]);
      for (int v = 0; v < kVectors; ++v)
        acc[v] = fma(w, load(b.v_panel + j * b.v_head_dim + d + v * kLanes), acc[v]);
    }
    for (int v = 0; v < kVectors; ++v) store(out + d + v * kLanes, acc[v]);
  }
  for (; d < b.v_head_dim; d += kLanes) {
    const int n = b.v_head_dim - d < kLanes ? b.v_head_dim - d : kLanes;
    Floats acc = zeros();
    for (int j = b.begin[q]; j < b.end[q]; ++j) {
      const auto* p = reinterpret_cast<const uint8_t*>(b.v_panel + j * b.v_head_dim + d);
      acc = fma(splat(weights[j]), n == kLanes ? PlainF32::load_at(p) : load_end<PlainF32>(p, n), acc);
    }
    alignas(64) float padded[kLanes];
    store(padded, acc);
    __builtin_memcpy(out + d, padded, static_cast<size_t>(n) * sizeof(float));
  }
}

template <class F>
void widen_values(const AttentionBlock& b) {
  for (int j = 0; j < b.n_positions; ++j) {
    const auto* p = reinterpret_cast<const uint8_t*>(b.v_rows[j]);
    float* out = b.v_panel + j * b.v_head_dim;
    int d = 0;
    for (; d + kLanes <= b.v_head_dim; d += kLanes) store(out + d, F::load_at(p + d * F::kBytes));
    if (d == b.v_head_dim) continue;
    alignas(64) float padded[kLanes];
    store(padded, load_end<F>(p + d * F::kBytes, b.v_head_dim - d));
    __builtin_memcpy(out + d, padded, static_cast<size_t>(b.v_head_dim - d) * sizeof(float));
  }
}

template <class F>
void attend_block(const AttentionBlock& b) {
  constexpr int kStep = 4 * kLanes;
  const int n_padded = (b.n_positions + kStep - 1) / kStep * kStep;
  transpose_keys<F>(b, n_padded);
  widen_values<F>(b);
  for (int q = 0; q < b.n_queries; ++q) {
    if (b.begin[q] >= b.end[q]) continue;
    b.max[q] = score(b, q, n_padded, b.scores);
    Floats sum = zeros();
    for (int j = 0; j < n_padded; j += kLanes) {
      const Floats p = exp_of(sub(load(b.scores + j), splat(b.max[q])));
      store(b.scores + j, p);
      sum = add(sum, p);
    }
    b.sum[q] = sum_of(sum);
    sum_values(b, q, b.scores);
  }
}

inline void join_blocks(const AttentionJoin& join) {
  const float largest = *join.max > join.block_max ? *join.max : join.block_max;
  alignas(64) float factors[kLanes] = {*join.max - largest, join.block_max - largest};
  store(factors, exp_of(load(factors)));
  const Floats mine = splat(factors[0]), theirs = splat(factors[1]);
  for_each(join.out, join.block_out, join.out, join.v_head_dim,
           [&](Floats a, Floats b) { return fma(b, theirs, mul(a, mine)); });
  *join.sum = *join.sum * factors[0] + join.block_sum * factors[1];
  *join.max = largest;
}
