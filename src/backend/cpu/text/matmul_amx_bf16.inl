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

// Block `block` of up to 16 columns, from its first line on.
void split_bf16(const float* const* columns, int n_columns, int64_t n_in, int64_t block, uint32_t* lines,
                int64_t stride) {
  const int64_t k = block * kBlockBf16;
  const int64_t n = n_in - k;
  Floats x0[kLanes], x1[kLanes], pairs[kLanes];
  for (int c = 0; c < kLanes; ++c) {
    const uint8_t* x = bytes_of(columns[c < n_columns ? c : 0] + k);
    x0[c] = load_upto<F32>(x, n);
    x1[c] = n > kLanes ? load_upto<F32>(x + kLanes * sizeof(float), n - kLanes) : zeros();
  }
  for (int part = 0; part < kPartsBf16; ++part, lines += kPairsBf16 * stride) {
    for (int c = 0; c < kLanes; ++c) {
      const __m512i joined = join_bf16(x0[c], x1[c]);
      x0[c] = sub(x0[c], first_half(joined));
      x1[c] = sub(x1[c], second_half(joined));
      pairs[c] = _mm512_castsi512_ps(joined);
    }
    if (stride >= kLanes) {
      transpose(pairs, reinterpret_cast<float*>(lines), stride);
      continue;
    }
    alignas(64) uint32_t wide[kPairsBf16 * kLanes];
    transpose(pairs, reinterpret_cast<float*>(wide), kLanes);
    for (int i = 0; i < kPairsBf16; ++i)
      __builtin_memcpy(lines + i * stride, wide + i * kLanes, static_cast<size_t>(stride) * sizeof *lines);
  }
}

// Where the block of a group's rows lies: in the weight, or, the last one of rows that end within it, in a
// copy with zeros behind.
struct TileRows {
  const uint8_t* at;
  int64_t stride;
};

struct Bf16Weights {
  explicit Bf16Weights(const StripProduct& p) : n_whole(p.inputs->n_in / kBlockBf16) {
    const int64_t n_left = p.inputs->n_in % kBlockBf16;
    n_blocks = n_whole + (n_left > 0);
    if (n_left == 0) return;
    for (int g = 0; g < p.n_groups; ++g) {
      for (int r = 0; r < kLanes; ++r) {
        __builtin_memset(last[g][r], 0, kTileBytes / kLanes);
        __builtin_memcpy(last[g][r], p.groups[g] + r * p.row_bytes + n_whole * kTileBytes / kLanes,
                         static_cast<size_t>(2 * n_left));
      }
    }
  }
  TileRows rows(const StripProduct& p, int g, int64_t block) const {
    if (block == n_whole) return {last[g][0], kTileBytes / kLanes};
    return {reinterpret_cast<const uint8_t*>(p.groups[g]) + block * kTileBytes / kLanes, p.row_bytes};
  }

  int64_t n_whole;
  int64_t n_blocks;
  alignas(64) uint8_t last[kStripGroups][kLanes][kTileBytes / kLanes];
};

// Asks for the rows some blocks ahead; behind the end of rows come those of the strip that follows.
inline void prefetch_rows(const StripProduct& p, int64_t block) {
  constexpr int64_t kBlocksAhead = 16;
  int64_t at = (block + kBlocksAhead) * kTileBytes / kLanes;
  if (at >= p.row_bytes) at += p.row_bytes * (kLanes * kStripGroups - 1);
  for (int g = 0; g < p.n_groups; ++g) {
    const auto* rows = reinterpret_cast<const uint8_t*>(p.groups[g]) + at;
    for (int r = 0; r < kLanes; ++r) __builtin_prefetch(rows + r * p.row_bytes, 0, 2);
  }
}

// kGroups groups times 16 kTiles columns, of which n are wanted.
template <int kGroups, int kTiles>
inline void multiply_bf16_tiles(const StripProduct& p, const Bf16Weights& weights, int first, int n) {
  const int64_t stride = p.inputs->bf16_stride;
  const uint32_t* x = p.inputs->bf16 + p.first_column + first;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t block = 0; block < weights.n_blocks; ++block) {
    if (first == 0) prefetch_rows(p, block);
    const TileRows a = weights.rows(p, 0, block);
    _tile_loadd(4, a.at, a.stride);
    if constexpr (kGroups > 1) {
      const TileRows b = weights.rows(p, 1, block);
      _tile_loadd(5, b.at, b.stride);
    }
#pragma GCC unroll 3
    for (int part = 0; part < kPartsBf16; ++part, x += kPairsBf16 * stride) {
      _tile_loadd(6, x, stride * 4);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kGroups > 1) _tile_dpbf16ps(1, 5, 6);
      if constexpr (kTiles > 1) {
        _tile_loadd(7, x + kTileColumnsAmx, stride * 4);
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
    const int n_left = n - tile * kTileColumnsAmx;
    const int n_here = n_left < kTileColumnsAmx ? n_left : kTileColumnsAmx;
    for (int g = 0; g < kGroups; ++g) {
      alignas(64) float columns[kTileColumnsAmx * kLanes];
      Floats rows[kLanes];
      for (int r = 0; r < kLanes; ++r) rows[r] = load(sums[2 * tile + g] + r * kTileColumnsAmx);
      transpose(rows, columns, kLanes);
      float* out = p.out + (first + tile * kTileColumnsAmx) * p.out_stride + g * kLanes;
      for (int c = 0; c < n_here; ++c, out += p.out_stride) store(out, load(columns + c * kLanes));
    }
  }
}

template <int kGroups>
inline void multiply_bf16_groups(const StripProduct& p) {
  const int64_t stride = p.inputs->bf16_stride;
  const TileScope tiles(kLanes, stride < kTileColumnsAmx ? static_cast<int>(stride) : kTileColumnsAmx);
  const Bf16Weights weights(p);
  finish_writes();
  int first = 0;
  for (; first + kTileColumnsAmx < p.n_columns; first += 2 * kTileColumnsAmx)
    multiply_bf16_tiles<kGroups, 2>(p, weights, first, p.n_columns - first);
  if (first < p.n_columns) multiply_bf16_tiles<kGroups, 1>(p, weights, first, p.n_columns - first);
}

void multiply_bf16(const StripProduct& p) {
  if (p.n_groups > 1) return multiply_bf16_groups<2>(p);
  multiply_bf16_groups<1>(p);
}
