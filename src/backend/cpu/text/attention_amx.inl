// The same attention on the tiles of AMX. What is multiplied is a sum of two bfloat16 values, 16 bits of what
// it stands for (all of a float16 or bfloat16 page), and sums are float32. An element is added up by the same
// instructions whatever lies beside it in its tile, and positions that a query does not see add zeros: so its
// bits do not depend on what else is computed.
//
//   scores    keys, 16 rows of 32 dimensions a tile, times queries, 32 dimensions of 16 a tile
//   outputs   weights, 16 queries of 32 positions a tile, times values, 32 positions of 16 dimensions a tile
//
// The second operand holds two of its 32 in a lane (TDPBF16PS): of keys and queries the dimensions i and i +
// 16, of weights and values the positions 2 i and 2 i + 1.

constexpr int kTileQueries = 16;
constexpr int kPartBytes = kTileBytes;      // of a tile, of either bfloat16 value
constexpr int kPairBytes = 2 * kPartBytes;  // of both, the upper ones first
constexpr int kSumTiles = 4;  // tiles 0 to 3 hold sums, 4 and 5 the first, 6 and 7 the second operand

template <int kSum, int kFirst, int kSecond>
inline void add_product() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kFirst), "i"(kSecond));
}

// What the elements of pages are: one bfloat16 value, two of them, or something that two come close to.
enum class Bf16Parts { one, two, about_two };
template <class F>
inline constexpr Bf16Parts kParts = Bf16Parts::about_two;
template <>
inline constexpr Bf16Parts kParts<BF16> = Bf16Parts::one;
template <>
inline constexpr Bf16Parts kParts<F16> = Bf16Parts::two;
template <class F>
inline constexpr bool kHasLower = kParts<F> != Bf16Parts::one;

// Writes a and b, lane by lane a pair, as bfloat16 values: the upper ones to `pairs`, the lower ones a part
// behind.
template <Bf16Parts kOf>
inline void split_pairs(Floats a, Floats b, uint8_t* pairs) {
  const Ints upper = splat(static_cast<int32_t>(0xffff0000u));
  const auto cut = [&](Floats x) {
    const Ints bits = _mm512_castps_si512(x);
    return bit_and(kOf == Bf16Parts::about_two ? add(bits, splat(0x8000)) : bits, upper);
  };
  const auto join = [](Ints first, Ints second) { return bit_or(shift_right(first, 16), second); };
  const Ints a_upper = cut(a), b_upper = cut(b);
  store_bytes(pairs, join(a_upper, b_upper));
  if constexpr (kOf == Bf16Parts::one) return;
  const Floats a_rest = sub(a, bits_to_float(a_upper)), b_rest = sub(b, bits_to_float(b_upper));
  const bool is_all = kOf == Bf16Parts::two;
  store_bytes(pairs + kPartBytes, join(is_all ? _mm512_castps_si512(a_rest) : cut(a_rest),
                                       is_all ? _mm512_castps_si512(b_rest) : cut(b_rest)));
}

inline int tiles_of_dims(int head_dim) { return (head_dim + kBlockBf16 - 1) / kBlockBf16; }

// Elements [i, i + kLanes) of a row of n, zeros behind its end.
template <class F>
inline Floats load_lanes_of(const std::byte* row, int i, int n) {
  if (i >= n) return zeros();
  return load_weights<F>(reinterpret_cast<const uint8_t*>(row), i, n - i);
}

// Turns [16][n] over to [n][16] and back. A line of [16][n] is as long as line_of(n) says: 4 floats for up to
// 4, as in decoding, where 16 would be nearly all for nothing.
constexpr int kFewQueries = 4;
inline int line_of(int n_queries) { return n_queries <= kFewQueries ? kFewQueries : kTileQueries; }
inline Ints swap_fours(Ints x) {  // element 4 i + j and 4 j + i
  return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), x);
}
inline void turn_to_queries(const float* lines, int line, Floats* out) {
  alignas(64) float turned[kTileQueries * kLanes];
  if (line == kFewQueries) {
    const auto* fours = reinterpret_cast<const int32_t*>(lines);
    Ints quarters[kFewQueries];
    transpose_quarters(load(fours), load(fours + kLanes), load(fours + 2 * kLanes), load(fours + 3 * kLanes),
                       quarters);
    for (int q = 0; q < kFewQueries; ++q) out[q] = bits_to_float(swap_fours(quarters[q]));
    return;
  }
  for (int j = 0; j < kLanes; ++j) out[j] = load(lines + j * kTileQueries);
  transpose(out, turned, kLanes);
  for (int q = 0; q < kTileQueries; ++q) out[q] = load(turned + q * kLanes);
}
inline void turn_to_lines(const Ints* queries, int line, uint8_t* out) {
  if (line == kFewQueries) {
    Ints quarters[kFewQueries];
    transpose_quarters(swap_fours(queries[0]), swap_fours(queries[1]), swap_fours(queries[2]),
                       swap_fours(queries[3]), quarters);
    for (int i = 0; i < kFewQueries; ++i) store_bytes(out + i * 4 * kLanes, quarters[i]);
    return;
  }
  Floats rows[kLanes];
  for (int q = 0; q < kLanes; ++q) rows[q] = bits_to_float(queries[q]);
  transpose(rows, reinterpret_cast<float*>(out), kLanes);
}

// n queries to tiles [block of dimensions], zeros behind them.
inline void fill_query_tiles(const AttentionBlock& a, int query, int n, uint8_t* tiles) {
  for (int k = 0; k < tiles_of_dims(a.head_dim); ++k, tiles += kPairBytes) {
    Ints upper[kTileQueries] = {}, lower[kTileQueries] = {};
    for (int q = 0; q < n; ++q) {
      alignas(64) uint8_t pair[kPairBytes];
      const auto* row = reinterpret_cast<const std::byte*>(a.queries[query + q]);
      split_pairs<Bf16Parts::about_two>(load_lanes_of<F32>(row, k * kBlockBf16, a.head_dim),
                                        load_lanes_of<F32>(row, k * kBlockBf16 + kLanes, a.head_dim), pair);
      upper[q] = load_bytes(pair);
      lower[q] = load_bytes(pair + kPartBytes);
    }
    turn_to_lines(upper, line_of(n), tiles);
    turn_to_lines(lower, line_of(n), tiles + kPartBytes);
  }
}

// Keys [first, first + kPanelPositions) to tiles [group of 16][block of dimensions].
template <class F>
inline void fill_key_tiles(const AttentionBlock& a, int first) {
  const int n_blocks = tiles_of_dims(a.head_dim), n_bytes = row_bytes_of<F>(a.head_dim);
  const int end = panel_at(a.n_positions, first).end;
  auto* group = reinterpret_cast<uint8_t*>(a.k_panel);
  for (int j = first; j < end; j += kLanes, group += n_blocks * kPairBytes) {
    for (int r = 0; r < kLanes; ++r) {
      if (j + r + kLanes < a.n_positions) prefetch_row(a.k_rows[j + r + kLanes], n_bytes);
      const std::byte* row = a.k_rows[j + r < a.n_positions ? j + r : a.n_positions - 1];
      uint8_t* line = group + r * kPartBytes / kLanes;
      for (int k = 0; k < n_blocks; ++k, line += kPairBytes)
        split_pairs<kParts<F>>(load_lanes_of<F>(row, k * kBlockBf16, a.head_dim),
                               load_lanes_of<F>(row, k * kBlockBf16 + kLanes, a.head_dim), line);
    }
  }
}

// Values [first, first + kPanelPositions) to tiles [32 positions][16 dimensions]; zeros behind the last one.
template <class F>
inline void fill_value_tiles(const AttentionBlock& a, int first) {
  const int n_groups = padded(a.v_head_dim) / kLanes, n_bytes = row_bytes_of<F>(a.v_head_dim);
  const int end = panel_at(a.n_positions, first).end;
  auto* tiles = reinterpret_cast<uint8_t*>(a.v_panel);
  for (int j = first; j < end; j += kBlockBf16, tiles += n_groups * kPairBytes) {
    for (int i = 0; i < kBlockBf16; i += 2) {
      uint8_t* line = tiles + i / 2 * kPartBytes / kLanes;
      const auto value = [&](int position, int g) {
        if (position >= a.n_positions) return zeros();
        return load_lanes_of<F>(a.v_rows[position], g * kLanes, a.v_head_dim);
      };
      for (int next = j + i + kLanes; next < j + i + kLanes + 2 && next < a.n_positions; ++next)
        prefetch_row(a.v_rows[next], n_bytes);
      for (int g = 0; g < n_groups; ++g, line += kPairBytes)
        split_pairs<kParts<F>>(value(j + i, g), value(j + i + 1, g), line);
    }
  }
}

inline bool is_seen_by(const AttentionBlock& a, int query, int n, Range piece) {
  for (int q = query; q < query + n; ++q) {
    if (!is_empty(both(piece, {a.begin[q], a.end[q]}))) return true;
  }
  return false;
}

// Scores of kGroups groups of 16 keys, whose tiles begin at `keys`, for n queries.
template <class F, int kGroups>
inline void score_key_tiles(const AttentionBlock& a, int query, int n, const uint8_t* queries,
                            const uint8_t* keys, int first) {
  const int n_blocks = tiles_of_dims(a.head_dim);
  const int64_t line_bytes = line_of(n) * static_cast<int64_t>(sizeof(float));
  for_each_tile<kGroups>([]<int g>() { zero_tile<g>(); });
  for (int k = 0; k < n_blocks; ++k) {
    load_tile<6>(queries + k * kPairBytes, line_bytes);
    load_tile<7>(queries + k * kPairBytes + kPartBytes, line_bytes);
    for_each_tile<kGroups>([&]<int g>() {
      const uint8_t* tile = keys + (g * n_blocks + k) * kPairBytes;
      load_tile<4>(tile, kPartBytes / kLanes);
      add_product<g, 4, 6>();
      add_product<g, 4, 7>();
      if constexpr (kHasLower<F>) {
        load_tile<5>(tile + kPartBytes, kPartBytes / kLanes);
        add_product<g, 5, 6>();
        add_product<g, 5, 7>();
      }
    });
  }
  alignas(64) float sums[kGroups][kLanes * kTileQueries];  // [key][query]
  for_each_tile<kGroups>([&]<int g>() { store_tile<g>(sums[g], line_bytes); });
  for (int g = 0; g < kGroups; ++g) {
    Floats of_query[kTileQueries];
    turn_to_queries(sums[g], line_of(n), of_query);
    float* scores = a.scores + query * kAttentionPositions + first + g * kLanes;
    for (int q = 0; q < n; ++q) store(scores + q * kAttentionPositions, finish_score(a, of_query[q]));
  }
}

// The weights of a query in place: 256 upper bfloat16 values, then the lower ones; zeros where it sees
// nothing.
inline void split_weights(const AttentionBlock& a, int query) {
  float* scores = a.scores + query * kAttentionPositions;
  alignas(64) float weights[kAttentionPositions] = {};
  if (a.begin[query] < a.end[query]) {
    for (int j = a.begin[query] / kLanes * kLanes; j < a.end[query]; j += kLanes)
      store(weights + j, load(scores + j));
  }
  auto* upper = reinterpret_cast<uint8_t*>(scores);
  for (int j = 0; j < a.n_positions; j += kBlockBf16, upper += 2 * kBlockBf16) {
    const Floats x0 = load(weights + j), x1 = load(weights + j + kLanes);
    const __m512i joined = join_bf16(x0, x1);
    store_bytes(upper, joined);
    store_bytes(upper + 2 * kAttentionPositions,
                join_bf16(sub(x0, first_half(joined)), sub(x1, second_half(joined))));
  }
}

// Adds a piece of n_steps times 32 positions to kGroups times 16 dimensions of some queries.
template <class F, int kGroups>
inline void add_value_tiles(const AttentionBlock& a, int query, int group, int first, int n_steps) {
  const int n_groups = padded(a.v_head_dim) / kLanes;
  const int64_t out_bytes = padded(a.v_head_dim) * static_cast<int64_t>(sizeof(float));
  constexpr int64_t kWeightBytes = kAttentionPositions * sizeof(float);
  float* out = a.out + query * padded(a.v_head_dim) + group * kLanes;
  const auto* weights = reinterpret_cast<const uint8_t*>(a.scores + query * kAttentionPositions) + 2 * first;
  const auto* values = reinterpret_cast<const uint8_t*>(a.v_panel) + group * kPairBytes;
  for_each_tile<kGroups>([&]<int g>() { load_tile<g>(out + g * kLanes, out_bytes); });
  for (int s = 0; s < n_steps; ++s, values += n_groups * kPairBytes) {
    load_tile<4>(weights + 2 * kBlockBf16 * s, kWeightBytes);
    load_tile<5>(weights + 2 * kBlockBf16 * s + 2 * kAttentionPositions, kWeightBytes);
    for_each_tile<kGroups>([&]<int g>() {
      load_tile<6>(values + g * kPairBytes, kPartBytes / kLanes);
      add_product<g, 4, 6>();
      add_product<g, 5, 6>();
      if constexpr (kHasLower<F>) {
        load_tile<7>(values + g * kPairBytes + kPartBytes, kPartBytes / kLanes);
        add_product<g, 4, 7>();
        add_product<g, 5, 7>();
      }
    });
  }
  for_each_tile<kGroups>([&]<int g>() { store_tile<g>(out + g * kLanes, out_bytes); });
}

// Queries in tiles of n: 16, or all that there are of fewer.
template <class F>
inline void attend_queries(const AttentionBlock& a, int n) {
  const auto for_each_piece = [&](const auto& body) {
    for (int first = 0; first < a.n_positions; first += kPanelPositions) body(panel_at(a.n_positions, first));
  };
  const int query_bytes = tiles_of_dims(a.head_dim) * kPairBytes;
  auto* query_tiles = reinterpret_cast<uint8_t*>(a.q_panel);
  for (int q = 0; q < a.n_queries; q += n) fill_query_tiles(a, q, n, query_tiles + q / n * query_bytes);
  {
    const TileScope tiles(kLanes, n);
    for_each_piece([&](Range piece) {
      fill_key_tiles<F>(a, piece.begin);
      for (int q = 0; q < a.n_queries; q += n) {
        if (!is_seen_by(a, q, n, piece)) continue;
        const uint8_t* keys = reinterpret_cast<const uint8_t*>(a.k_panel);
        int first = piece.begin;
        for (; first + kSumTiles * kLanes <= piece.end;
             first += kSumTiles * kLanes, keys += kSumTiles * query_bytes)
          score_key_tiles<F, kSumTiles>(a, q, n, query_tiles + q / n * query_bytes, keys, first);
        for (; first < piece.end; first += kLanes, keys += query_bytes)
          score_key_tiles<F, 1>(a, q, n, query_tiles + q / n * query_bytes, keys, first);
      }
    });
  }
  for (int q = 0; q < a.n_queries; ++q) {
    if (a.begin[q] < a.end[q]) weigh(a, q);
    split_weights(a, q);
  }
  const int n_out = a.n_queries * padded(a.v_head_dim);
  for (int i = 0; i < n_out; i += kLanes) store(a.out + i, zeros());
  const TileScope tiles(n, kLanes);
  for_each_piece([&](Range piece) {
    fill_value_tiles<F>(a, piece.begin);
    const int n_groups = padded(a.v_head_dim) / kLanes;
    const int n_steps = (piece.end - piece.begin + kBlockBf16 - 1) / kBlockBf16;
    for (int q = 0; q < a.n_queries; q += n) {
      if (!is_seen_by(a, q, n, piece)) continue;
      int group = 0;
      for (; group + kSumTiles <= n_groups; group += kSumTiles)
        add_value_tiles<F, kSumTiles>(a, q, group, piece.begin, n_steps);
      for (; group < n_groups; ++group) add_value_tiles<F, 1>(a, q, group, piece.begin, n_steps);
    }
  });
}

template <class F>
void attend_amx(const AttentionBlock& a) {
  const int n_whole = a.n_queries / kTileQueries * kTileQueries;
  AttentionBlock some = a;
  some.n_queries = n_whole;
  if (n_whole > 0) attend_queries<F>(some, kTileQueries);
  some.n_queries = a.n_queries - n_whole;
  if (some.n_queries == 0) return;
  some.queries += n_whole;
  some.begin += n_whole;
  some.end += n_whole;
  some.scores += n_whole * kAttentionPositions;
  some.max += n_whole;
  some.sum += n_whole;
  some.out += n_whole * padded(a.v_head_dim);
  attend_queries<F>(some, some.n_queries);
}
