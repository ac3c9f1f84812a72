// Attention of some queries over one block of positions, and the join of blocks. Each element is computed by
// one chain: a score over the dimensions in order, an output over the positions in order. Tiles of queries
// and ranges of positions only say how many chains run side by side.

// (n_positions rounded up, head_dim) as groups of kLanes positions: [group][dimension][position].
template <class F>
inline void fill_k_panel(const AttentionBlock& a) {
  const auto row = [&](int j) {
    return reinterpret_cast<const uint8_t*>(a.k_rows[j < a.n_positions ? j : a.n_positions - 1]);
  };
  const int stride = padded(a.head_dim) * kLanes;
  for (int j = 0; j < a.n_positions; j += kLanes) {
    float* group = a.k_panel + j / kLanes * stride;
    for (int i = 0; i < a.head_dim; i += kLanes) {
      Floats tile[kLanes];
      for (int r = 0; r < kLanes; ++r) tile[r] = load_upto<F>(row(j + r) + i * F::kBytes, a.head_dim - i);
      transpose(tile, group + i * kLanes, kLanes);
    }
  }
}

// (n_positions, v_head_dim rounded up)
template <class F>
inline void fill_v_panel(const AttentionBlock& a) {
  const int stride = padded(a.v_head_dim);
  for (int j = 0; j < a.n_positions; ++j) {
    const auto* row = reinterpret_cast<const uint8_t*>(a.v_rows[j]);
    for (int i = 0; i < a.v_head_dim; i += kLanes)
      store(a.v_panel + j * stride + i, load_upto<F>(row + i * F::kBytes, a.v_head_dim - i));
  }
}

inline Floats finish_score(const AttentionBlock& a, Floats product) {
  const Floats score = mul(product, splat(a.scale));
  if (a.softcap <= 0) return score;
  return mul(splat(a.softcap), tanh_of(div(score, splat(a.softcap))));
}

template <int kQueries, int kGroups>
inline void score_tile(const AttentionBlock& a, int query, int group) {
  const int stride = padded(a.head_dim) * kLanes;
  const float* k = a.k_panel + group * stride;
  Floats acc[kQueries][kGroups];
  for (int q = 0; q < kQueries; ++q) {
    for (int g = 0; g < kGroups; ++g) acc[q][g] = zeros();
  }
  for (int i = 0; i < a.head_dim; ++i) {
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const Floats x = splat(a.queries[query + q][i]);
#pragma GCC unroll 8
      for (int g = 0; g < kGroups; ++g) acc[q][g] = fma(x, load(k + g * stride + i * kLanes), acc[q][g]);
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    float* scores = a.scores + (query + q) * kAttentionPositions + group * kLanes;
    for (int g = 0; g < kGroups; ++g) store(scores + g * kLanes, finish_score(a, acc[q][g]));
  }
}

template <int kQueries>
inline void score_queries(const AttentionBlock& a, int query) {
  const int n_groups = (a.n_positions + kLanes - 1) / kLanes;
  int group = 0;
  for (; group + 4 <= n_groups; group += 4) score_tile<kQueries, 4>(a, query, group);
  for (; group < n_groups; ++group) score_tile<kQueries, 1>(a, query, group);
}

// Scores of one query to weights e^(score - max), with zeros where it sees nothing.
inline void weigh(const AttentionBlock& a, int query) {
  float* scores = a.scores + query * kAttentionPositions;
  const int first = a.begin[query] / kLanes * kLanes;
  const int last = (a.end[query] + kLanes - 1) / kLanes * kLanes;
  for (int j = first; j < a.begin[query]; ++j) scores[j] = -__builtin_inff();
  for (int j = a.end[query]; j < last; ++j) scores[j] = -__builtin_inff();
  Floats most = splat(-__builtin_inff());
  for (int j = first; j < last; j += kLanes) most = max(most, load(scores + j));
  a.max[query] = max_of(most);
  Floats sum = zeros();
  for (int j = first; j < last; j += kLanes) {
    const Floats weight = exp_of(sub(load(scores + j), splat(a.max[query])));
    store(scores + j, weight);
    sum = add(sum, weight);
  }
  a.sum[query] = sum_of(sum);
}

template <int kQueries, int kVectors>
inline void add_values_tile(const AttentionBlock& a, int query, int at, int begin, int end) {
  const int stride = padded(a.v_head_dim);
  const float* v = a.v_panel + at;
  float* out = a.out + query * stride + at;
  const float* weights = a.scores + query * kAttentionPositions;
  Floats acc[kQueries][kVectors];
  for (int q = 0; q < kQueries; ++q) {
    for (int i = 0; i < kVectors; ++i) acc[q][i] = load(out + q * stride + i * kLanes);
  }
  for (int j = begin; j < end; ++j) {
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) {
      const Floats weight = splat(weights[q * kAttentionPositions + j]);
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i)
        acc[q][i] = fma(weight, load(v + j * stride + i * kLanes), acc[q][i]);
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    for (int i = 0; i < kVectors; ++i) store(out + q * stride + i * kLanes, acc[q][i]);
  }
}

// out += weights * values of the positions [begin, end).
template <int kQueries>
inline void add_values(const AttentionBlock& a, int query, int begin, int end) {
  if (begin >= end) return;
  int at = 0;
  for (; at + 4 * kLanes <= a.v_head_dim; at += 4 * kLanes)
    add_values_tile<kQueries, 4>(a, query, at, begin, end);
  for (; at < a.v_head_dim; at += kLanes) add_values_tile<kQueries, 1>(a, query, at, begin, end);
}

// The positions that all queries of a tile see go together, the ragged ends one query at a time.
template <int kQueries>
inline void attend_queries(const AttentionBlock& a, int query) {
  score_queries<kQueries>(a, query);
  int common_begin = 0, common_end = kAttentionPositions;
  for (int q = query; q < query + kQueries; ++q) {
    if (a.begin[q] < a.end[q]) weigh(a, q);
    common_begin = common_begin > a.begin[q] ? common_begin : a.begin[q];
    common_end = common_end < a.end[q] ? common_end : a.end[q];
  }
  const bool has_common = common_begin < common_end;
  for (int q = query; q < query + kQueries; ++q)
    add_values<1>(a, q, a.begin[q], has_common ? common_begin : a.end[q]);
  if (!has_common) return;
  add_values<kQueries>(a, query, common_begin, common_end);
  for (int q = query; q < query + kQueries; ++q) add_values<1>(a, q, common_end, a.end[q]);
}

template <class F>
void attend(const AttentionBlock& a) {
  fill_k_panel<F>(a);
  fill_v_panel<F>(a);
  const int n_out = a.n_queries * padded(a.v_head_dim);
  for (int i = 0; i < n_out; i += kLanes) store(a.out + i, zeros());
  int query = 0;
  for (; query + 4 <= a.n_queries; query += 4) attend_queries<4>(a, query);
  for (; query + 2 <= a.n_queries; query += 2) attend_queries<2>(a, query);
  for (; query < a.n_queries; ++query) attend_queries<1>(a, query);
}

inline float exp_scalar(float x) {
  alignas(64) float lanes[kLanes];
  store(lanes, exp_of(splat(x)));
  return lanes[0];
}

void join_blocks(const AttentionJoin& j) {
  const float most = *j.max > j.block_max ? *j.max : j.block_max;
  const float old = exp_scalar(*j.max - most);
  const float fresh = exp_scalar(j.block_max - most);
  *j.max = most;
  *j.sum = *j.sum * old + j.block_sum * fresh;
  for (int i = 0; i < j.v_head_dim; i += kLanes) {
    const Floats added = mul(load(j.block_out + i), splat(fresh));
    store(j.out + i, fma(load(j.out + i), splat(old), added));
  }
}

template <class F>
void index_scores(const IndexBlock& b) {
  AttentionBlock a = {};
  a.head_dim = b.head_dim;
  a.n_positions = b.n_positions;
  a.k_rows = b.k_rows;
  a.queries = b.queries;
  a.scale = 1.0f;
  a.k_panel = b.k_panel;
  a.scores = b.products;
  fill_k_panel<F>(a);
  int head = 0;
  for (; head + 4 <= b.n_heads; head += 4) score_queries<4>(a, head);
  for (; head < b.n_heads; ++head) score_queries<1>(a, head);
  for (int j = 0; j < b.n_positions; j += kLanes) {
    Floats sum = zeros();
    for (int h = 0; h < b.n_heads; ++h) {
      const Floats product = load(b.products + h * kAttentionPositions + j);
      sum = fma(splat(b.weights[h]), max(product, zeros()), sum);
    }
    store(b.out + j, sum);
  }
}
