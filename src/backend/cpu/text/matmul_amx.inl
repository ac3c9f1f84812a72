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

template <class F>
constexpr int most_code() {
  if constexpr (F::kHasMin) return F::kMostCode;
  return 0;
}

// Weights with their scales. Codes up to 31 without an offset times three bits of the scale fit a byte.
template <class F>
struct Planes {
  static constexpr bool kIsUnsigned = F::kHasMin;
  static constexpr int kHighBits = kIsUnsigned ? 3 : 7;
  // What 256 bytes of the low plane times activations may add up to.
  static constexpr int kMostLow = (kIsUnsigned ? 7 * most_code<F>() : 127) * 128 * 256;

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
  int32_t pairs[kPairs * kLanes];              // as in Scales256
  int32_t mins[F::kHasMin ? 16 * kLanes : 0];  // minima of each 16 values, twice, in bfloat16
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

// Fills panel.mins. The minimum of a sub-block has its place among the pairs as its sum has it.
template <class F>
inline void lay_out_mins(TilePanel<F>& panel) {
  for (int i = 0; i < 16; ++i) {
    const int sub = i * 16 / F::kSub;
    const Ints pair = load(panel.pairs + kLanes * (sub / 4 * 2 + sub % 2));
    const Ints min = sub % 4 < 2 ? bit_and(pair, splat(0xffff)) : shift_right(pair, 16);
    store(panel.mins + kLanes * i, twice(shift_right(float_to_bits(to_float(min)), 16)));
  }
}

template <class F>
struct TileSpan {
  int64_t index;
  int n_blocks;  // 1
  TilePanel<F> panels[kStripGroups][1];
};

// What tiles 0 to 3 held: sums of 16 columns and a group, [column][lane], low and high ones in turn.
using TileDots = int32_t[4][kTileColumnsAmx * kLanes];

inline void store_tiles(TileDots& dots) {
  for_each_tile<4>([&]<int i>() { store_tile<i>(dots[i], 64); });
}

struct alignas(64) TileSums {
  TileDots of;
  float mins[2][kTileColumnsAmx * kLanes];  // times sums, of tiles 5 and 7
};

template <class F, int kSum, int kFirst, int kSecond>
inline void add_dots_of_tiles() {
  if constexpr (Planes<F>::kIsUnsigned)
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kFirst), "i"(kSecond));
  else
    add_signed_dots<kSum, kFirst, kSecond>();
}

// Tile kSum = minima of the panel times sums of up to 16 columns: integers below 2^24, hence exact. Tiles 4
// and 6 are lost.
template <class F, int kSum>
inline void dot_mins(const TilePanel<F>& panel, const InputPairs256* pairs) {
  load_tile<4>(pairs, sizeof *pairs);
  load_tile<6>(panel.mins, 64);
  zero_tile<kSum>();
  asm volatile("tdpbf16ps %%tmm6, %%tmm4, %%tmm%c0" : : "i"(kSum));
}

// Of integers below 2^22, by additions: beside tiles at work conversions have one port and additions two.
inline Floats small_to_float(Ints x) {
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23: what follows it are integers
  return sub(bits_to_float(add(x, float_to_bits(splat(kWhole)))), splat(kWhole));
}

// As to_float(low + (high << kHighBits)).
template <class F>
inline Floats join_planes(Ints low, Ints high) {
  const Floats low_part = Planes<F>::kMostLow < 1 << 22 ? small_to_float(low) : to_float(low);
  return fma(small_to_float(high), splat(float{1 << Planes<F>::kHighBits}), low_part);
}

// 32 columns and a group, in four parts.
template <class F>
struct TileStep {
  static constexpr int kColumns = 2 * kTileColumnsAmx;
  static constexpr int kPartColumns = kColumns / 4;

  // Steps over groups, then over columns.
  void advance(const StripProduct& p) {
    if (++group < p.n_groups) return;
    group = 0;
    first += kColumns;
  }
  TileInputs<F, kColumns> inputs(const StripProduct& p, const TileSpan<F>& span) const {
    return {*p.inputs, span.index, p.first_column + first};
  }
  // A quarter of the products; the first begins with what the step before has left in the tiles. Tiles reach
  // beyond the last column, into memory that InputMemory has for it.
  template <int kPart>
  void dot(const StripProduct& p, const TileSpan<F>& span, TileSums& before) const {
    const TilePanel<F>& panel = span.panels[group][0];
    const auto x = inputs(p, span);
    load_tile<6>(panel.low + kTileBytes * kPart, 64);
    load_tile<4>(x.bytes(0, kQuarter * kPart), kQuarter);
    load_tile<7>(panel.high + kTileBytes * kPart, 64);
    load_tile<5>(x.bytes(kTileColumnsAmx, kQuarter * kPart), kQuarter);
    for_each_tile<4>([&]<int i>() {
      if constexpr (kPart == 0) {
        store_tile<i>(before.of[i], 64);
        zero_tile<i>();
      }
      add_dots_of_tiles<F, i, 4 + i / 2, 6 + i % 2>();
    });
  }
  void dot_sums(const StripProduct& p, const TileSpan<F>& span, TileSums& sums) const {
    if constexpr (F::kHasMin) {
      const InputPairs256* pairs =
          p.inputs->pairs256 + span.index * p.inputs->n_columns + p.first_column + first;
      dot_mins<F, 7>(span.panels[group][0], pairs);
      dot_mins<F, 5>(span.panels[group][0], pairs + kTileColumnsAmx);
      store_tile<7>(sums.mins[0], 64);
      store_tile<5>(sums.mins[1], 64);
    }
  }
  // The sums of a quarter of the columns.
  template <int kPart>
  void add(const StripProduct& p, const TileSpan<F>& span, const TileSums& sums, Ahead& ahead) const {
    const Floats d = load(span.panels[group][0].d), dmin = load(span.panels[group][0].dmin);
    const float* scale = inputs(p, span).scale + kPart * kPartColumns;
    constexpr int kTile = kPart / 2, kAt = kPart % 2 * kPartColumns * kLanes;
    float* out = p.out + (first + kPart * kPartColumns) * p.out_stride + group * kLanes;
    const auto add_column = [&](int c) {
      if (c % 4 == 0) ahead.prefetch_part();  // kSpan / 32 times a step
      const int at = kAt + c * kLanes;
      float* to = out + c * p.out_stride;
      const Floats dots = join_planes<F>(load(sums.of[2 * kTile] + at), load(sums.of[2 * kTile + 1] + at));
      const Floats mins = F::kHasMin ? load(sums.mins[kTile] + at) : zeros();
      store(to, accumulate256<F>(load(to), dots, d, mins, dmin, scale[c]));
    };
    const int n = p.n_columns - first - kPart * kPartColumns;
    if (n >= kPartColumns) {
#pragma GCC unroll 8
      for (int c = 0; c < kPartColumns; ++c) add_column(c);
    } else {
      for (int c = 0; c < n; ++c) add_column(c);
    }
  }

  int group = 0;
  int first = 0;
};

// While tiles work on a part of a step, a part of the sums of the one before is added. As the first part of
// products stores those, and parts take turns, it comes with the last sums of the step before that.
template <class F>
inline void multiply_span(const StripProduct& p, const TileSpan<F>& span, Ahead& ahead) {
  TileSums sums;
  TileStep<F> step, before, last;
  const int n_steps = (p.n_columns + TileStep<F>::kColumns - 1) / TileStep<F>::kColumns * p.n_groups;
  for (int i = 0; i <= n_steps; ++i) {
    if (i > 1) last.template add<3>(p, span, sums, ahead);
    if (i < n_steps)
      step.template dot<0>(p, span, sums);
    else
      store_tiles(sums.of);
    if (i > 0) before.dot_sums(p, span, sums);
    for_each_tile<3>([&]<int part>() {
      if (i < n_steps) step.template dot<part + 1>(p, span, sums);
      if (i > 0) before.template add<part>(p, span, sums, ahead);
    });
    last = before;
    before = step;
    step.advance(p);
  }
  last.template add<3>(p, span, sums, ahead);
}

template <class Lying>
void multiply_many(const StripProduct& p) {
  using F = typename Lying::Format;
  const TileScope tiles(kTileColumnsAmx, kLanes);
  TileSpan<F> span;
  for_each_span<F>(p, span, [&] {
    const int n_steps = (p.n_columns + TileStep<F>::kColumns - 1) / TileStep<F>::kColumns;
    Ahead ahead = ahead_of_span<F>(p, span, p.n_groups * (1 + n_steps));
    expand_span<Lying>(p, span, ahead);
    if constexpr (F::kHasMin) {
      for (int g = 0; g < p.n_groups; ++g) lay_out_mins(span.panels[g][0]);
    }
    finish_writes();
    multiply_span(p, span, ahead);
  });
}

// Up to 16 columns times a group: in tiles 0 and 2 the low, in 1 and 3 the high ones, as a product waits long
// for the tile it is added to.
template <class F>
inline void dot_few(const TilePanel<F>& panel, const TileInputs<F, kTileColumnsAmx>& x) {
  for_each_tile<4>([]<int i>() { zero_tile<i>(); });
  for_each_tile<4>([&]<int k>() {
    load_tile<4>(x.bytes(0, kQuarter * k), kQuarter);
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
  void add(const StripProduct& p, const TilePanel<F>& panel, const TileDots& sums, Ahead& ahead) const {
    const Floats d = load(panel.d), dmin = load(panel.dmin);
    const auto x = inputs(p);
    float* out = p.out + group * kLanes;
    for (int c = 0; c < p.n_columns; ++c, out += p.out_stride) {
      ahead.prefetch_part();
      const auto sum = [&](int tile) {
        return cpu::add(load(sums[tile] + c * kLanes), load(sums[tile + 2] + c * kLanes));
      };
      Ints mins = splat(0);
#pragma GCC unroll 8
      for (int i = 0; i < TilePanel<F>::kPairs; ++i)
        mins = dot_pairs(mins, load(panel.pairs + kLanes * i), x.sums_of(c, i));
      const Floats dots = to_float(cpu::add(sum(0), shift_left(sum(1), Planes<F>::kHighBits)));
      store(out, accumulate256<F>(load(out), dots, d, to_float(mins), dmin, x.scale[c]));
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
  alignas(64) TileDots sums;
  const int64_t first_step = p.first_span * p.n_groups, end_step = p.end_span * p.n_groups;
  FewStep<Lying> step(p, first_step);
  Ahead ahead = step.ahead(p);
  expand_block<F>(step.rows(p), panels[first_step % 2], ahead);
  for (int64_t i = first_step; i < end_step; ++i) {
    finish_writes();
    dot_few<F>(panels[i % 2], step.inputs(p));
    const FewStep<Lying> before = step;
    ahead = step.ahead(p);
    if (i + 1 < end_step) {
      step = FewStep<Lying>(p, i + 1);
      expand_block<F>(step.rows(p), panels[(i + 1) % 2], ahead);
    }
    store_tiles(sums);
    before.add(p, panels[i % 2], sums, ahead);
  }
}

template <class Lying>
void multiply_amx(const StripProduct& p) {
  for (int c = 0; p.first_span == 0 && c < p.n_columns; ++c) {
    for (int g = 0; g < p.n_groups; ++g) store(p.out + c * p.out_stride + g * kLanes, zeros());
  }
  if (p.n_columns <= kTileColumnsAmx) return multiply_few<Lying>(p);
  multiply_many<Lying>(p);
}
