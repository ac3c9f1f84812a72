// Products of weights in blocks of 32 with many columns, on the tiles of AMX: sixteen columns times a block
// of a group's sixteen rows at a time. What tiles add up are integers, and the float steps are those of
// matmul_quant.inl in the same order: so are the bits. The float unit is what they wait for: products and
// stores of tiles keep it busy, too, and a block has three steps for every 32 products.

// Panels as in Panel32, but of signed bytes, the codes less their offset: the sums need no correction.
template <class F>
struct SignedPanel32 : Panel32<F> {};

template <class F, class R>
inline void expand_block(R rows, SignedPanel32<F>& panel, Ahead& ahead) {
  ahead.prefetch_part();
  const Bytes offset = _mm512_set1_epi8(static_cast<char>(F::kOffset));
  F::expand(rows, [&](const auto& code) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) store_bytes(panel.q + 4 * kLanes * k, _mm512_sub_epi8(code(k), offset));
  });
  const Scales32 s = F::scales(rows);
  store(panel.d, s.d);
  if constexpr (F::kHasMin) store(panel.m, s.m);
}

template <class F>
struct SignedSpan32 {
  int64_t index;
  int n_blocks;
  SignedPanel32<F> panels[kStripGroups][kSpanBlocks<F>];
};

constexpr int kTileBlocks = 4;  // blocks that tiles 0 to 3 hold the sums of

// 16 columns and kTileBlocks blocks of a group.
template <class F>
struct TileStep32 {
  // Steps over the blocks of the span, then over groups, then over columns. False behind the last one.
  bool advance(const StripProduct& p, const SignedSpan32<F>& span) {
    block += kTileBlocks;
    if (block < span.n_blocks) return true;
    block = 0;
    if (++group < p.n_groups) return true;
    group = 0;
    first += kTileColumnsAmx;
    return first < p.n_columns;
  }
  bool begins_sums() const { return block == 0; }
  int n_columns(const StripProduct& p) const {
    return p.n_columns - first < kTileColumnsAmx ? p.n_columns - first : kTileColumnsAmx;
  }
  TileInputs<F, kTileColumnsAmx> inputs(const StripProduct& p, const SignedSpan32<F>& span) const {
    return {*p.inputs, span.index, p.first_column + first};
  }
  // Tiles reach beyond the last column and the last block, into memory that is there.
  void dot(const StripProduct& p, const SignedSpan32<F>& span) const {
    const int8_t* x = inputs(p, span).q + 32 * block;
    const SignedPanel32<F>* panels = span.panels[group] + block;
    for_each_tile<kTileBlocks>([&]<int b>() {
      zero_tile<b>();
      load_tile<4 + b % 2>(x + 32 * b, kSpan);
      load_tile<6 + b % 2>(panels[b].q, 64);
      add_signed_dots<b, 4 + b % 2, 6 + b % 2>();
    });
  }
  // Adds the sums to those of the blocks before, and brings the columns that follow close.
  void add(const StripProduct& p, const SignedSpan32<F>& span, const TileSums& sums,
           Floats (&acc)[kTileColumnsAmx], Ahead& ahead) const {
    const int n = span.n_blocks - block < kTileBlocks ? span.n_blocks - block : kTileBlocks;
    const TileInputs<F, kTileColumnsAmx> x = inputs(p, span);
    const int8_t* next = x.q + kTileColumnsAmx * kSpan + 32 * block;
    for (int b = 0; b < n; ++b, next += 32) {
      ahead.prefetch_part();
      const SignedPanel32<F>& panel = span.panels[group][block + b];
      const Scales32 s = {load(panel.d), F::kHasMin ? load(panel.m) : zeros()};
#pragma GCC unroll 16
      for (int c = 0; c < kTileColumnsAmx; ++c) {
        if (b % 2 == 0) prefetch_near(next + c * kSpan);  // a line is two blocks
        acc[c] = accumulate32<F>(acc[c], load(sums.of[b] + c * kLanes), s, x.scale_of(c, block + b));
      }
    }
  }

  int block = 0;
  int group = 0;
  int first = 0;
};

// While tiles work on a step, the sums of the one before are added.
template <class F>
inline void multiply_span(const StripProduct& p, const SignedSpan32<F>& span, Ahead& ahead) {
  TileSums sums;
  TileStep32<F> step;
  step.dot(p, span);
  store_tiles(sums.of);
  for (bool goes_on = true; goes_on;) {
    // Columns behind the last are computed, and not written.
    float* out = p.out + step.first * p.out_stride + step.group * kLanes;
    const int n = step.n_columns(p);
    Floats acc[kTileColumnsAmx];
#pragma GCC unroll 16
    for (int c = 0; c < kTileColumnsAmx; ++c)
      acc[c] = c < n && span.index > 0 ? load(out + c * p.out_stride) : zeros();
    do {
      const TileStep32<F> before = step;
      goes_on = step.advance(p, span);
      if (goes_on) step.dot(p, span);
      before.add(p, span, sums, acc, ahead);
      if (goes_on) store_tiles(sums.of);
    } while (!step.begins_sums());
#pragma GCC unroll 16
    for (int c = 0; c < kTileColumnsAmx; ++c) {
      if (c < n) store(out + c * p.out_stride, acc[c]);
    }
  }
}

template <class Lying>
void multiply_amx32(const StripProduct& p) {
  using F = typename Lying::Format;
  const TileScope tiles(p.n_columns < kTileColumnsAmx ? p.n_columns : kTileColumnsAmx, kLanes, 32);
  SignedSpan32<F> span;
  for_each_span<F>(p, span, [&] {
    const int n_tiles = (p.n_columns + kTileColumnsAmx - 1) / kTileColumnsAmx;
    Ahead ahead = ahead_of_span<F>(p, span, p.n_groups * (1 + n_tiles));
    expand_span<Lying>(p, span, ahead);
    finish_writes();
    multiply_span(p, span, ahead);
  });
}
