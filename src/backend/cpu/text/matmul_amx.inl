// Products of weights in blocks of 256 with many columns, on the tiles of AMX: sixteen columns times the
// sixteen rows of a group at a time. What tiles add up are integers, and the float steps are those of
// matmul_quant.inl in the same order: so are the bits.
//
// A block has its scales multiplied into the weights, that the tiles may run over all of it. As products of
// codes and scales take up to 13 bits, they are cut into two planes of bytes, a low and a high one, that are
// multiplied by themselves: the sum is low + 2^kHighBits * high.

constexpr int kTileBytes = 1024;

// What was written before is in memory: the compiler does not know what tile instructions read.
inline void finish_writes() { asm volatile("" ::: "memory"); }

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t n_rows[16] = {};
};

// Tiles, to the end of the scope: 4 and 5 of n_rows of `depth` bytes, times 6 and 7 of n_columns (of 4
// bytes), to 0 to 3.
class TileScope {
 public:
  TileScope(int n_rows, int n_columns, int depth = 64) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
      const bool is_left = i == 4 || i == 5, is_right = i > 5;
      config.row_bytes[i] = static_cast<uint16_t>(is_left ? depth : 4 * n_columns);
      config.n_rows[i] = static_cast<uint8_t>(is_right ? depth / 4 : n_rows);
    }
    finish_writes();
    _tile_loadconfig(&config);
  }
  TileScope(const TileScope&) = delete;
  TileScope& operator=(const TileScope&) = delete;
  ~TileScope() { _tile_release(); }
};

// Instructions on tiles whose numbers templates give; _tile_zero() and its like want literals.
template <int kTile>
inline void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
template <int kTile>
inline void load_tile(const void* p, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(p), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline void store_tile(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(p), "r"(stride), "i"(kTile) : "memory");
}
template <int kSum, int kFirst, int kSecond>
inline void add_signed_dots() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kFirst), "i"(kSecond));
}
// body.template operator()<i>() for i < n, unrolled.
template <int n, class Body>
inline void for_each_tile(const Body& body) {
  if constexpr (n > 0) {
    for_each_tile<n - 1>(body);
    body.template operator()<n - 1>();
  }
}

// Two int16 in a lane, both x.
inline Ints twice(Ints x) { return bit_or(bit_and(x, splat(0xffff)), shift_left(x, 16)); }
inline Ints mul16(Ints a, Ints b) { return _mm512_mullo_epi16(a, b); }

// Weights with their scales. Codes up to 31 without an offset times three bits of the scale fit a byte.
template <class F>
struct Planes {
  static constexpr bool kIsUnsigned = F::kHasMin;
  static constexpr int kHighBits = kIsUnsigned ? 3 : 7;

  explicit Planes(Ints scale)
      : low_scale(twice(kIsUnsigned ? bit_and(scale, splat(7)) : scale)),
        high_scale(kIsUnsigned ? twice(shift_right(scale, 3)) : mul16(low_scale, twice(splat(-F::kOffset)))) {
  }

  void store_codes(Bytes codes, uint8_t* low, uint8_t* high) const {
    if constexpr (kIsUnsigned) {
      store_bytes(low, mul16(codes, low_scale));  // no product of a byte carries into the next
      store_bytes(high, mul16(codes, high_scale));
    } else {
      const Ints bytes = splat(0x00ff00ff);
      const auto product = [&](Ints two) { return _mm512_add_epi16(mul16(two, low_scale), high_scale); };
      const Ints even = product(bit_and(codes, bytes)), odd = product(_mm512_srli_epi16(codes, 8));
      // x where the mask has ones, else y
      const auto select = [&](Ints x, Ints y) { return _mm512_ternarylogic_epi32(bytes, x, y, 0xca); };
      store_bytes(low, bit_and(select(even, _mm512_slli_epi16(odd, 8)), splat(0x7f7f7f7f)));
      store_bytes(high, select(_mm512_srli_epi16(even, 7), _mm512_slli_epi16(odd, 1)));
    }
  }

  Ints low_scale;   // of unsigned codes its lower three bits, else all of it
  Ints high_scale;  // of unsigned codes the upper bits, else -offset * scale
};

template <class F>
struct alignas(64) TilePanel {
  static constexpr int kPairs = F::kHasMin ? 128 / F::kSub : 0;
  uint8_t low[256 * kLanes];
  uint8_t high[256 * kLanes];
  int32_t pairs[kPairs * kLanes];
  float d[kLanes];
  float dmin[kLanes];
};

template <class F, class R>
inline void expand_block(R rows, TilePanel<F>& panel, Ahead& ahead) {
  const Scales256 s = F::scales(rows);
  store(panel.d, s.d);
  store(panel.dmin, s.dmin);
  for (int i = 0; i < TilePanel<F>::kPairs; ++i) store(panel.pairs + kLanes * i, s.pairs[i]);
  F::expand(rows, [&](int c, const auto& code) {
    ahead.prefetch_part();
    constexpr int kSubsAChunk = 32 / F::kSub;
#pragma GCC unroll 2
    for (int i = 0; i < kSubsAChunk; ++i) {
      const Planes<F> planes(s.sub[kSubsAChunk * c + i]);
#pragma GCC unroll 8
      for (int j = 0; j < F::kSub / 4; ++j) {
        const int k = i * F::kSub / 4 + j;
        const int at = 4 * kLanes * (8 * c + k);
        planes.store_codes(code(k), panel.low + at, panel.high + at);
      }
    }
  });
}

template <class F>
struct TileSpan {
  int64_t index;
  int n_blocks;  // 1
  TilePanel<F> panels[kStripGroups][1];
};

// What tiles 0 to 3 held: sums of 16 columns and a group, [column][lane], low and high ones in turn.
struct alignas(64) TileSums {
  int32_t of[4][kTileColumnsAmx * kLanes];
};

inline void store_tiles(TileSums& sums) {
  _tile_stored(0, sums.of[0], 64);
  _tile_stored(1, sums.of[1], 64);
  _tile_stored(2, sums.of[2], 64);
  _tile_stored(3, sums.of[3], 64);
}

// 32 columns times a group, with the sums left in the tiles.
template <class F>
inline void dot_tiles(const TilePanel<F>& panel, const int8_t* x) {
  constexpr int kNext = kTileColumnsAmx * kSpan;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    _tile_loadd(6, panel.low + kTileBytes * k, 64);
    _tile_loadd(7, panel.high + kTileBytes * k, 64);
    _tile_loadd(4, x + 64 * k, kSpan);
    _tile_loadd(5, x + 64 * k + kNext, kSpan);
    if constexpr (Planes<F>::kIsUnsigned) {
      _tile_dpbsud(0, 4, 6);
      _tile_dpbsud(1, 4, 7);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    } else {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(1, 4, 7);
      _tile_dpbssd(2, 5, 6);
      _tile_dpbssd(3, 5, 7);
    }
  }
}

// What the float steps of a group take from its panel.
template <class F>
struct TileScales {
  static constexpr int kPairs = TilePanel<F>::kPairs;

  explicit TileScales(const TilePanel<F>& panel) : d(load(panel.d)), dmin(load(panel.dmin)) {
    for (int i = 0; i < kPairs; ++i) pairs[i] = load(panel.pairs + kLanes * i);
  }
  // The sums of a column, whose activations have this scale.
  Floats add(Floats acc, Ints low, Ints high, const InputScale256& scale) const {
    acc = add_dots(acc, cpu::add(low, shift_left(high, Planes<F>::kHighBits)), d, scale.scale);
    if constexpr (F::kHasMin) {
      Ints mins = splat(0);
#pragma GCC unroll 8
      for (int i = 0; i < kPairs; ++i)
        mins = dot_pairs(mins, pairs[i], repeat_pair(sums_of<F>(scale) + 2 * i));
      acc = take_mins(acc, mins, dmin, scale.scale);
    }
    return acc;
  }

  Floats d;
  Floats dmin;
  Ints pairs[kPairs > 0 ? kPairs : 1];
};

// 32 columns and a group.
template <class F>
struct TileStep {
  static constexpr int kColumns = 2 * kTileColumnsAmx;

  // Steps over groups, then over columns. False behind the last one.
  bool advance(const StripProduct& p) {
    if (++group < p.n_groups) return true;
    group = 0;
    first += kColumns;
    return first < p.n_columns;
  }
  TileInputs<F, kColumns> inputs(const StripProduct& p, const TileSpan<F>& span) const {
    return {*p.inputs, span.index, p.first_column + first};
  }
  // Tiles reach beyond the last column, into memory that InputMemory has for it.
  void dot(const StripProduct& p, const TileSpan<F>& span) const {
    dot_tiles(span.panels[group][0], inputs(p, span).q);
  }
  void add(const StripProduct& p, const TileSpan<F>& span, const TileSums& sums, Ahead& ahead) const {
    const TileScales<F> scales(span.panels[group][0]);
    const InputScale256* scale = inputs(p, span).scale;
    float* out = p.out + first * p.out_stride + group * kLanes;
    const int n = p.n_columns - first < kColumns ? p.n_columns - first : kColumns;
    for (int c = 0; c < n; ++c, out += p.out_stride, ++scale) {
      if (c % 4 == 0) ahead.prefetch_part();  // kSpan / 32 times a step
      const int tile = c / kTileColumnsAmx, at = c % kTileColumnsAmx * kLanes;
      store(out,
            scales.add(load(out), load(sums.of[2 * tile] + at), load(sums.of[2 * tile + 1] + at), *scale));
    }
  }

  int group = 0;
  int first = 0;
};

// While tiles work on a step, the sums of the one before are added: the tiles are stored after that, or loads
// would have to wait for stores that wait for the tiles.
template <class F>
inline void multiply_span(const StripProduct& p, const TileSpan<F>& span, Ahead& ahead) {
  TileSums sums;
  TileStep<F> step;
  step.dot(p, span);
  store_tiles(sums);
  for (;;) {
    const TileStep<F> before = step;
    const bool goes_on = step.advance(p);
    if (goes_on) step.dot(p, span);
    before.add(p, span, sums, ahead);
    if (!goes_on) return;
    store_tiles(sums);
  }
}

template <class Lying>
void multiply_many(const StripProduct& p) {
  using F = typename Lying::Format;
  const TileScope tiles(kTileColumnsAmx, kLanes);
  TileSpan<F> span;
  span.n_blocks = 1;
  for (span.index = 0; span.index < p.inputs->n_in / kSpan; ++span.index) {
    const int n_steps = (p.n_columns + TileStep<F>::kColumns - 1) / TileStep<F>::kColumns;
    Ahead ahead = ahead_of_span<F>(p, span, p.n_groups * (1 + n_steps));
    expand_span<Lying>(p, span, ahead);
    finish_writes();
    multiply_span(p, span, ahead);
  }
}

template <class F, int kSum, int kFirst, int kSecond>
inline void add_dots_of_tiles() {
  if constexpr (Planes<F>::kIsUnsigned)
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kFirst), "i"(kSecond));
  else
    add_signed_dots<kSum, kFirst, kSecond>();
}

// Up to 16 columns times a group: in tiles 0 and 2 the low, in 1 and 3 the high ones, as a product waits long
// for the tile it is added to.
template <class F>
inline void dot_few(const TilePanel<F>& panel, const int8_t* x) {
  for_each_tile<4>([]<int i>() { zero_tile<i>(); });
  for_each_tile<4>([&]<int k>() {
    load_tile<4>(x + 64 * k, kSpan);
    load_tile<6>(panel.low + kTileBytes * k, 64);
    load_tile<7>(panel.high + kTileBytes * k, 64);
    add_dots_of_tiles<F, k % 2 * 2, 4, 6>();
    add_dots_of_tiles<F, k % 2 * 2 + 1, 4, 7>();
  });
}

// A block of a group, all columns: what multiply_few steps over, groups first.
template <class Lying>
struct FewStep {
  using F = typename Lying::Format;

  FewStep(const StripProduct& p, int64_t i) : group(static_cast<int>(i % p.n_groups)), span(i / p.n_groups) {}

  auto rows(const StripProduct& p) const { return Lying(p.groups[group], p.row_bytes).block(span); }
  TileInputs<F, kTileColumnsAmx> inputs(const StripProduct& p) const {
    return {*p.inputs, span, p.first_column};
  }
  // The share of this step in the strip that follows, for one expansion and the sums of all columns.
  Ahead ahead(const StripProduct& p) const {
    const uint8_t* next = bytes_of(p.groups[0]) + p.n_groups * kLanes * p.row_bytes;
    constexpr int64_t kShare = kLanes * F::kBytes;
    return {next + (span * p.n_groups + group) * kShare, kShare, kSpan / 32 + p.n_columns};
  }
  void add(const StripProduct& p, const TilePanel<F>& panel, const TileSums& sums, Ahead& ahead) const {
    const TileScales<F> scales(panel);
    const InputScale256* scale = inputs(p).scale;
    float* out = p.out + group * kLanes;
    for (int c = 0; c < p.n_columns; ++c, out += p.out_stride) {
      ahead.prefetch_part();
      const auto sum = [&](int tile) {
        return cpu::add(load(sums.of[tile] + c * kLanes), load(sums.of[tile + 2] + c * kLanes));
      };
      store(out, scales.add(load(out), sum(0), sum(1), scale[c]));
    }
  }

  int group;
  int64_t span;
};

// While tiles work on a step, the weights of the next one are expanded.
template <class Lying>
void multiply_few(const StripProduct& p) {
  using F = typename Lying::Format;
  const TileScope tiles(p.n_columns, kLanes);
  TilePanel<F> panels[2];
  TileSums sums;
  const int64_t n_steps = p.inputs->n_in / kSpan * p.n_groups;
  FewStep<Lying> step(p, 0);
  Ahead ahead = step.ahead(p);
  expand_block<F>(step.rows(p), panels[0], ahead);
  for (int64_t i = 0; i < n_steps; ++i) {
    finish_writes();
    dot_few<F>(panels[i % 2], step.inputs(p).q);
    const FewStep<Lying> before = step;
    ahead = step.ahead(p);
    if (i + 1 < n_steps) {
      step = FewStep<Lying>(p, i + 1);
      expand_block<F>(step.rows(p), panels[(i + 1) % 2], ahead);
    }
    store_tiles(sums);
    before.add(p, panels[i % 2], sums, ahead);
  }
}

template <class Lying>
void multiply_amx(const StripProduct& p) {
  for (int c = 0; c < p.n_columns; ++c) {
    for (int g = 0; g < p.n_groups; ++g) store(p.out + c * p.out_stride + g * kLanes, zeros());
  }
  if (p.n_columns <= kTileColumnsAmx) return multiply_few<Lying>(p);
  multiply_many<Lying>(p);
}
