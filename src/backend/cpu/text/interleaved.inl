// How the rows of a group of weights lie. Row by row is the way of files: a block of a group is then kLanes
// pieces far apart, and every vector is made of pieces of all of them. Interleaved, four bytes of each row in
// turn, vectors are read as they are needed, from one stream.
//
// An interleaved group has as many bytes as before: block after block its quads (four bytes of each row), in
// the order in which they are read (place_of). What a block has besides quads, kRest bytes of each row in
// turn, stands before them, that of several blocks together, so that quads begin where lines of the cache do.
// A float16 before or behind the codes is such a rest.

inline void store_bytes(uint8_t* p, Bytes x) { __builtin_memcpy(p, &x, sizeof x); }
inline Bytes load_bytes(const uint8_t* p) {
  Bytes out;
  __builtin_memcpy(&out, p, sizeof out);
  return out;
}
static_assert(sizeof(Bytes) == 4 * kLanes);

template <class F>
inline constexpr bool kIsBlock32 = F::kBytes < 40;

template <class F>
struct RowByRow {
  using Format = F;
  static constexpr bool kIsInterleaved = false;

  RowByRow(const std::byte* p, int64_t row_bytes) : rows{reinterpret_cast<const uint8_t*>(p), row_bytes} {}
  Rows block(int64_t b) const { return {rows.p + b * F::kBytes, rows.stride}; }

  Rows rows;
};

// Where byte `at` of the quads of a row stands; sixteen that are read at once stay together.
template <class F>
constexpr int place_of(int at) {
  if constexpr (requires { F::place_of(at); })
    return F::place_of(at);
  else
    return at;
}

// A block of an interleaved group.
template <class F>
struct InterleavedRows {
  static constexpr int kRest = F::kBytes % 4;
  static constexpr int kRestAt = kIsBlock32<F> ? 0 : F::kBytes - kRest;
  static constexpr int kQuadBytes = F::kBytes / 4 * 4 * kLanes;
  static constexpr int kRestBytes = kRest * kLanes;

  // The quads from byte `at` of a row on.
  const uint8_t* at(int at) const { return quads + place_of<F>(at > kRestAt ? at - kRest : at) * kLanes; }

  const uint8_t* quads;
  const uint8_t* rest;
};

template <class F>
struct Interleaved {
  using Format = F;
  static constexpr bool kIsInterleaved = true;
  using Block = InterleavedRows<F>;
  // Whose rests stand together: those that fill a line.
  static constexpr int kTogether =
      Block::kRestBytes > 0 && Block::kRestBytes < 64 ? 64 / Block::kRestBytes : 1;
  static_assert((kTogether & (kTogether - 1)) == 0);

  Interleaved(const std::byte* group, int64_t row_bytes)
      : p(reinterpret_cast<const uint8_t*>(group)), n_blocks(row_bytes / F::kBytes) {}
  Block block(int64_t b) const {
    const int64_t i = b & (kTogether - 1), first = b - i;
    const int64_t n = n_blocks - first < kTogether ? n_blocks - first : kTogether;
    const uint8_t* rests = p + first * F::kBytes * kLanes;
    return {rests + n * Block::kRestBytes + i * Block::kQuadBytes, rests + i * Block::kRestBytes};
  }

  const uint8_t* p;
  int64_t n_blocks;
};

// What the formats read, of interleaved rows.
//
// Eight quads from byte `at` of a block on: what has to be turned first is held in registers, what lies as it
// is needed is loaded where it is used.
struct HeldQuads {
  Bytes operator[](int k) const { return all[k]; }
  Bytes all[8];
};
struct LyingQuads {
  Bytes operator[](int k) const { return load_bytes(p + 4 * kLanes * k); }
  const uint8_t* p;
};
inline HeldQuads quads32(Rows rows, int at) {
  HeldQuads out;
  load32(rows, at, out.all);
  return out;
}
template <class F>
inline LyingQuads quads32(InterleavedRows<F> rows, int at) {
  return {rows.at(at)};
}
// Rows that are held all the same: of few columns, whose time is that of loads on their way.
template <class F>
struct HeldRows : InterleavedRows<F> {};
template <class F>
inline HeldQuads quads32(HeldRows<F> rows, int at) {
  HeldQuads out;
  for (int k = 0; k < 8; ++k) out.all[k] = load_bytes(rows.at(at) + 4 * kLanes * k);
  return out;
}
inline Rows held(Rows rows) { return rows; }
template <class F>
inline HeldRows<F> held(InterleavedRows<F> rows) {
  return {rows};
}
template <class F>
inline void load16(InterleavedRows<F> rows, int at, Bytes* out) {
  for (int k = 0; k < 4; ++k) out[k] = load_bytes(rows.at(at) + 4 * kLanes * k);
}
template <class F>
inline void gather16(InterleavedRows<F> rows, int at, Ints* out) {
  for (int k = 0; k < 4; ++k) out[k] = load(reinterpret_cast<const int32_t*>(rows.at(at)) + kLanes * k);
}
template <class F>
inline Ints first_of16(InterleavedRows<F> rows, int at) {
  if (InterleavedRows<F>::kRest == 0 || at != InterleavedRows<F>::kRestAt)
    return load(reinterpret_cast<const int32_t*>(rows.at(at)));
  return InterleavedRows<F>::kRest == 1 ? widen_bytes(rows.rest) : widen_words(rows.rest);
}
template <class F>
inline Ints last_of16(InterleavedRows<F> rows, int at) {
  if (InterleavedRows<F>::kRest == 0) return first_of16(rows, at + 12);
  return shift_left(widen_words(rows.rest), 16);  // as where the rest ends the sixteen
}

// Where in a block of a row the quads begin, and end.
template <class F>
inline constexpr int kFirstQuad = InterleavedRows<F>::kRestAt == 0 ? InterleavedRows<F>::kRest : 0;
template <class F>
inline constexpr int kEndOfQuads = kFirstQuad<F> + InterleavedRows<F>::kQuadBytes / kLanes;

// Makes an interleaved group of one that lies row by row.
template <class F>
void interleave(const std::byte* group, int64_t row_bytes, std::byte* out) {
  const RowByRow<F> from(group, row_bytes);
  const Interleaved<F> to(out, row_bytes);
  constexpr int kRest = InterleavedRows<F>::kRest, kRestAt = InterleavedRows<F>::kRestAt;
  for (int64_t b = 0; b < row_bytes / F::kBytes; ++b) {
    const Rows rows = from.block(b);
    const InterleavedRows<F> block = to.block(b);
    const auto quads_at = [&](int at) { return const_cast<uint8_t*>(block.at(at)); };
    auto* rest = const_cast<uint8_t*>(block.rest);
    int at = kFirstQuad<F>;
    for (; at + 16 <= kEndOfQuads<F>; at += 16) {
      Bytes four[4];
      load16(rows, at, four);
      for (int k = 0; k < 4; ++k) store_bytes(quads_at(at) + 4 * kLanes * k, four[k]);
    }
    for (; at < kEndOfQuads<F>; at += 4) {
      for (int r = 0; r < kLanes; ++r)
        __builtin_memcpy(quads_at(at) + 4 * r, rows.p + r * rows.stride + at, 4);
    }
    for (int r = 0; r < kLanes; ++r)
      __builtin_memcpy(rest + kRest * r, rows.p + r * rows.stride + kRestAt, kRest);
  }
}

// Row `lane` of an interleaved group, as it lay before.
template <class F>
void take_row(const std::byte* group, int64_t row_bytes, int lane, std::byte* out) {
  using Block = InterleavedRows<F>;
  const Interleaved<F> from(group, row_bytes);
  for (int64_t b = 0; b < row_bytes / F::kBytes; ++b, out += F::kBytes) {
    const Block block = from.block(b);
    for (int at = kFirstQuad<F>; at < kEndOfQuads<F>; at += 4)
      __builtin_memcpy(out + at, block.at(at) + 4 * lane, 4);
    __builtin_memcpy(out + Block::kRestAt, block.rest + Block::kRest * lane, Block::kRest);
  }
}
