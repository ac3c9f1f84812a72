// How the rows of a group of weights lie. Row by row is the way of files: a block of a group is then kLanes
// pieces far apart, and every vector is made of pieces of all of them. Interleaved, four bytes of each row in
// turn, vectors are read as they are needed, from one stream.
//
// An interleaved group has as many bytes as before: first the quads (four bytes) of its blocks, in the order
// of the blocks, then what a block has besides quads, kRest bytes of each row in turn. A float16 before or
// behind the codes is such a rest.

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

  RowByRow(const std::byte* p, int64_t row_bytes) : rows{reinterpret_cast<const uint8_t*>(p), row_bytes} {}
  Rows block(int64_t b) const { return {rows.p + b * F::kBytes, rows.stride}; }

  Rows rows;
};

// A block of an interleaved group.
template <class F>
struct InterleavedRows {
  static constexpr int kRest = F::kBytes % 4;
  static constexpr int kRestAt = kIsBlock32<F> ? 0 : F::kBytes - kRest;
  static constexpr int kQuads = F::kBytes / 4;

  // The quads from byte `at` of a row on.
  const uint8_t* at(int at) const { return quads + (at > kRestAt ? at - kRest : at) * kLanes; }

  const uint8_t* quads;
  const uint8_t* rest;
};

template <class F>
struct Interleaved {
  using Format = F;
  using Block = InterleavedRows<F>;

  Interleaved(const std::byte* p, int64_t row_bytes)
      : quads(reinterpret_cast<const uint8_t*>(p)),
        rest(quads + row_bytes / F::kBytes * Block::kQuads * 4 * kLanes) {}
  Block block(int64_t b) const {
    return {quads + b * Block::kQuads * 4 * kLanes, rest + b * Block::kRest * kLanes};
  }

  const uint8_t* quads;
  const uint8_t* rest;
};

// What the formats read, of interleaved rows.
template <class F>
inline void load32(InterleavedRows<F> rows, int at, Bytes* out) {
  for (int k = 0; k < 8; ++k) out[k] = load_bytes(rows.at(at) + 4 * kLanes * k);
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

// Where in a block of a row the quads begin.
template <class F>
inline constexpr int kFirstQuad = InterleavedRows<F>::kRestAt == 0 ? InterleavedRows<F>::kRest : 0;

// Makes an interleaved group of one that lies row by row.
template <class F>
void interleave(const std::byte* group, int64_t row_bytes, std::byte* out) {
  const RowByRow<F> from(group, row_bytes);
  const Interleaved<F> to(out, row_bytes);
  constexpr int kRest = InterleavedRows<F>::kRest, kRestAt = InterleavedRows<F>::kRestAt;
  constexpr int kEnd = kFirstQuad<F> + InterleavedRows<F>::kQuads * 4;
  for (int64_t b = 0; b < row_bytes / F::kBytes; ++b) {
    const Rows rows = from.block(b);
    auto* quads = const_cast<uint8_t*>(to.block(b).quads);
    auto* rest = const_cast<uint8_t*>(to.block(b).rest);
    int at = kFirstQuad<F>;
    for (; at + 16 <= kEnd; at += 16, quads += 16 * kLanes) {
      Bytes four[4];
      load16(rows, at, four);
      for (int k = 0; k < 4; ++k) store_bytes(quads + 4 * kLanes * k, four[k]);
    }
    for (; at < kEnd; at += 4, quads += 4 * kLanes) {
      for (int r = 0; r < kLanes; ++r) __builtin_memcpy(quads + 4 * r, rows.p + r * rows.stride + at, 4);
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
    for (int q = 0; q < Block::kQuads; ++q)
      __builtin_memcpy(out + kFirstQuad<F> + 4 * q, block.quads + 4 * (q * kLanes + lane), 4);
    __builtin_memcpy(out + Block::kRestAt, block.rest + Block::kRest * lane, Block::kRest);
  }
}
