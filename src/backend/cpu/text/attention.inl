// Attention of some queries over one block of positions, and the join of blocks. Each element is computed by
// one chain: a score over the dimensions in order, an output over the positions in order. Tiles of queries
// and pieces of the block only say how many chains run side by side.
//
// A block is read piece by piece: a panel of that many keys, or of values, stays in the nearest cache while
// all queries pass over it.
constexpr int kTileVectors = kLanes >= 16 ? 16 : 8;  // accumulators of a tile

struct Range {
  int begin, end;
};
inline Range both(Range a, Range b) {
  return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}
inline bool is_empty(Range r) { return r.begin >= r.end; }

// Elements of 16 bits, which a conversion makes floats.
template <class F>
concept HasWords = requires {
  F::widen;
};

// The keys of kLanes rows to [dimension][position]: narrow ones before they are widened.
template <class F>
inline void transpose_keys(const uint8_t* const (&rows)[kLanes], int head_dim, float* out) {
  int i = 0;
  if constexpr (requires { F::transpose_block; }) {
    for (; i < head_dim; i += 32) F::transpose_block(rows, i, out + i * kLanes);
  } else if constexpr (HasWords<F>) {
    for (; i + 2 * kLanes <= head_dim; i += 2 * kLanes)
      for_each_word(rows, 2 * i, [&](int d, Words keys) { store(out + (i + d) * kLanes, F::widen(keys)); });
  }
  for (; i < head_dim; i += kLanes) {
    Floats tile[kLanes];
    for (int r = 0; r < kLanes; ++r) tile[r] = load_weights<F>(rows[r], i, head_dim - i);
    transpose(tile, out + i * kLanes, kLanes);
  }
}

template <class F>
inline int row_bytes_of(int head_dim) {
  if constexpr (requires { F::kBlockBytes; })
    return head_dim / 32 * F::kBlockBytes;
  else
    return head_dim * F::kBytes;
}
// Inlined by force: GCC 12 takes a function that does nothing but this for one without effect, and drops
// calls of it.
[[gnu::always_inline]] inline void prefetch_row(const std::byte* row, int n_bytes) {
  for (int i = 0; i < n_bytes; i += 64) __builtin_prefetch(row + i, 0, 2);
}

// Asks for the keys of the next group in the order in which they lie; they are read across.
template <class F>
inline void prefetch_keys(const AttentionBlock& a, int first) {
  const int n_bytes = row_bytes_of<F>(a.head_dim);
  for (int j = first; j < first + kLanes && j < a.n_positions; ++j) prefetch_row(a.k_rows[j], n_bytes);
}

// The positions of the panel that begins at `first`.
inline Range panel_at(int n_positions, int first) {
  return {first, first + kPanelPositions < n_positions ? first + kPanelPositions : n_positions};
}

// Keys [first, first + kPanelPositions) of the block as groups of kLanes positions:
// [group][dimension][position].
template <class F>
inline void fill_k_panel(const AttentionBlock& a, int first) {
  const int end = panel_at(a.n_positions, first).end;
  float* group = a.k_panel;
  for (int j = first; j < end; j += kLanes, group += padded(a.head_dim) * kLanes) {
    prefetch_keys<F>(a, j + kLanes);
    const uint8_t* rows[kLanes];
    for (int r = 0; r < kLanes; ++r)
      rows[r] = reinterpret_cast<const uint8_t*>(a.k_rows[j + r < a.n_positions ? j + r : a.n_positions - 1]);
    transpose_keys<F>(rows, a.head_dim, group);
  }
}

// Values [first, first + kPanelPositions) of the block: (n, v_head_dim rounded up).
template <class F>
inline void fill_v_panel(const AttentionBlock& a, int first) {
  const int end = panel_at(a.n_positions, first).end;
  float* out = a.v_panel;
  for (int j = first; j < end; ++j, out += padded(a.v_head_dim)) {
    const auto* row = reinterpret_cast<const uint8_t*>(a.v_rows[j]);
    for (int i = 0; i < a.v_head_dim; i += kLanes) store(out + i, load_weights<F>(row, i, a.v_head_dim - i));
  }
}

inline Floats finish_score(const AttentionBlock& a, Floats product) {
  const Floats score = mul(product, splat(a.scale));
  if (a.softcap <= 0) return score;
  return mul(splat(a.softcap), tanh_of(div(score, splat(a.softcap))));
}

// Scores of the keys of kGroups groups of the panel, to `scores` of the first query.
template <int kQueries, int kGroups>
inline void score_tile(const AttentionBlock& a, int query, const float* k, float* scores) {
  const int stride = padded(a.head_dim) * kLanes;
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
    for (int g = 0; g < kGroups; ++g)
      store(scores + q * kAttentionPositions + g * kLanes, finish_score(a, acc[q][g]));
  }
}

// Scores of keys [first, first + kGroups * kLanes) of the block with all of its kQueries queries: keys go
// from their rows through registers into products.
template <class F, int kQueries, int kGroups>
inline void score_rows(const AttentionBlock& a, int first) {
  const int last = a.n_positions - 1;
  const uint8_t* rows[kGroups][kLanes];
  const uint8_t* next[kGroups][kLanes];  // the keys after them, and after the last keys the values
  for (int g = 0; g < kGroups; ++g) {
    for (int r = 0; r < kLanes; ++r) {
      const int i = g * kLanes + r, j = first + i, ahead = j + kGroups * kLanes;
      rows[g][r] = reinterpret_cast<const uint8_t*>(a.k_rows[j < last ? j : last]);
      const std::byte* asked = ahead <= last ? a.k_rows[ahead] : a.v_rows[i < last ? i : last];
      next[g][r] = reinterpret_cast<const uint8_t*>(asked);
    }
  }
  Floats acc[kGroups][kQueries];
  for (int g = 0; g < kGroups; ++g) {
    for (int q = 0; q < kQueries; ++q) acc[g][q] = zeros();
  }
  for (int i = 0; i < a.head_dim; i += 2 * kLanes) {
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      // Queries are splatted anew for each group, or they would be kept on the stack.
      asm volatile("" ::: "memory");
      for (int r = 0; r < kLanes; ++r) __builtin_prefetch(next[g][r] + 2 * i, 0, 2);
      for_each_word(rows[g], 2 * i, [&](int d, Words words) {
        const Floats keys = F::widen(words);
#pragma GCC unroll 4
        for (int q = 0; q < kQueries; ++q) acc[g][q] = fma(splat(a.queries[q][i + d]), keys, acc[g][q]);
      });
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    for (int g = 0; g < kGroups; ++g)
      store(a.scores + q * kAttentionPositions + first + g * kLanes, finish_score(a, acc[g][q]));
  }
}

// What some queries see of a piece, together, and what any of them sees.
template <int kQueries>
inline Range seen_by_all(const AttentionBlock& a, int query, Range piece) {
  for (int q = query; q < query + kQueries; ++q) piece = both(piece, {a.begin[q], a.end[q]});
  return piece;
}
template <int kQueries>
inline bool is_seen(const AttentionBlock& a, int query, Range piece) {
  for (int q = query; q < query + kQueries; ++q) {
    if (!is_empty(both(piece, {a.begin[q], a.end[q]}))) return true;
  }
  return false;
}

template <int kQueries>
inline void score_seen(const AttentionBlock& a, int query, Range piece) {
  constexpr int kGroups = kTileVectors / 4;
  const int n_groups = (piece.end - piece.begin + kLanes - 1) / kLanes;
  const int stride = padded(a.head_dim) * kLanes;
  float* scores = a.scores + query * kAttentionPositions + piece.begin;
  int g = 0;
  for (; g + kGroups <= n_groups; g += kGroups)
    score_tile<kQueries, kGroups>(a, query, a.k_panel + g * stride, scores + g * kLanes);
  for (; g < n_groups; ++g) score_tile<kQueries, 1>(a, query, a.k_panel + g * stride, scores + g * kLanes);
}

template <int kQueries>
inline void score_queries(const AttentionBlock& a, int query, Range piece) {
  if (is_seen<kQueries>(a, query, piece)) score_seen<kQueries>(a, query, piece);
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
    const Floats weight = exp_of_negative(sub(load(scores + j), splat(a.max[query])));
    store(scores + j, weight);
    sum = add(sum, weight);
  }
  a.sum[query] = sum_of(sum);
}

// Where a tile takes its values from: the panel, or for few queries the rows themselves.
struct PanelValues {
  PanelValues(const AttentionBlock& a, int first)
      : panel(a.v_panel - first * padded(a.v_head_dim)), stride(padded(a.v_head_dim)) {}
  template <int>
  void look_ahead(int, int) const {}
  template <bool kIsWhole>
  Floats at(int j, int i) const {
    return load(panel + j * stride + i);
  }
  const float* panel;
  int stride;
};
template <class F>
struct RowValues {
  RowValues(const AttentionBlock& a, int) : rows(a.v_rows), n_rows(a.n_positions), n(a.v_head_dim) {}
  // Each tile asks for its own part of a row to come.
  template <int kVectors>
  [[gnu::always_inline]] void look_ahead(int j, int i) const {
    constexpr int kDistance = 32;
    if (j + kDistance < n_rows)
      prefetch_row(rows[j + kDistance] + row_bytes_of<F>(i), row_bytes_of<F>(kVectors * kLanes));
  }
  // kIsWhole: a vector of elements is there.
  template <bool kIsWhole>
  Floats at(int j, int i) const {
    return load_weights<F>(reinterpret_cast<const uint8_t*>(rows[j]), i, kIsWhole ? kLanes : n - i);
  }
  const std::byte* const* rows;
  int n_rows;
  int n;
};

template <int kQueries, int kVectors, class Values>
inline void add_values_tile(const AttentionBlock& a, int query, const Values& values, int at, Range range) {
  const int stride = padded(a.v_head_dim);
  float* out = a.out + query * stride + at;
  const float* weights = a.scores + query * kAttentionPositions;
  Floats acc[kQueries][kVectors];
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) acc[q][i] = load(out + q * stride + i * kLanes);
  }
  for (int j = range.begin; j < range.end; ++j) {
    values.template look_ahead<kVectors>(j, at);
    Floats weight[kQueries];
#pragma GCC unroll 8
    for (int q = 0; q < kQueries; ++q) weight[q] = splat(weights[q * kAttentionPositions + j]);
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) {
      const Floats value = values.template at<(kVectors > 1)>(j, at + i * kLanes);
#pragma GCC unroll 8
      for (int q = 0; q < kQueries; ++q) acc[q][i] = fma(weight[q], value, acc[q][i]);
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < kQueries; ++q) {
#pragma GCC unroll 8
    for (int i = 0; i < kVectors; ++i) store(out + q * stride + i * kLanes, acc[q][i]);
  }
}

template <int kQueries, class Values>
inline void add_values(const AttentionBlock& a, int query, const Values& values, Range range) {
  if (is_empty(range)) return;
  constexpr int kVectors = kQueries == 1 ? kTileVectors / 2 : kTileVectors / kQueries;
  int at = 0;
  for (; at + kVectors * kLanes <= a.v_head_dim; at += kVectors * kLanes)
    add_values_tile<kQueries, kVectors>(a, query, values, at, range);
  for (; at < a.v_head_dim; at += kLanes) add_values_tile<kQueries, 1>(a, query, values, at, range);
}

// The positions that all queries of a tile see go together, the ragged ends one query at a time.
template <int kQueries, class Values>
inline void add_piece(const AttentionBlock& a, int query, const Values& values, Range piece) {
  const Range common = seen_by_all<kQueries>(a, query, piece);
  for (int q = query; q < query + kQueries; ++q) {
    const Range seen = both(piece, {a.begin[q], a.end[q]});
    add_values<1>(a, q, values, is_empty(common) ? seen : Range{seen.begin, common.begin});
  }
  if (is_empty(common)) return;
  add_values<kQueries>(a, query, values, common);
  for (int q = query; q < query + kQueries; ++q) {
    const Range seen = both(piece, {a.begin[q], a.end[q]});
    add_values<1>(a, q, values, {common.end, seen.end});
  }
}

// Calls f.template operator()<n>(query) for tiles of n queries.
template <class Body>
inline void for_query_tiles(int n_queries, const Body& body) {
  int query = 0;
  for (; query + 4 <= n_queries; query += 4) body.template operator()<4>(query);
  for (; query + 2 <= n_queries; query += 2) body.template operator()<2>(query);
  for (; query < n_queries; ++query) body.template operator()<1>(query);
}

template <class Values>
inline void add_pieces(const AttentionBlock& a, Range piece) {
  const Values values(a, piece.begin);
  for_query_tiles(a.n_queries,
                  [&]<int kQueries>(int query) { add_piece<kQueries>(a, query, values, piece); });
}

// For so few queries a panel of values does not pay for itself; decoding blocks costs more.
template <class F>
constexpr int kMostWithoutPanel = HasWords<F> ? 8 : 4;

// All scores of a block that some of its few queries see.
template <class F, int kQueries>
void score_few(const AttentionBlock& a) {
  constexpr int kGroups = 2;
  int first = a.n_positions;
  for (int q = 0; q < kQueries; ++q) {
    if (a.begin[q] < a.end[q] && a.begin[q] < first) first = a.begin[q];
  }
  first -= first % kLanes;
  for (; first + kLanes < a.n_positions; first += kGroups * kLanes)
    score_rows<F, kQueries, kGroups>(a, first);
  if (first < a.n_positions) score_rows<F, kQueries, 1>(a, first);
}
template <class F>
bool score_few(const AttentionBlock& a) {
  if constexpr (HasWords<F>) {
    if (a.head_dim % (2 * kLanes) != 0) return false;
    switch (a.n_queries) {
      case 1:
        return score_few<F, 1>(a), true;
      case 2:
        return score_few<F, 2>(a), true;
      case 3:
        return score_few<F, 3>(a), true;
      case 4:
        return score_few<F, 4>(a), true;
      case 5:  // as many as the registers hold
        return score_few<F, 5>(a), true;
    }
  }
  return false;
}

template <class F>
void attend(const AttentionBlock& a) {
  for (int first = score_few<F>(a) ? a.n_positions : 0; first < a.n_positions; first += kPanelPositions) {
    fill_k_panel<F>(a, first);
    for_query_tiles(a.n_queries, [&]<int kQueries>(int query) {
      score_queries<kQueries>(a, query, panel_at(a.n_positions, first));
    });
  }
  for (int q = 0; q < a.n_queries; ++q) {
    if (a.begin[q] < a.end[q]) weigh(a, q);
  }
  const int n_out = a.n_queries * padded(a.v_head_dim);
  for (int i = 0; i < n_out; i += kLanes) store(a.out + i, zeros());
  for (int first = 0; first < a.n_positions; first += kPanelPositions) {
    if (a.n_queries <= kMostWithoutPanel<F>) {
      add_pieces<RowValues<F>>(a, panel_at(a.n_positions, first));
    } else {
      fill_v_panel<F>(a, first);
      add_pieces<PanelValues>(a, panel_at(a.n_positions, first));
    }
  }
}

inline float exp_scalar(float x) {
  alignas(64) float lanes[kLanes];
  store(lanes, exp_of(splat(x)));
  return lanes[0];
}

inline void join_blocks(const AttentionJoin& j) {
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
  for (int first = 0; first < a.n_positions; first += kPanelPositions) {
    fill_k_panel<F>(a, first);
    const Range piece = panel_at(a.n_positions, first);
    for_query_tiles(b.n_heads, [&]<int kQueries>(int head) { score_seen<kQueries>(a, head, piece); });
  }
  for (int j = 0; j < b.n_positions; j += kLanes) {
    Floats sum = zeros();
    for (int h = 0; h < b.n_heads; ++h) {
      const Floats product = load(b.products + h * kAttentionPositions + j);
      sum = fma(splat(b.weights[h]), max(product, zeros()), sum);
    }
    store(b.out + j, sum);
  }
}
