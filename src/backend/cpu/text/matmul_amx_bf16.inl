// Products of bfloat16 weights with float32 activations on the tiles of AMX. An activation is the sum of
// three bfloat16 values, each what the ones before leave of it, and each block of weights is multiplied with
// all three. Products are exact and sums are float32: the result is as precise as that of float32 products.
// (Two parts would do for the eye, but not for logits that agree to 1e-4.)
//
// The weights are the first operand as they lie in the file; the activations, laid out once an op, the
// second. Whatever the number of columns, an element of the result is added up by the same instructions: over
// the blocks of 32 in order, the larger parts first, the even and the odd elements of a block apart
// (TDPBF16PS).

// Two bfloat16 vectors in one, x0 first.
inline __m512i join_bf16(Floats x0, Floats x1) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(x1, x0));
}
inline Floats first_half(__m512i pairs) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(pairs)), 16));
}
inline Floats second_half(__m512i pairs) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(pairs, 1)), 16));
}

void split_bf16(const float* const* columns, int n_columns, int64_t n_in, int64_t block, uint32_t* lines,
                int64_t line) {
  const int64_t k = block * kBlockBf16;
  const int64_t n = n_in - k;
  Floats x0[kLanes], x1[kLanes], pairs[kLanes];
  for (int c = 0; c < kLanes; ++c) {
    const uint8_t* x = bytes_of(columns[c < n_columns ? c : 0] + k);
    x0[c] = load_upto<F32>(x, n);
    x1[c] = n > kLanes ? load_upto<F32>(x + kLanes * sizeof(float), n - kLanes) : zeros();
  }
  for (int part = 0; part < kPartsBf16; ++part, lines += kPairsBf16 * line) {
    for (int c = 0; c < kLanes; ++c) {
      const __m512i joined = join_bf16(x0[c], x1[c]);
      x0[c] = sub(x0[c], first_half(joined));
      x1[c] = sub(x1[c], second_half(joined));
      pairs[c] = _mm512_castsi512_ps(joined);
    }
    if (line == kLanes) {
      transpose(pairs, reinterpret_cast<float*>(lines), kLanes);
      continue;
    }
    alignas(64) uint32_t wide[kPairsBf16 * kLanes];
    transpose(pairs, reinterpret_cast<float*>(wide), kLanes);
    for (int i = 0; i < kPairsBf16; ++i)
      __builtin_memcpy(lines + i * line, wide + i * kLanes, static_cast<size_t>(line) * sizeof *lines);
  }
}

// Where a block of a group's rows lies.
struct TileRows {
  const uint8_t* at;
  int64_t stride;
};

constexpr int kTileRowBytes = kTileBytes / kLanes;

// Row by row, or interleaved: a tile after the other, and last the elements that are left, row by row.
template <bool kIsInterleaved>
inline TileRows tile_rows(const std::byte* group, int64_t row_bytes, int64_t block) {
  if (kIsInterleaved) return {bytes_of(group) + block * kTileBytes, kTileRowBytes};
  return {bytes_of(group) + block * kTileRowBytes, row_bytes};
}
template <bool kIsInterleaved>
inline TileRows left_rows(const std::byte* group, int64_t row_bytes) {
  const int64_t n_whole = row_bytes / kTileRowBytes;
  return {tile_rows<kIsInterleaved>(group, row_bytes, n_whole).at,
          kIsInterleaved ? row_bytes % kTileRowBytes : row_bytes};
}

void interleave_bf16(const std::byte* group, int64_t row_bytes, std::byte* out) {
  const int64_t n_whole = row_bytes / kTileRowBytes;
  auto* to = reinterpret_cast<uint8_t*>(out);
  for (int64_t block = 0; block < n_whole; ++block) {
    const TileRows rows = tile_rows<false>(group, row_bytes, block);
    for (int r = 0; r < kLanes; ++r, to += kTileRowBytes)
      __builtin_memcpy(to, rows.at + r * rows.stride, kTileRowBytes);
  }
  const TileRows left = left_rows<false>(group, row_bytes);
  const auto n_left = static_cast<size_t>(row_bytes % kTileRowBytes);
  for (int r = 0; r < kLanes; ++r, to += n_left) __builtin_memcpy(to, left.at + r * left.stride, n_left);
}

void take_row_bf16(const std::byte* group, int64_t row_bytes, int lane, std::byte* out) {
  const int64_t n_whole = row_bytes / kTileRowBytes;
  for (int64_t block = 0; block < n_whole; ++block, out += kTileRowBytes)
    __builtin_memcpy(out, tile_rows<true>(group, row_bytes, block).at + lane * kTileRowBytes, kTileRowBytes);
  const TileRows left = left_rows<true>(group, row_bytes);
  __builtin_memcpy(out, left.at + lane * left.stride, static_cast<size_t>(row_bytes % kTileRowBytes));
}

template <bool kIsInterleaved>
struct Bf16Weights {
  explicit Bf16Weights(const StripProduct& p) : n_whole(p.inputs->n_in / kBlockBf16) {
    const int64_t n_left = p.inputs->n_in % kBlockBf16;
    n_blocks = n_whole + (n_left > 0);
    if (n_left == 0) return;
    for (int g = 0; g < p.n_groups; ++g) {
      const TileRows left = left_rows<kIsInterleaved>(p.groups[g], p.row_bytes);
      for (int r = 0; r < kLanes; ++r) {
        __builtin_memset(last[g][r], 0, kTileRowBytes);
        __builtin_memcpy(last[g][r], left.at + r * left.stride, static_cast<size_t>(2 * n_left));
      }
    }
  }
  TileRows rows(const StripProduct& p, int g, int64_t block) const {
    if (block == n_whole) return {last[g][0], kTileRowBytes};
    return tile_rows<kIsInterleaved>(p.groups[g], p.row_bytes, block);
  }
  // What is read n blocks later; behind the end of the rows come those of the strip that follows.
  TileRows rows_ahead(const StripProduct& p, int g, int64_t block, int64_t n) const {
    const int64_t ahead = block + n;
    if (ahead < n_whole) return tile_rows<kIsInterleaved>(p.groups[g], p.row_bytes, ahead);
    const std::byte* next = p.groups[g] + p.row_bytes * kLanes * p.n_groups;
    return tile_rows<kIsInterleaved>(next, p.row_bytes, ahead - n_whole);
  }

  int64_t n_whole;
  int64_t n_blocks;
  alignas(64) uint8_t last[kStripGroups][kLanes][kTileRowBytes];  // with zeros behind what is left
};

// The columns of a product, in tiles; the first of them may begin in the middle of one.
struct Bf16Columns {
  explicit Bf16Columns(const StripProduct& p, int64_t n_blocks)
      : line(p.inputs->bf16_line),
        stride(n_blocks * kPartsBf16 * kPairsBf16 * line),
        x(p.inputs->bf16 + p.first_column / line * stride),
        n_before(static_cast<int>(p.first_column % line)),
        n_tiles(static_cast<int>((n_before + p.n_columns + line - 1) / line)) {}

  int64_t line;
  int64_t stride;  // of a tile
  const uint32_t* x;
  int n_before;
  int n_tiles;
};

// kGroups groups times kTiles tiles of columns.
template <int kGroups, int kTiles, class Weights>
inline void multiply_bf16_tiles(const StripProduct& p, const Weights& weights, const Bf16Columns& columns,
                                int first_tile) {
  // Weights are asked for as long before as reading them takes.
  constexpr int64_t kBlocksAhead = kTiles > 1 ? 4 : 16;
  const int64_t line = columns.line;
  const uint32_t* x = columns.x + first_tile * columns.stride;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t block = 0; block < weights.n_blocks; ++block) {
    TileRows ahead[kGroups];
    for (int g = 0; g < kGroups; ++g) ahead[g] = weights.rows_ahead(p, g, block, kBlocksAhead);
    const TileRows a = weights.rows(p, 0, block);
    _tile_loadd(4, a.at, a.stride);
    if constexpr (kGroups > 1) {
      const TileRows b = weights.rows(p, 1, block);
      _tile_loadd(5, b.at, b.stride);
    }
#pragma GCC unroll 3
    for (int part = 0; part < kPartsBf16; ++part, x += kPairsBf16 * line) {
      // A third of the lines a group.
      const auto prefetch = [&](int g) {
        for (int r = part * kLanes / kPartsBf16; r < (part + 1) * kLanes / kPartsBf16; ++r)
          prefetch_here(ahead[g].at + r * ahead[g].stride);
      };
      _tile_loadd(6, x, line * 4);
      _tile_dpbf16ps(0, 4, 6);
      prefetch(0);
      if constexpr (kGroups > 1) {
        _tile_dpbf16ps(1, 5, 6);
        prefetch(1);
      }
      if constexpr (kTiles > 1) {
        _tile_loadd(7, x + columns.stride, line * 4);
        _tile_dpbf16ps(2, 4, 7);
        if constexpr (kGroups > 1) _tile_dpbf16ps(3, 5, 7);
      }
    }
  }
  alignas(64) float sums[4][kLanes * kTileColumnsAmx];  // [row][column]
  _tile_stored(0, sums[0], 64);
  if constexpr (kGroups > 1) _tile_stored(1, sums[1], 64);
  if constexpr (kTiles > 1) _tile_stored(2, sums[2], 64);
  if constexpr (kGroups > 1 && kTiles > 1) _tile_stored(3, sums[3], 64);
  finish_writes();
  for (int tile = 0; tile < kTiles; ++tile) {
    // Column c of the tile is column at + c of the product.
    const int at = (first_tile + tile) * static_cast<int>(line) - columns.n_before;
    const int begin = at < 0 ? -at : 0;
    const int end = p.n_columns - at < line ? p.n_columns - at : static_cast<int>(line);
    for (int g = 0; g < kGroups; ++g) {
      alignas(64) float turned[kTileColumnsAmx * kLanes];
      Floats rows[kLanes];
      for (int r = 0; r < kLanes; ++r) rows[r] = load(sums[2 * tile + g] + r * kTileColumnsAmx);
      transpose(rows, turned, kLanes);
      float* out = p.out + (at + begin) * p.out_stride + g * kLanes;
      for (int c = begin; c < end; ++c, out += p.out_stride) store(out, load(turned + c * kLanes));
    }
  }
}

template <bool kIsInterleaved, int kGroups>
inline void multiply_bf16_groups(const StripProduct& p) {
  const Bf16Weights<kIsInterleaved> weights(p);
  const Bf16Columns columns(p, weights.n_blocks);
  const TileScope tiles(kLanes, static_cast<int>(columns.line));
  int tile = 0;
  for (; tile + 1 < columns.n_tiles; tile += 2) multiply_bf16_tiles<kGroups, 2>(p, weights, columns, tile);
  if (tile < columns.n_tiles) multiply_bf16_tiles<kGroups, 1>(p, weights, columns, tile);
}

template <bool kIsInterleaved>
void multiply_bf16(const StripProduct& p) {
  if (p.n_groups > 1) return multiply_bf16_groups<kIsInterleaved, 2>(p);
  multiply_bf16_groups<kIsInterleaved, 1>(p);
}
