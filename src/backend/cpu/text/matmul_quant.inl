// Products of quantised weights with int8 activations. Sums inside a block are integers, hence exact in any
// order; the float steps are one per block, in the order of the row, and the same in both paths:
//   few columns     expand the codes of each block in registers and multiply them at once
//   many columns    expand a span of 256 of the strip's rows into a panel of bytes, which stays in the first
//                   level of cache while tiles of columns are multiplied with it; their sums so far wait in
//                   the output
// A lane is a row of the group, so a group's sums come out as one vector.

inline const uint8_t* bytes_of(const std::byte* p) { return reinterpret_cast<const uint8_t*>(p); }

// Where it stands: the compiler would gather prefetches in one place, and all but the first few would hold up
// the loads behind them. One by one between the products they cost a quarter less time.
#if defined(__x86_64__)
inline void prefetch_here(const uint8_t* p) { asm volatile("prefetcht1 %0" : : "m"(*p)); }
// To the first level of cache.
inline void prefetch_near(const void* p) {
  asm volatile("prefetcht0 %0" : : "m"(*static_cast<const uint8_t*>(p)));
}
#else
inline void prefetch_here(const uint8_t* p) { __builtin_prefetch(p, 0, 2); }
inline void prefetch_near(const void* p) { __builtin_prefetch(p, 0, 3); }
#endif

// A group is read as kLanes streams, too many and, as rows of small models are a kilobyte, too short for the
// prefetcher of a processor. So a block brings in its share of what is read next, as one stream, into the
// second level of cache: a few lines at a time between the products, as the processor keeps only so many
// requests in flight and loads wait behind them. Behind the last row this asks for what is not read: a
// prefetch never faults.
class Ahead {
 public:
  // Lines of `n_bytes` from p on, so many a part that n_parts take them all.
  Ahead(const uint8_t* p, int64_t n_bytes, int n_parts)
      : at_(p), end_(p + n_bytes), part_bytes_((n_bytes + 64 * n_parts - 1) / (64 * n_parts) * 64) {}

  void prefetch_part() {
    const uint8_t* end = at_ + part_bytes_ < end_ ? at_ + part_bytes_ : end_;
    for (; at_ < end; at_ += 64) prefetch_here(at_);
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
  int64_t part_bytes_;
};

// How far before one column's product StripProduct::reads_near asks for weights. Of formats that it is 0 for
// blocks are not read in order.
template <class F>
constexpr int near_bytes() {
  if constexpr (kIsBlock32<F>)
    return 384;
  else
    return F::kNearBytes;
}

// The same for the share of block b in the group that follows, a line or none at a time; or, kIsNear, for
// what is near_bytes() behind block b.
template <class F, bool kIsNear>
class BlockAhead {
 public:
  BlockAhead(const StripProduct& p, int g, int64_t b)
      : share_(bytes_of(p.groups[g]) + kLanes * b * F::kBytes +
               (kIsNear ? near_bytes<F>() : kLanes * p.row_bytes)) {}

  // Before product i of kProducts.
  void prefetch_part(int i) const {
#ifndef MILLRACE_SANITIZED  // g++ 12 refuses the annotation where it does not optimise
#pragma GCC unroll 4
#endif
    for (int line = i * kLines / kProducts; line < (i + 1) * kLines / kProducts; ++line)
      kIsNear ? prefetch_near(share_ + 64 * line) : prefetch_here(share_ + 64 * line);
  }

 private:
  static constexpr int kLines = (kLanes * F::kBytes + 63) / 64;
  static constexpr int kProducts = kIsBlock32<F> ? 8 : 64;
  const uint8_t* share_;
};

// What products of codes with a block of 32 activations begin with: -kOffset times the activations' sum. In
// vectors, as the compiler would reckon with the sums of several columns as one, and wait for its parts.
template <class F>
inline Ints less_offset(const InputScale32& x) {
  if constexpr (F::kOffset == 0)
    return splat(0);
  else
    return sub(splat(0), shift_left(splat(x.sum), __builtin_ctz(F::kOffset)));
}

// The float steps of a block of 32.
template <class F>
inline Floats accumulate32(Floats acc, Ints dots, const Scales32& s, const InputScale32& x) {
  acc = fma(to_float(dots), mul(s.d, splat(x.scale)), acc);
  if constexpr (F::kHasMin) acc = fma(s.m, splat(x.scaled_sum), acc);
  return acc;
}

// Those of a block of 256: of the dots with the integer scales, less the minima times the sums.
template <class F>
inline Floats accumulate256(Floats acc, Floats dots, Floats d, Floats mins, Floats dmin, float x_scale) {
  Floats sum = mul(dots, d);
  if constexpr (F::kHasMin) sum = fnma(mins, dmin, sum);
  return fma(sum, splat(x_scale), acc);
}

// A block of a group in the panel: vector k of `q` holds codes [4k, 4k + 4) of every row. Nothing of the
// format is left but offset and scales.
template <class F>
struct alignas(64) Panel32 {
  uint8_t q[32 * kLanes];
  float d[kLanes];
  float m[F::kHasMin ? kLanes : 0];
};
// Where a format of blocks of 256 has an offset, it is subtracted beforehand and the product is that of
// signed weights with activations that 128 is added to: what is too much, `shift`, is then the same for all
// columns.
template <class F>
inline constexpr bool kIsShifted = F::kOffset != 0 && kDotsAnyBytes;
template <class F>
struct alignas(64) Panel256 {
  static constexpr int kSubs = 256 / F::kSub;
  static constexpr bool kHasPairs = F::kHasMin || (F::kOffset != 0 && !kIsShifted<F>);
  uint8_t q[256 * kLanes];
  int32_t sub[kSubs * kLanes];
  int32_t pairs[kHasPairs ? kSubs / 2 * kLanes : 0];  // as in Scales256
  int32_t shift[kIsShifted<F> ? kLanes : 0];
  float d[kLanes];
  float dmin[F::kHasMin ? kLanes : 0];
};

template <class F, class R>
inline void expand_block(R rows, Panel32<F>& panel, Ahead& ahead) {
  ahead.prefetch_part();
  F::expand(rows, [&](const auto& code) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) store_bytes(panel.q + 4 * kLanes * k, code(k));
  });
  const Scales32 s = F::scales(rows);
  store(panel.d, s.d);
  if constexpr (F::kHasMin) store(panel.m, s.m);
}

// A code less the offset.
template <class F>
inline Bytes signed_weights(Bytes code) {
  if constexpr (F::kOffset == 128)
    return widen_signed(code);
  else
    return widen_signed(sub(widen_signed(code), splat(F::kOffset * 0x01010101)));  // no byte borrows
}

template <class F, class R>
inline void expand_block(R rows, Panel256<F>& panel, Ahead& ahead) {
  const Scales256 s = F::scales(rows);
  [[maybe_unused]] Ints weighted = splat(0);  // the sum of all weights by their scales
  F::expand(rows, [&](int c, const auto& code) {
    ahead.prefetch_part();
    uint8_t* q = panel.q + 32 * kLanes * c;
    if constexpr (kIsShifted<F>) {
      constexpr int kVectors = F::kSub / 4;
#pragma GCC unroll 2
      for (int i = 0; i < 8 / kVectors; ++i) {
        Ints sum = splat(0);
#pragma GCC unroll 8
        for (int k = kVectors * i; k < kVectors * (i + 1); ++k) {
          const Bytes weights = signed_weights<F>(code(k));
          store_bytes(q + 4 * kLanes * k, weights);
          sum = dot<false>(sum, as_bytes(splat(0x01010101)), weights);
        }
        weighted = add(weighted, mul(sum, s.sub[8 / kVectors * c + i]));
      }
    } else {
#pragma GCC unroll 8
      for (int k = 0; k < 8; ++k) store_bytes(q + 4 * kLanes * k, code(k));
    }
  });
  store(panel.d, s.d);
  if constexpr (F::kHasMin) store(panel.dmin, s.dmin);
  for (int i = 0; i < Panel256<F>::kSubs; ++i) store(panel.sub + kLanes * i, s.sub[i]);
  if constexpr (Panel256<F>::kHasPairs) {
    for (int i = 0; i < Panel256<F>::kSubs / 2; ++i) store(panel.pairs + kLanes * i, s.pairs[i]);
  }
  if constexpr (kIsShifted<F>) store(panel.shift, shift_left(weighted, 7));
}

// What blocks of 32 and of 256 differ in.
template <class F, bool kIs32 = kIsBlock32<F>>
struct Blocks;
template <class F>
struct Blocks<F, true> {
  using Panel = Panel32<F>;
  static constexpr InputKind kInput = InputKind::int8_32;
  static constexpr int kElems = 32;
};
template <class F>
struct Blocks<F, false> {
  using Panel = Panel256<F>;
  static constexpr InputKind kInput = InputKind::int8_256;
  static constexpr int kElems = 256;
};
template <class F>
inline constexpr int kSpanBlocks = kSpan / Blocks<F>::kElems;

// The columns of one tile, and a span of them.
template <class F, int kColumns, bool kIs32 = kIsBlock32<F>>
struct TileInputs;
template <class F, int kColumns>
struct TileInputs<F, kColumns, true> {
  TileInputs(const Inputs& inputs, int64_t span, int64_t first_column)
      : q(inputs.int8_32 + (span * inputs.n_columns + first_column) * kSpan),
        scale(inputs.scale32 + (span * inputs.n_columns + first_column) * kSpanBlocks<F>) {}

  static constexpr int kStride = kSpan;  // bytes from a column to the next

  const int8_t* bytes(int c, int at) const { return q + c * kStride + at; }
  const InputScale32& scale_of(int c, int block) const { return scale[c * kSpanBlocks<F> + block]; }

  const int8_t* q;
  const InputScale32* scale;
};
template <class F, int kColumns>
struct TileInputs<F, kColumns, false> {
  TileInputs(const Inputs& inputs, int64_t span, int64_t first_column)
      : quarter_stride(inputs.quarter_stride),
        q(inputs.int8_256 + 4 * span * quarter_stride + first_column * kQuarter),
        scale(inputs.scale256 + span * inputs.n_columns + first_column),
        sums(inputs.sums256 + span * inputs.n_columns + first_column) {}

  static constexpr int kStride = kQuarter;

  // From byte `at` of the span on, as far as its quarter goes.
  const int8_t* bytes(int c, int at) const {
    return q + at / kQuarter * quarter_stride + c * kStride + at % kQuarter;
  }
  // A pair of sums of the format's sub-blocks, for all rows.
  Ints sums_of(int c, int pair) const {
    return repeat_pair((F::kSub == 32 ? sums[c].of32 : sums[c].of16) + 2 * pair);
  }

  int64_t quarter_stride;
  const int8_t* q;
  const float* scale;
  const InputSums256* sums;
};

// Loads stay where they stand: the compiler would begin with all of them, and have registers for half.
inline void hold_loads() { asm volatile("" : : : "memory"); }

// The first path: a block of a group times all columns, acc[c] += theirs.
//
// Few take the time of loads on their way, so that all of a block's begin at once; more that of products, in
// registers that must be enough for them.
template <int kColumns>
inline constexpr bool kIsFew = kColumns <= 4;

// dots[c] += `n` vectors of codes, from the first-th on, times as many fours of activations from byte x_at
// on. Of few columns in two sums each where a block is short: a processor sees no further than the next one,
// and has else too little to do while one product waits for the other.
template <class F, int kColumns, class Code, class AnyAhead>
[[gnu::always_inline]] inline void dot_codes(Ints (&dots)[kColumns], const Code& code, int first, int n,
                                             const TileInputs<F, kColumns>& x, int x_at, AnyAhead ahead,
                                             int first_product) {
  constexpr bool kHasOdd = kIsFew<kColumns> && kIsBlock32<F>;
  Ints odd[kColumns];
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) odd[c] = splat(0);
#pragma GCC unroll 8
  for (int k = first; k < first + n; ++k) {
    ahead.prefetch_part(first_product + k);
    const Bytes weights = code(k);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      Ints& sum = kHasOdd && k % 2 != 0 ? odd[c] : dots[c];
      sum = dot<F::kIsWide>(sum, weights, repeat4(x.bytes(c, x_at + 4 * k)));
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
    if constexpr (kHasOdd) dots[c] = add(dots[c], odd[c]);
  }
}

template <class F, int kColumns, class R, class AnyAhead>
[[gnu::always_inline]] inline void multiply_direct32(Floats (&acc)[kColumns], R rows,
                                                     const TileInputs<F, kColumns>& x, int block,
                                                     AnyAhead ahead) {
  Ints dots[kColumns];
  for (int c = 0; c < kColumns; ++c) dots[c] = less_offset<F>(x.scale_of(c, block));
  F::expand(rows, [&](const auto& code) { dot_codes<F>(dots, code, 0, 8, x, 32 * block, ahead, 0); });
  const Scales32 s = F::scales(rows);
  for (int c = 0; c < kColumns; ++c) acc[c] = accumulate32<F>(acc[c], dots[c], s, x.scale_of(c, block));
}

template <class F, int kColumns, class R, class AnyAhead>
[[gnu::always_inline]] inline void multiply_direct256(Floats (&acc)[kColumns], R rows,
                                                      const TileInputs<F, kColumns>& x, AnyAhead ahead) {
  const Scales256 s = F::scales(rows);
  Ints sums[kColumns];  // of minima or of scales, times those of the activations
  const auto dot_sums = [&] {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      sums[c] = splat(0);
      if constexpr (F::kHasMin || F::kOffset != 0) {
#pragma GCC unroll 8
        for (int i = 0; i < 256 / F::kSub / 2; ++i) sums[c] = dot_pairs(sums[c], s.pairs[i], x.sums_of(c, i));
      }
    }
  };
  if constexpr (kIsFew<kColumns>) dot_sums();
  Ints dots[kColumns];
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) dots[c] = splat(0);
  F::expand(rows, [&](int chunk, const auto& code) {
    constexpr int kSubsAChunk = 32 / F::kSub;
#pragma GCC unroll 2
    for (int i = 0; i < kSubsAChunk; ++i) {
      const int n = F::kSub / 4;
      Ints sub_dots[kColumns];
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c) sub_dots[c] = splat(0);
      dot_codes<F>(sub_dots, code, n * i, n, x, 32 * chunk, ahead, 8 * chunk);
#pragma GCC unroll 8
      for (int c = 0; c < kColumns; ++c)
        dots[c] = add(dots[c], mul(sub_dots[c], s.sub[kSubsAChunk * chunk + i]));
    }
    // Each of these puts the dots into memory, too.
    if (!kIsFew<kColumns> && chunk % 2 != 0) hold_loads();
  });
  if constexpr (!kIsFew<kColumns>) dot_sums();
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) {
    if constexpr (F::kOffset != 0) dots[c] = sub(dots[c], mul(sums[c], splat(F::kOffset)));
    const Floats mins = F::kHasMin ? to_float(sums[c]) : zeros();
    acc[c] = accumulate256<F>(acc[c], to_float(dots[c]), s.d, mins, s.dmin, x.scale[c]);
  }
}

// acc[g][c] += kDepth bytes from `w` (one pointer a group) times as many of each column from `x` on.
template <class F, int kGroups, int kColumns, int kDepth>
inline void dot_tile(Ints (&acc)[kGroups][kColumns], const uint8_t* const (&w)[kGroups], const int8_t* x) {
#pragma GCC unroll 8
  for (int k = 0; k < kDepth / 4; ++k) {
    Bytes weights[kGroups];
    for (int g = 0; g < kGroups; ++g) weights[g] = load_bytes(w[g] + 4 * kLanes * k);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Bytes four = repeat4(x + c * TileInputs<F, kColumns>::kStride + 4 * k);
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) {
        if constexpr (!kIsBlock32<F> && kIsShifted<F>)
          acc[g][c] = dot<false>(acc[g][c], widen_signed(four), weights[g]);
        else
          acc[g][c] = dot<F::kIsWide>(acc[g][c], weights[g], four);
      }
    }
  }
}

// acc[g][c] += block `b` of a span.
template <class F, int kGroups, int kColumns>
inline void multiply_block(const Panel32<F>* const (&panels)[kGroups], int b,
                           const TileInputs<F, kColumns>& x, Floats (&acc)[kGroups][kColumns], Ahead& ahead) {
  ahead.prefetch_part();
  Ints dots[kGroups][kColumns];
  const uint8_t* w[kGroups];
  for (int g = 0; g < kGroups; ++g) w[g] = panels[g][b].q;
  for (int c = 0; c < kColumns; ++c) {
    for (int g = 0; g < kGroups; ++g) dots[g][c] = less_offset<F>(x.scale_of(c, b));
  }
  dot_tile<F, kGroups, kColumns, 32>(dots, w, x.bytes(0, 32 * b));
  for (int g = 0; g < kGroups; ++g) {
    const Scales32 s = {load(panels[g][b].d), F::kHasMin ? load(panels[g][b].m) : zeros()};
    for (int c = 0; c < kColumns; ++c)
      acc[g][c] = accumulate32<F>(acc[g][c], dots[g][c], s, x.scale_of(c, b));
  }
}

// sums[g][c] = pairs of the panel times pairs of the activations' sums.
template <class F, int kGroups, int kColumns>
inline void dot_sums(Ints (&sums)[kGroups][kColumns], const Panel256<F>* const (&panels)[kGroups],
                     const TileInputs<F, kColumns>& x) {
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) sums[g][c] = splat(0);
  }
#pragma GCC unroll 8
  for (int i = 0; i < Panel256<F>::kSubs / 2; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Ints pair = x.sums_of(c, i);
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g)
        sums[g][c] = dot_pairs(sums[g][c], load(panels[g]->pairs + kLanes * i), pair);
    }
  }
}

// totals[g][c] = the products of the sub-blocks, by their integer scales.
template <class F, int kGroups, int kColumns>
inline void dot_subs(Ints (&totals)[kGroups][kColumns], const Panel256<F>* const (&panels)[kGroups],
                     const TileInputs<F, kColumns>& x, Ahead& ahead) {
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) totals[g][c] = splat(0);
  }
  const uint8_t* w[kGroups];
  const int32_t* scales[kGroups];
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
    w[g] = panels[g]->q;
    scales[g] = panels[g]->sub;
  }
  const int8_t* quarter = x.bytes(0, 0);
  for (int at = 0; at < kSpan; at += kQuarter, quarter += x.quarter_stride) {
    for (int i = 0; i < kQuarter; i += F::kSub) {
      if (i % 32 == 0) ahead.prefetch_part();
      Ints dots[kGroups][kColumns];
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g) {
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) dots[g][c] = splat(0);
      }
      dot_tile<F, kGroups, kColumns, F::kSub>(dots, w, quarter + i);
#pragma GCC unroll 2
      for (int g = 0; g < kGroups; ++g) {
        const Ints scale = load(scales[g]);
#pragma GCC unroll 8
        for (int c = 0; c < kColumns; ++c) totals[g][c] = add(totals[g][c], mul(dots[g][c], scale));
        w[g] += F::kSub * kLanes;
        scales[g] += kLanes;
      }
    }
  }
}

// A span of the strip in the panel.
template <class F>
struct Span {
  int64_t index;
  int n_blocks;
  typename Blocks<F>::Panel panels[kStripGroups][kSpanBlocks<F>];
};

// Adds the span to columns of the output, for kGroups groups; out(g, c) is where.
template <class F, int kGroups, int kColumns, class Out>
inline void add_span(const Panel32<F>* const (&panels)[kGroups], const Span<F>& span,
                     const TileInputs<F, kColumns>& x, const Out& out, Ahead& ahead) {
  Floats acc[kGroups][kColumns];
  for (int c = 0; c < kColumns; ++c) {
    for (int g = 0; g < kGroups; ++g) acc[g][c] = span.index == 0 ? zeros() : load(out(g, c));
  }
  for (int b = 0; b < span.n_blocks; ++b) multiply_block<F, kGroups, kColumns>(panels, b, x, acc, ahead);
  for (int c = 0; c < kColumns; ++c) {
    for (int g = 0; g < kGroups; ++g) store(out(g, c), acc[g][c]);
  }
}
template <class F, int kGroups, int kColumns, class Out>
inline void add_span(const Panel256<F>* const (&panels)[kGroups], const Span<F>& span,
                     const TileInputs<F, kColumns>& x, const Out& out, Ahead& ahead) {
  Ints totals[kGroups][kColumns], sums[kGroups][kColumns];
  dot_subs(totals, panels, x, ahead);
  hold_loads();
  if constexpr (Panel256<F>::kHasPairs) dot_sums(sums, panels, x);
  hold_loads();
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
    const Floats d = load(panels[g]->d), dmin = F::kHasMin ? load(panels[g]->dmin) : zeros();
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      Ints total = totals[g][c];
      if constexpr (kIsShifted<F>)
        total = sub(total, load(panels[g]->shift));
      else if constexpr (F::kOffset != 0)
        total = sub(total, mul(sums[g][c], splat(F::kOffset)));
      const Floats mins = F::kHasMin ? to_float(sums[g][c]) : zeros();
      float* to = out(g, c);
      const Floats acc = span.index == 0 ? zeros() : load(to);
      store(to, accumulate256<F>(acc, to_float(total), d, mins, dmin, x.scale[c]));
    }
  }
}

// The span times columns [first, first + kColumns), for kGroups groups from `group` on.
template <class F, int kGroups, int kColumns>
inline void multiply_columns(const StripProduct& p, const Span<F>& span, int group, int first, Ahead& ahead) {
  const typename Blocks<F>::Panel* panels[kGroups];
  for (int g = 0; g < kGroups; ++g) panels[g] = span.panels[group + g];
  const TileInputs<F, kColumns> x(*p.inputs, span.index, p.first_column + first);
  add_span<F, kGroups, kColumns>(
      panels, span, x,
      [&](int g, int c) { return p.out + (first + c) * p.out_stride + (group + g) * kLanes; }, ahead);
}

// All columns, in the widest tiles first.
template <class F, int kGroups, int kColumns = kTileColumns>
inline void multiply_tiles(const StripProduct& p, const Span<F>& span, int group, Ahead& ahead,
                           int first = 0) {
  for (; first + kColumns <= p.n_columns; first += kColumns)
    multiply_columns<F, kGroups, kColumns>(p, span, group, first, ahead);
  if constexpr (kColumns > 1) multiply_tiles<F, kGroups, kColumns - 1>(p, span, group, ahead, first);
}

template <class Lying, class AnySpan>
inline void expand_span(const StripProduct& p, AnySpan& span, Ahead& ahead) {
  using F = typename Lying::Format;
  const int64_t first = span.index * kSpanBlocks<F>;
  for (int g = 0; g < p.n_groups; ++g) {
    const Lying group(p.groups[g], p.row_bytes);
    for (int b = 0; b < span.n_blocks; ++b) expand_block<F>(group.block(first + b), span.panels[g][b], ahead);
  }
}

// The share of a span in the strip that follows, in parts for n_passes over the span, 32 elements each.
template <class F, class AnySpan>
inline Ahead ahead_of_span(const StripProduct& p, const AnySpan& span, int n_passes) {
  const int64_t share = p.n_groups * kLanes * F::kBytes;
  const uint8_t* strip = bytes_of(p.groups[0]);
  return {strip + p.n_groups * kLanes * p.row_bytes + span.index * kSpanBlocks<F> * share,
          span.n_blocks * share, n_passes * kSpan / 32};
}

// Calls body() for each span of the product, with its index and its number of blocks in `span`.
template <class F, class AnySpan, class Body>
inline void for_each_span(const StripProduct& p, AnySpan& span, const Body& body) {
  const int64_t n_blocks = p.inputs->n_in / Blocks<F>::kElems;
  for (span.index = p.first_span; span.index < p.end_span; ++span.index) {
    const int64_t n_left = n_blocks - span.index * kSpanBlocks<F>;
    span.n_blocks = static_cast<int>(n_left < kSpanBlocks<F> ? n_left : kSpanBlocks<F>);
    body();
  }
}

// Up to kColumns; more are computed, of what lies behind the last, and not written.
template <class Lying, int kColumns, bool kIsNear = false>
void multiply_direct(const StripProduct& p) {
  using F = typename Lying::Format;
  const int64_t n_blocks = p.inputs->n_in / Blocks<F>::kElems;
  for (int g = 0; g < p.n_groups; ++g) {
    const Lying group(p.groups[g], p.row_bytes);
    Floats acc[kColumns];
    float* out = p.out + g * kLanes;
    for (int c = 0; c < kColumns; ++c)
      acc[c] = p.first_span > 0 && c < p.n_columns ? load(out + c * p.out_stride) : zeros();
    for (int64_t span = p.first_span; span < p.end_span; ++span) {
      const TileInputs<F, kColumns> x(*p.inputs, span, p.first_column);
      const int64_t first = span * kSpanBlocks<F>;
      for (int b = 0; b < kSpanBlocks<F> && first + b < n_blocks; ++b) {
        const BlockAhead<F, kIsNear> ahead(p, g, first + b);
        const auto rows = [&] {
          if constexpr (kIsFew<kColumns>)
            return held(group.block(first + b));
          else
            return group.block(first + b);
        }();
        if constexpr (kIsBlock32<F>)
          multiply_direct32<F>(acc, rows, x, b, ahead);
        else
          multiply_direct256<F>(acc, rows, x, ahead);
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      if (c < p.n_columns) store(out + c * p.out_stride, acc[c]);
    }
  }
}

constexpr int kMostAtOnce = 8;  // columns
// So many columns take, in turns of at most kMostAtOnce, less than a panel and its tiles would.
constexpr int kMostInTurns = 32;

template <class Lying>
void multiply_at_once(const StripProduct& p) {
  if (p.n_columns == 1) return multiply_direct<Lying, 1>(p);
  if (p.n_columns == 2) return multiply_direct<Lying, 2>(p);
  if (p.n_columns <= 4) return multiply_direct<Lying, 4>(p);
  if (p.n_columns <= 6) return multiply_direct<Lying, 6>(p);
  multiply_direct<Lying, kMostAtOnce>(p);
}

// Turns as even as their kernels are: an odd column costs as much as two.
template <class Lying>
void multiply_in_turns(const StripProduct& p) {
  int n_turns = (p.n_columns + kMostAtOnce - 1) / kMostAtOnce;
  for (int first = 0; first < p.n_columns; --n_turns) {
    StripProduct part = p;
    part.first_column += first;
    const int n_left = p.n_columns - first, n_even = ((n_left + n_turns - 1) / n_turns + 1) / 2 * 2;
    part.n_columns = n_left < n_even ? n_left : n_even;
    part.out += first * p.out_stride;
    multiply_at_once<Lying>(part);
    first += part.n_columns;
  }
}

template <class Lying>
void multiply_quant(const StripProduct& p) {
  using F = typename Lying::Format;
  if constexpr (kReadsNear && Lying::kIsInterleaved && near_bytes<F>() > 0) {
    if (p.n_columns == 1 && p.reads_near) return multiply_direct<Lying, 1, /*kIsNear=*/true>(p);
  }
  if constexpr (kMultipliesFewAtOnce) {
    constexpr int kMost = Lying::kIsInterleaved ? kMostInTurns : kMostAtOnce;
    if (p.n_columns <= kMost) return multiply_in_turns<Lying>(p);
  } else {
    if (p.n_columns == 1) return multiply_direct<Lying, 1>(p);
  }
  Span<F> span;
  for_each_span<F>(p, span, [&] {
    const int n_tiles = (p.n_columns + kTileColumns - 1) / kTileColumns;  // or some more
    Ahead ahead =
        ahead_of_span<F>(p, span, p.n_groups + (p.n_groups + kTileGroups - 1) / kTileGroups * n_tiles);
    expand_span<Lying>(p, span, ahead);
    int group = 0;
    if constexpr (kTileGroups == 2) {
      for (; group + 2 <= p.n_groups; group += 2) multiply_tiles<F, 2>(p, span, group, ahead);
    }
    for (; group < p.n_groups; ++group) multiply_tiles<F, 1>(p, span, group, ahead);
  });
}

// Of formats whose rows do not come apart into quads.
template <class F>
constexpr Matmul quant_matmul_row_by_row() {
  return {.input = Blocks<F>::kInput,
          .multiply = multiply_quant<RowByRow<F>>,
          .multiply_interleaved = nullptr,
          .interleave = nullptr,
          .take_row = nullptr};
}

template <class F>
constexpr Matmul quant_matmul() {
  if constexpr (!kInterleaves) {
    return quant_matmul_row_by_row<F>();
  } else {
    return {.input = Blocks<F>::kInput,
            .multiply = multiply_quant<RowByRow<F>>,
            .multiply_interleaved = multiply_quant<Interleaved<F>>,
            .interleave = interleave<F>,
            .take_row = take_row<F>};
  }
}
