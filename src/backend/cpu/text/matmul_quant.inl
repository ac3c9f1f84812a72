// Products of quantised weights with int8 activations. Sums inside a block are integers, hence exact in any
// order; the float steps are one per block, in the order of the row, and the same in both paths:
//   one column      expands each block in registers and multiplies it at once: weights are read once
//   many columns    expands a strip of rows into a panel of bytes, then multiplies it with tiles of columns
// A lane is a row of the group, so a group's sums come out as one vector.

template <class F>
inline constexpr bool kIsBlock32 = F::kBytes < 40;

inline Rows rows_of(const std::byte* p, int64_t stride) {
  return {reinterpret_cast<const uint8_t*>(p), stride};
}

// A group is read as kLanes streams, too many and, as rows of small models are a kilobyte, too short for the
// prefetcher of a processor. So with each block comes its share of the group that follows in memory, as one
// stream, into the second level of cache. Behind the last row this asks for what is not read: a prefetch
// never faults.
template <class F>
inline void prefetch_next_group(const uint8_t* group, int64_t row_bytes, int64_t block) {
  constexpr int64_t kShare = kLanes * F::kBytes;
  const uint8_t* share = group + kLanes * row_bytes + block * kShare;
#pragma GCC unroll 64
  for (int64_t at = 0; at < kShare; at += 64) __builtin_prefetch(share + at, 0, 2);
}

// The float steps of a block of 32.
template <class F>
inline Floats accumulate32(Floats acc, Ints dots, const Scales32& s, const InputScale32& x) {
  acc = fma(to_float(dots), mul(s.d, splat(x.scale)), acc);
  if constexpr (F::kHasMin) acc = fma(s.m, splat(x.scaled_sum), acc);
  return acc;
}

// The float steps of a block of 256; `dots` with the integer scales, `mins` the minima times the sums.
template <class F>
inline Floats accumulate256(Floats acc, Ints dots, Ints mins, Floats d, Floats dmin, float x_scale) {
  acc = fma(to_float(dots), mul(d, splat(x_scale)), acc);
  if constexpr (F::kHasMin) acc = fnma(to_float(mins), mul(dmin, splat(x_scale)), acc);
  return acc;
}

template <class F>
inline Floats multiply_one32(Rows rows, int64_t n_blocks, const int8_t* x, const InputScale32* x_scales) {
  Floats acc = zeros();
  const uint8_t* group = rows.p;
  for (int64_t b = 0; b < n_blocks; ++b, rows.p += F::kBytes) {
    prefetch_next_group<F>(group, rows.stride, b);
    const Bytes x32 = repeat32(x + 32 * b);
    Ints d[kByteVectors];
    for (int v = 0; v < kByteVectors; ++v) d[v] = dot<F::kIsWide>(splat(0), F::expand(rows, v), x32);
    const Ints dots = sub(sums(d), splat(F::kOffset * x_scales[b].sum));
    acc = accumulate32<F>(acc, dots, F::scales(rows), x_scales[b]);
  }
  return acc;
}

// Adds the c-th 32 of a block of 256, times its scales.
template <class F>
inline Ints add_chunk(Ints acc, Rows rows, int c, const int8_t* x, const InputScale256& x_scale,
                      const Scales256& s) {
  const Bytes x32 = repeat32(x + 32 * c);
  Ints d[kByteVectors];
  for (int v = 0; v < kByteVectors; ++v) d[v] = dot<F::kIsWide>(splat(0), F::expand(rows, v, c), x32);
  if constexpr (F::kSub == 32) {
    return add(acc, mul(sub(sums(d), splat(F::kOffset * x_scale.sums32[c])), s.sub[c]));
  } else {
    const Halves halves = half_sums(d);
    const Ints low = sub(halves.low, splat(F::kOffset * x_scale.sums16[2 * c]));
    const Ints high = sub(halves.high, splat(F::kOffset * x_scale.sums16[2 * c + 1]));
    return add(add(acc, mul(low, s.sub[2 * c])), mul(high, s.sub[2 * c + 1]));
  }
}

template <class F>
inline const int16_t* sums_of(const InputScale256& x_scale) {
  return F::kSub == 32 ? x_scale.sums32 : x_scale.sums16;
}

template <class F>
inline Floats multiply_one256(Rows rows, int64_t n_blocks, const int8_t* x, const InputScale256* x_scales) {
  Floats acc = zeros();
  const uint8_t* group = rows.p;
  for (int64_t b = 0; b < n_blocks; ++b, rows.p += F::kBytes, x += 256) {
    prefetch_next_group<F>(group, rows.stride, b);
    const Scales256 s = F::scales(rows);
    Ints mins = splat(0);
    if constexpr (F::kHasMin) {
      for (int i = 0; i < 256 / F::kSub; ++i)
        mins = add(mins, mul(s.min[i], splat(static_cast<int32_t>(sums_of<F>(x_scales[b])[i]))));
    }
    Ints dots = splat(0);
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) dots = add_chunk<F>(dots, rows, c, x, x_scales[b], s);
    acc = accumulate256<F>(acc, dots, mins, s.d, s.dmin, x_scales[b].scale);
  }
  return acc;
}

// The panel of a group is a run of these, one per block: vector k of `q` holds bytes [4k, 4k + 4) of every
// row. Nothing of the format is left but offset and scales.
template <class F>
struct alignas(64) Panel32 {
  uint8_t q[32 * kLanes];
  float d[kLanes];
  float m[F::kHasMin ? kLanes : 0];
};
template <class F>
struct alignas(64) Panel256 {
  static constexpr int kSubs = 256 / F::kSub;
  uint8_t q[256 * kLanes];
  int32_t sub[kSubs * kLanes];
  // What the sums of the activations are multiplied with, two int16 a lane: the minima, or -offset * scale.
  int32_t pairs[F::kHasMin || F::kOffset != 0 ? kSubs / 2 * kLanes : 0];
  float d[kLanes];
  float dmin[F::kHasMin ? kLanes : 0];
};

template <class F>
inline void expand_panel(Rows rows, int64_t n_blocks, Panel32<F>* panel) {
  const uint8_t* group = rows.p;
  for (int64_t b = 0; b < n_blocks; ++b, rows.p += F::kBytes) {
    prefetch_next_group<F>(group, rows.stride, b);
    Bytes w[kByteVectors];
    for (int v = 0; v < kByteVectors; ++v) w[v] = F::expand(rows, v);
    transpose(w, panel[b].q);
    const Scales32 s = F::scales(rows);
    store(panel[b].d, s.d);
    if constexpr (F::kHasMin) store(panel[b].m, s.m);
  }
}

template <class F>
inline void expand_panel(Rows rows, int64_t n_blocks, Panel256<F>* panel) {
  const uint8_t* group = rows.p;
  for (int64_t b = 0; b < n_blocks; ++b, rows.p += F::kBytes) {
    prefetch_next_group<F>(group, rows.stride, b);
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      Bytes w[kByteVectors];
      for (int v = 0; v < kByteVectors; ++v) w[v] = F::expand(rows, v, c);
      transpose(w, panel[b].q + 32 * kLanes * c);
    }
    const Scales256 s = F::scales(rows);
    store(panel[b].d, s.d);
    if constexpr (F::kHasMin) store(panel[b].dmin, s.dmin);
    for (int i = 0; i < 256 / F::kSub; ++i) store(panel[b].sub + kLanes * i, s.sub[i]);
    if constexpr (F::kHasMin || F::kOffset != 0) {
      const auto factor = [&](int i) { return F::kHasMin ? s.min[i] : mul(s.sub[i], splat(-F::kOffset)); };
      for (int i = 0; i < 256 / F::kSub; i += 2) {
        const Ints pair = bit_or(bit_and(factor(i), splat(0xffff)), shift_left(factor(i + 1), 16));
        store(panel[b].pairs + kLanes * (i / 2), pair);
      }
    }
  }
}

inline Bytes load_bytes(const uint8_t* p) {
  Bytes out;
  __builtin_memcpy(&out, p, sizeof out);
  return out;
}
// In a panel a vector of weights covers all lanes, four bytes each.
static_assert(sizeof(Bytes) == 4 * kLanes);

// What the columns of one tile are.
template <class Scale, int kColumns>
struct TileInputs {
  const int8_t* q[kColumns];
  const Scale* scale[kColumns];
};

// acc[g][c] += n bytes of depth from `w` (one pointer a group) times columns' bytes from `x_at` on.
template <class F, int kGroups, int kColumns, int kDepth, class Scale>
inline void dot_tile(Ints (&acc)[kGroups][kColumns], const uint8_t* const (&w)[kGroups],
                     const TileInputs<Scale, kColumns>& x, int64_t x_at) {
#pragma GCC unroll 8
  for (int k = 0; k < kDepth / 4; ++k) {
    Bytes weights[kGroups];
    for (int g = 0; g < kGroups; ++g) weights[g] = load_bytes(w[g] + 4 * kLanes * k);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) {
      const Bytes four = repeat4(x.q[c] + x_at + 4 * k);
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) acc[g][c] = dot<F::kIsWide>(acc[g][c], weights[g], four);
    }
  }
}

template <class F, int kGroups, int kColumns>
inline void multiply_tile(const Panel32<F>* const (&panels)[kGroups], int64_t n_blocks,
                          const TileInputs<InputScale32, kColumns>& x, Floats (&acc)[kGroups][kColumns]) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    Ints dots[kGroups][kColumns];
    const uint8_t* w[kGroups];
    for (int g = 0; g < kGroups; ++g) w[g] = panels[g][b].q;
    for (int c = 0; c < kColumns; ++c) {
      for (int g = 0; g < kGroups; ++g)
        dots[g][c] = F::kOffset == 0 ? splat(0) : splat(-F::kOffset * x.scale[c][b].sum);
    }
    dot_tile<F, kGroups, kColumns, 32>(dots, w, x, 32 * b);
    for (int g = 0; g < kGroups; ++g) {
      const Scales32 s = {load(panels[g][b].d), F::kHasMin ? load(panels[g][b].m) : zeros()};
      for (int c = 0; c < kColumns; ++c) acc[g][c] = accumulate32<F>(acc[g][c], dots[g][c], s, x.scale[c][b]);
    }
  }
}

// sums[g][c] += pairs of int16 in the panel times pairs of the activations' sums.
template <class F, int kGroups, int kColumns>
inline void dot_sums(Ints (&sums)[kGroups][kColumns], const Panel256<F>* const (&panels)[kGroups], int64_t b,
                     const TileInputs<InputScale256, kColumns>& x) {
  for (int i = 0; i < Panel256<F>::kSubs / 2; ++i) {
    for (int c = 0; c < kColumns; ++c) {
      const Ints pair = repeat_pair(sums_of<F>(x.scale[c][b]) + 2 * i);
      for (int g = 0; g < kGroups; ++g)
        sums[g][c] = dot_pairs(sums[g][c], load(panels[g][b].pairs + kLanes * i), pair);
    }
  }
}

template <class F, int kGroups, int kColumns>
inline void multiply_tile(const Panel256<F>* const (&panels)[kGroups], int64_t n_blocks,
                          const TileInputs<InputScale256, kColumns>& x, Floats (&acc)[kGroups][kColumns]) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    Ints totals[kGroups][kColumns], mins[kGroups][kColumns];
    for (int g = 0; g < kGroups; ++g) {
      for (int c = 0; c < kColumns; ++c) totals[g][c] = mins[g][c] = splat(0);
    }
    if constexpr (F::kHasMin) dot_sums(mins, panels, b, x);
    if constexpr (F::kOffset != 0) dot_sums(totals, panels, b, x);
    for (int i = 0; i < Panel256<F>::kSubs; ++i) {
      Ints dots[kGroups][kColumns];
      const uint8_t* w[kGroups];
      for (int g = 0; g < kGroups; ++g) {
        w[g] = panels[g][b].q + F::kSub * kLanes * i;
        for (int c = 0; c < kColumns; ++c) dots[g][c] = splat(0);
      }
      dot_tile<F, kGroups, kColumns, F::kSub>(dots, w, x, 256 * b + F::kSub * i);
      for (int g = 0; g < kGroups; ++g) {
        const Ints scale = load(panels[g][b].sub + kLanes * i);
        for (int c = 0; c < kColumns; ++c) totals[g][c] = add(totals[g][c], mul(dots[g][c], scale));
      }
    }
    for (int g = 0; g < kGroups; ++g) {
      const Floats d = load(panels[g][b].d);
      const Floats dmin = F::kHasMin ? load(panels[g][b].dmin) : zeros();
      for (int c = 0; c < kColumns; ++c)
        acc[g][c] = accumulate256<F>(acc[g][c], totals[g][c], mins[g][c], d, dmin, x.scale[c][b].scale);
    }
  }
}

// What blocks of 32 and of 256 differ in, for the driver below.
template <class F, bool kIs32 = kIsBlock32<F>>
struct Blocks;
template <class F>
struct Blocks<F, true> {
  using Panel = Panel32<F>;
  using Scale = InputScale32;
  static constexpr InputKind kInput = InputKind::int8_32;
  static constexpr int kElems = 32;
  static const int8_t* q(const Inputs& x) { return x.int8_32; }
  static const Scale* scale(const Inputs& x) { return x.scale32; }
  static Floats one(Rows rows, int64_t n_blocks, const int8_t* x, const Scale* s) {
    return multiply_one32<F>(rows, n_blocks, x, s);
  }
};
template <class F>
struct Blocks<F, false> {
  using Panel = Panel256<F>;
  using Scale = InputScale256;
  static constexpr InputKind kInput = InputKind::int8_256;
  static constexpr int kElems = 256;
  static const int8_t* q(const Inputs& x) { return x.int8_256; }
  static const Scale* scale(const Inputs& x) { return x.scale256; }
  static Floats one(Rows rows, int64_t n_blocks, const int8_t* x, const Scale* s) {
    return multiply_one256<F>(rows, n_blocks, x, s);
  }
};

// Columns [first, first + kColumns) of the product, for kGroups groups from `group` on.
template <class F, int kGroups, int kColumns>
inline void multiply_columns(const StripProduct& p, int group, int first) {
  using B = Blocks<F>;
  const int64_t n_blocks = p.inputs->n_in / B::kElems;
  const auto* panel = reinterpret_cast<const typename B::Panel*>(p.panel);
  const typename B::Panel* panels[kGroups];
  for (int g = 0; g < kGroups; ++g) panels[g] = panel + (group + g) * n_blocks;
  TileInputs<typename B::Scale, kColumns> x;
  Floats acc[kGroups][kColumns];
  for (int c = 0; c < kColumns; ++c) {
    x.q[c] = B::q(*p.inputs) + p.columns[first + c] * p.inputs->n_in;
    x.scale[c] = B::scale(*p.inputs) + p.columns[first + c] * n_blocks;
    for (int g = 0; g < kGroups; ++g) acc[g][c] = zeros();
  }
  multiply_tile<F, kGroups, kColumns>(panels, n_blocks, x, acc);
  for (int c = 0; c < kColumns; ++c) {
    for (int g = 0; g < kGroups; ++g)
      store(p.out + (first + c) * p.out_stride + (group + g) * kLanes, acc[g][c]);
  }
}

// All columns, in the widest tiles first.
template <class F, int kGroups, int kColumns = kTileColumns>
inline int multiply_tiles(const StripProduct& p, int group, int first = 0) {
  for (; first + kColumns <= p.n_columns; first += kColumns)
    multiply_columns<F, kGroups, kColumns>(p, group, first);
  if constexpr (kColumns > 1) {
    return multiply_tiles<F, kGroups, kColumns - 1>(p, group, first);
  } else {
    return first;
  }
}

template <class F>
void multiply_quant(const StripProduct& p) {
  using B = Blocks<F>;
  const int64_t n_blocks = p.inputs->n_in / B::kElems;
  if (p.n_columns == 1) {
    const int64_t column = p.columns[0];
    for (int g = 0; g < p.n_groups; ++g) {
      store(p.out + g * kLanes,
            B::one(rows_of(p.groups[g], p.row_bytes), n_blocks, B::q(*p.inputs) + column * p.inputs->n_in,
                   B::scale(*p.inputs) + column * n_blocks));
    }
    return;
  }
  auto* panel = reinterpret_cast<typename B::Panel*>(p.panel);
  for (int g = 0; g < p.n_groups; ++g)
    expand_panel<F>(rows_of(p.groups[g], p.row_bytes), n_blocks, panel + g * n_blocks);
  int group = 0;
  if constexpr (kTileGroups == 2) {
    for (; group + 2 <= p.n_groups; group += 2) multiply_tiles<F, 2>(p, group);
  }
  for (; group < p.n_groups; ++group) multiply_tiles<F, 1>(p, group);
}

template <class F>
int64_t quant_panel_bytes(int64_t n_in) {
  using B = Blocks<F>;
  return kStripGroups * (n_in / B::kElems) * static_cast<int64_t>(sizeof(typename B::Panel));
}

template <class F>
constexpr Matmul quant_matmul() {
  return {Blocks<F>::kInput, multiply_quant<F>, quant_panel_bytes<F>};
}
