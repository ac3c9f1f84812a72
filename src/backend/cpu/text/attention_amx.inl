// The same attention on the tiles of AMX. What is multiplied is a sum of two bfloat16 values, 16 bits of what
// it stands for (all of a float16 or bfloat16 page), and sums are float32. An element is added up by the same
// instructions whatever lies beside it in its tile, and positions that a query does not see add zeros: so its
// bits do not depend on what else is computed.
//
//   scores    keys, 16 rows of 32 dimensions a tile, times queries, 32 dimensions of 16 a tile
//   outputs   weights, 16 queries of 32 positions a tile, times values, 32 positions of 16 dimensions a tile
//
// The second operand holds two of its 32 in a lane (TDPBF16PS): dimensions or positions i and i + 16.

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
template <Bf16Parts kOf, int kLower = kPartBytes>
inline void split_pairs(Floats a, Floats b, uint8_t* pairs) {
  const Ints upper = splat(static_cast<int32_t>(0xffff0000u));
  const auto cut = [&](Floats x) {
    const Ints bits = _mm512_castps_si512(x);
    return bit_and(kOf == Bf16Parts::one ? bits : add(bits, splat(0x8000)), upper);
  };
  const auto join = [](Ints first, Ints second) { return bit_or(shift_right(first, 16), second); };
  const Ints a_upper = cut(a), b_upper = cut(b);
  store_bytes(pairs, join(a_upper, b_upper));
  if constexpr (kOf == Bf16Parts::one) return;
  const Floats a_rest = sub(a, bits_to_float(a_upper)), b_rest = sub(b, bits_to_float(b_upper));
  const bool is_all = kOf == Bf16Parts::two;
  store_bytes(pairs + kLower, join(is_all ? _mm512_castps_si512(a_rest) : cut(a_rest),
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
  if (line == kFewQueries) {
    const auto* fours = reinterpret_cast<const int32_t*>(lines);
    Ints quarters[kFewQueries];
    transpose_quarters(load(fours), load(fours + kLanes), load(fours + 2 * kLanes), load(fours + 3 * kLanes),
                       quarters);
    for (int q = 0; q < kFewQueries; ++q) out[q] = bits_to_float(swap_fours(quarters[q]));
    return;
  }
  const Rows rows = {reinterpret_cast<const uint8_t*>(lines), kTileQueries * sizeof(float)};
  for (int q = 0; q < kTileQueries; q += 4) {
    Ints turned[4];
    gather16(rows, q * static_cast<int>(sizeof(float)), turned);
    for (int i = 0; i < 4; ++i) out[q + i] = bits_to_float(turned[i]);
  }
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

// Queries to tiles [16 queries][block of dimensions], zeros behind their dimensions; the last of them may be
// fewer.
void lay_out_query_tiles(const AttentionQueries& a) {
  auto* tiles = reinterpret_cast<uint8_t*>(a.panel);
  for (int first = 0; first < a.n; first += kTileQueries) {
    const int n = a.n - first < kTileQueries ? a.n - first : kTileQueries;
    for (int k = 0; k < tiles_of_dims(a.head_dim); ++k, tiles += kPairBytes) {
      Ints upper[kTileQueries] = {}, lower[kTileQueries] = {};
      for (int q = 0; q < n; ++q) {
        alignas(64) uint8_t pair[kPairBytes];
        const auto* row = reinterpret_cast<const std::byte*>(a.queries[first + q]);
        split_pairs<Bf16Parts::about_two>(load_lanes_of<F32>(row, k * kBlockBf16, a.head_dim),
                                          load_lanes_of<F32>(row, k * kBlockBf16 + kLanes, a.head_dim), pair);
        upper[q] = load_bytes(pair);
        lower[q] = load_bytes(pair + kPartBytes);
      }
      turn_to_lines(upper, line_of(n), tiles);
      turn_to_lines(lower, line_of(n), tiles + kPartBytes);
    }
  }
}

// Keys of a piece, which begins a step of values, to tiles [group of 16][block of dimensions].
template <class F>
inline void fill_key_tiles(const AttentionBlock& a, Range piece) {
  const int n_blocks = tiles_of_dims(a.head_dim), n_bytes = row_bytes_of<F>(a.head_dim);
  auto* group = reinterpret_cast<uint8_t*>(a.k_panel);
  for (int j = piece.begin; j < piece.end; j += kLanes, group += n_blocks * kPairBytes) {
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

// Values of a piece to tiles [32 positions][16 dimensions]; zeros behind the last one.
template <class F>
inline void fill_value_tiles(const AttentionBlock& a, Range piece) {
  const int n_groups = padded(a.v_head_dim) / kLanes, n_bytes = row_bytes_of<F>(a.v_head_dim);
  auto* tiles = reinterpret_cast<uint8_t*>(a.v_panel);
  for (int j = piece.begin; j < piece.end; j += kBlockBf16, tiles += n_groups * kPairBytes) {
    for (int i = 0; i < kLanes; ++i) {
      uint8_t* line = tiles + i * kPartBytes / kLanes;
      const auto value = [&](int position, int g) {
        if (position >= a.n_positions) return zeros();
        return load_lanes_of<F>(a.v_rows[position], g * kLanes, a.v_head_dim);
      };
      for (const int next : {j + i + kBlockBf16, j + i + kBlockBf16 + kLanes}) {
        if (next < a.n_positions) prefetch_row(a.v_rows[next], n_bytes);
      }
      for (int g = 0; g < n_groups; ++g, line += kPairBytes)
        split_pairs<kParts<F>>(value(j + i, g), value(j + i + kLanes, g), line);
    }
  }
}

// Queries that are computed together: one tile of up to 16, or two whole ones. Their scores stay in the
// first level of cache until they have become outputs.
struct QueryGroup {
  int first;
  int n;  // of a tile
};
constexpr int kGroupQueries = 2 * kTileQueries;

// What any of some queries sees, from the beginning of a step of values on.
inline Range seen_by_any(const AttentionBlock& a, int first, int n) {
  Range seen = {a.n_positions, 0};
  for (int q = first; q < first + n; ++q) {
    if (a.begin[q] >= a.end[q]) continue;
    seen = {a.begin[q] < seen.begin ? a.begin[q] : seen.begin, a.end[q] > seen.end ? a.end[q] : seen.end};
  }
  return {seen.begin / kBlockBf16 * kBlockBf16, seen.end};
}

// A row of a group's scratch memory: scores, which become weights one row before.
inline float* scores_of(const AttentionBlock& a, int row) {
  return a.scores + (row + 1) * kAttentionPositions;
}
inline uint8_t* weights_of(const AttentionBlock& a, int row) {
  return reinterpret_cast<uint8_t*>(a.scores + row * kAttentionPositions);
}
constexpr int kLowerWeights = 2 * kAttentionPositions;  // bytes from the upper values to the lower ones

// The products of the upper (0) and the lower (1) parts of what pages hold and of what is computed; that of
// the lower ones matters to scores, an error of which is multiplied by their size. A sum waits for the
// product before it, so those of several sums alternate.
template <bool kPagesHaveLower, bool kMultipliesLowers, class LoadPages, class LoadComputed, class Multiply>
inline void multiply_parts(const LoadPages& load_pages, const LoadComputed& load_computed,
                           const Multiply& multiply) {
  load_pages(0);
  load_computed(0);
  multiply();
  load_computed(1);
  multiply();
  if constexpr (!kPagesHaveLower) return;
  load_pages(1);
  if constexpr (kMultipliesLowers) multiply();
  load_computed(0);
  multiply();
}

// Scores of kKeys groups of 16 keys, whose tiles begin at `keys`, for kTiles tiles of queries.
template <class F, int kTiles, int kKeys>
inline void score_key_tiles(const AttentionBlock& a, const QueryGroup& group, const uint8_t* keys,
                            int first) {
  const int n_blocks = tiles_of_dims(a.head_dim);
  const int64_t line_bytes = line_of(group.n) * static_cast<int64_t>(sizeof(float));
  const auto* queries =
      reinterpret_cast<const uint8_t*>(a.q_panel) + group.first / kTileQueries * n_blocks * kPairBytes;
  for_each_tile<kTiles * kKeys>([]<int i>() { zero_tile<i>(); });
  for (int k = 0; k < n_blocks; ++k) {
    // Up to two of either operand at a time.
    for_each_tile<(kKeys + 1) / 2>([&]<int pair>() {
      constexpr int kOfPair = kKeys < 2 ? 1 : 2;
      const auto load_keys = [&](int part) {
        for_each_tile<kOfPair>([&]<int g>() {
          load_tile<4 + g>(keys + ((2 * pair + g) * n_blocks + k) * kPairBytes + part * kPartBytes,
                           kPartBytes / kLanes);
        });
      };
      const auto load_queries = [&](int part) {
        for_each_tile<kTiles>([&]<int t>() {
          load_tile<6 + t>(queries + (t * n_blocks + k) * kPairBytes + part * kPartBytes, line_bytes);
        });
      };
      const auto multiply = [] {
        for_each_tile<kTiles>([]<int t>() {
          for_each_tile<kOfPair>([]<int g>() { add_product<t * kKeys + 2 * pair + g, 4 + g, 6 + t>(); });
        });
      };
      multiply_parts<kHasLower<F>, true>(load_keys, load_queries, multiply);
    });
  }
  alignas(64) float sums[kTiles * kKeys][kLanes * kTileQueries];  // [key][query]
  for_each_tile<kTiles * kKeys>([&]<int i>() { store_tile<i>(sums[i], line_bytes); });
  for (int i = 0; i < kTiles * kKeys; ++i) {
    Floats of_query[kTileQueries];
    turn_to_queries(sums[i], line_of(group.n), of_query);
    float* scores = scores_of(a, i / kKeys * kTileQueries) + first + i % kKeys * kLanes;
    for (int q = 0; q < group.n; ++q) store(scores + q * kAttentionPositions, finish_score(a, of_query[q]));
  }
}

// Scores of the piece whose tiles are in the panel from its position `base` on.
template <class F, int kTiles>
inline void score_piece(const AttentionBlock& a, const QueryGroup& group, Range piece, int base) {
  constexpr int kKeys = kSumTiles / kTiles;
  const int group_bytes = tiles_of_dims(a.head_dim) * kPairBytes;
  const TileScope tiles(kLanes, group.n);
  int first = piece.begin;
  const auto* keys = reinterpret_cast<const uint8_t*>(a.k_panel) + (first - base) / kLanes * group_bytes;
  for (; first + (kKeys - 1) * kLanes < piece.end; first += kKeys * kLanes, keys += kKeys * group_bytes)
    score_key_tiles<F, kTiles, kKeys>(a, group, keys, first);
  for (; first < piece.end; first += kLanes, keys += group_bytes)
    score_key_tiles<F, kTiles, 1>(a, group, keys, first);
}

// e^x for x <= 0 of n vectors, as precise as a float; below -87.3 it is 0. All take each step together: one
// after the other they would wait for their own steps, more of which are under way than a core looks ahead.
template <int n>
inline void exp_of_scores(Floats* x) {
  const Floats least = splat(-87.33654f);
  const Floats shift = splat(12582912.0f);  // 1.5 * 2^23: what is added to it becomes whole, in its last bits
  Floats bounded[n], power[n], r[n], p[n];
  const auto each = [](const auto& step) {
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) step(i);
  };
  each([&](int i) { bounded[i] = max(x[i], least); });
  each([&](int i) { power[i] = fma(bounded[i], splat(1.44269504f), shift); });
  each([&](int i) { r[i] = fnma(sub(power[i], shift), splat(0.693147182f), bounded[i]); });
  // minimax on |r| <= ln 2 / 2, 2^-23.3
  each([&](int i) { p[i] = fma(splat(0.008290307f), r[i], splat(0.041897975f)); });
  each([&](int i) { p[i] = fma(p[i], r[i], splat(0.16667637f)); });
  each([&](int i) { p[i] = fma(p[i], r[i], splat(0.4999915f)); });
  each([&](int i) { p[i] = fma(p[i], r[i], splat(0.9999997f)); });
  each([&](int i) { p[i] = fma(p[i], r[i], splat(1.0f)); });
  each([&](int i) {
    const Ints power_bits = shift_left(_mm512_castps_si512(power[i]), 23);
    const __mmask16 is_some = _mm512_cmp_ps_mask(x[i], least, _CMP_GE_OQ);
    x[i] = bits_to_float(_mm512_maskz_add_epi32(is_some, _mm512_castps_si512(p[i]), power_bits));
  });
}

// The scores of a query to weights e^(score - max), zeros where it sees nothing, over the steps of what its
// group sees.
inline void weigh_query(const AttentionBlock& a, int query, int row, Range seen) {
  float* scores = scores_of(a, row);
  uint8_t* upper = weights_of(a, row);
  const int begin = a.begin[query], end = a.end[query];
  const int last = (seen.end + kBlockBf16 - 1) / kBlockBf16 * kBlockBf16;
  if (begin >= end) {
    const auto n_bytes = static_cast<size_t>(2 * (last - seen.begin));
    __builtin_memset(upper + 2 * seen.begin, 0, n_bytes);
    __builtin_memset(upper + kLowerWeights + 2 * seen.begin, 0, n_bytes);
    return;
  }
  for (int j = seen.begin; j < begin; ++j) scores[j] = -__builtin_inff();
  for (int j = end; j < last; ++j) scores[j] = -__builtin_inff();
  Floats most[2] = {splat(-__builtin_inff()), splat(-__builtin_inff())};
  for (int j = seen.begin; j < last; j += kBlockBf16) {
    most[0] = max(most[0], load(scores + j));
    most[1] = max(most[1], load(scores + j + kLanes));
  }
  a.max[query] = max_of(max(most[0], most[1]));
  const Floats by = splat(a.max[query]);
  Floats sum = zeros();
  const auto weigh_steps = [&]<int kSteps>(int j) {
    Floats x[2 * kSteps];
    for (int i = 0; i < 2 * kSteps; ++i) x[i] = sub(load(scores + j + i * kLanes), by);
    exp_of_scores<2 * kSteps>(x);
    for (int i = 0; i < 2 * kSteps; ++i) sum = add(sum, x[i]);
    for (int i = 0; i < kSteps; ++i)
      split_pairs<Bf16Parts::about_two, kLowerWeights>(x[2 * i], x[2 * i + 1],
                                                       upper + 2 * (j + i * kBlockBf16));
  };
  int j = seen.begin;
  for (; j + 3 * kBlockBf16 < last; j += 4 * kBlockBf16) weigh_steps.template operator()<4>(j);
  for (; j < last; j += kBlockBf16) weigh_steps.template operator()<1>(j);
  a.sum[query] = sum_of(sum);
}

// Adds n_steps times 32 positions from `first` on, whose tiles begin at `values`, to kDims times 16
// dimensions from `dim` on.
template <class F, int kTiles, int kDims>
inline void add_value_tiles(const AttentionBlock& a, const QueryGroup& group, const uint8_t* values,
                            int first, int n_steps, int dim) {
  const int stride = padded(a.v_head_dim);
  const int64_t out_bytes = stride * static_cast<int64_t>(sizeof(float));
  constexpr int64_t kRowBytes = kAttentionPositions * sizeof(float);
  float* out = a.out + group.first * stride + dim;
  const auto out_of = [&](int i) { return out + i / kDims * kTileQueries * stride + i % kDims * kLanes; };
  const uint8_t* weights = weights_of(a, 0) + 2 * first;
  values += dim / kLanes * kPairBytes;
  for_each_tile<kTiles * kDims>([&]<int i>() { load_tile<i>(out_of(i), out_bytes); });
  for (int s = 0; s < n_steps; ++s, values += stride / kLanes * kPairBytes, weights += 2 * kBlockBf16) {
    for_each_tile<(kDims + 1) / 2>([&]<int pair>() {
      constexpr int kOfPair = kDims < 2 ? 1 : 2;
      const auto load_weights_of = [&](int part) {
        for_each_tile<kTiles>([&]<int t>() {
          load_tile<4 + t>(weights + t * kTileQueries * kRowBytes + part * kLowerWeights, kRowBytes);
        });
      };
      const auto load_values = [&](int part) {
        for_each_tile<kOfPair>([&]<int g>() {
          load_tile<6 + g>(values + (2 * pair + g) * kPairBytes + part * kPartBytes, kPartBytes / kLanes);
        });
      };
      const auto multiply = [] {
        for_each_tile<kTiles>([]<int t>() {
          for_each_tile<kOfPair>([]<int g>() { add_product<t * kDims + 2 * pair + g, 4 + t, 6 + g>(); });
        });
      };
      multiply_parts<kHasLower<F>, false>(load_values, load_weights_of, multiply);
    });
  }
  for_each_tile<kTiles * kDims>([&]<int i>() { store_tile<i>(out_of(i), out_bytes); });
}

template <class F, int kTiles>
inline void add_piece_of_values(const AttentionBlock& a, const QueryGroup& group, Range piece, int base) {
  constexpr int kDims = kSumTiles / kTiles;
  const int n_dims = padded(a.v_head_dim);
  const int n_steps = (piece.end - piece.begin + kBlockBf16 - 1) / kBlockBf16;
  const auto* values = reinterpret_cast<const uint8_t*>(a.v_panel) +
                       (piece.begin - base) / kBlockBf16 * (n_dims / kLanes) * kPairBytes;
  const TileScope tiles(group.n, kLanes);
  int dim = 0;
  for (; dim + kDims * kLanes <= n_dims; dim += kDims * kLanes)
    add_value_tiles<F, kTiles, kDims>(a, group, values, piece.begin, n_steps, dim);
  for (; dim < n_dims; dim += kLanes)
    add_value_tiles<F, kTiles, 1>(a, group, values, piece.begin, n_steps, dim);
}

template <int kTiles>
inline void weigh_group(const AttentionBlock& a, const QueryGroup& group, Range seen) {
  for (int q = 0; q < kTiles * group.n; ++q) weigh_query(a, group.first + q, q, seen);
}

// One group: keys and values pass through panels that stay in the first level of cache.
template <class F>
inline void attend_few(const AttentionBlock& a, Range seen) {
  const QueryGroup group = {0, a.n_queries};
  const auto for_each_piece = [&](const auto& body) {
    for (int first = seen.begin; first < seen.end; first += kPanelPositions) body(panel_at(seen.end, first));
  };
  for_each_piece([&](Range piece) {
    fill_key_tiles<F>(a, piece);
    score_piece<F, 1>(a, group, piece, piece.begin);
  });
  weigh_group<1>(a, group, seen);
  for_each_piece([&](Range piece) {
    fill_value_tiles<F>(a, piece);
    add_piece_of_values<F, 1>(a, group, piece, piece.begin);
  });
}

// Many: they are decoded once for all groups.
template <class F>
inline void attend_many(const AttentionBlock& a, Range all) {
  fill_key_tiles<F>(a, all);
  fill_value_tiles<F>(a, all);
  for (int first = 0; first < a.n_queries; first += kGroupQueries) {
    const int n_left = a.n_queries - first;
    const auto attend_group = [&]<int kTiles>(int from, int n) {
      const Range seen = seen_by_any(a, from, kTiles * n);
      if (is_empty(seen)) return;
      const QueryGroup group = {from, n};
      score_piece<F, kTiles>(a, group, seen, all.begin);
      weigh_group<kTiles>(a, group, seen);
      add_piece_of_values<F, kTiles>(a, group, seen, all.begin);
    };
    if (n_left >= kGroupQueries) {
      attend_group.template operator()<2>(first, kTileQueries);
      continue;
    }
    const int n_last = n_left % kTileQueries;
    if (n_left >= kTileQueries) attend_group.template operator()<1>(first, kTileQueries);
    if (n_last > 0) attend_group.template operator()<1>(first + n_left - n_last, n_last);
  }
}

template <class F>
void attend_amx(const AttentionBlock& a) {
  const int n_out = a.n_queries * padded(a.v_head_dim);
  for (int i = 0; i < n_out; i += kLanes) store(a.out + i, zeros());
  const Range seen = seen_by_any(a, 0, a.n_queries);
  if (is_empty(seen)) return;
  if (a.n_queries <= kTileQueries)
    attend_few<F>(a, seen);
  else
    attend_many<F>(a, seen);
}
