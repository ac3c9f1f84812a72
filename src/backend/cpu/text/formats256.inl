// The formats with blocks of 256 and integer scales inside. expand() hands `use`, for each 32 of the block in
// order, c and a function that gives the codes q of elements [4k, 4k + 4) of them; a weight is
// d * scale * (q - kOffset) - dmin * min, with scale and min of its sub-block of kSub. kNearBytes:
// near_bytes(). Layouts: quant/*/layout.h.

// Pairs are two int16 in a lane, each vector those of sub-blocks 4i and 4i + 2 or 4i + 1 and 4i + 3, in turn:
// bytes come apart so, and InputSums256 has its sums in the same order.
struct Scales256 {
  Floats d;
  Floats dmin;
  Ints sub[16];   // the first 256 / kSub are used
  Ints pairs[8];  // half as many: of minima, or of scales where there is an offset
};

// Bytes 0 and 2, or 1 and 3, of four unsigned ones, under a mask.
inline Ints byte_pair(Ints four, int at, int mask) {
  return bit_and(shift_right(four, at), splat(mask | mask << 16));
}
inline Ints bits_of(Ints x, int at, int mask) { return bit_and(shift_right(x, at), splat(mask)); }
inline Ints pair_of(Ints low, Ints high) { return bit_or(bit_and(low, splat(0xffff)), shift_left(high, 16)); }

// n sub-block scales to pairs.
inline void pair_scales(Scales256& s, int n) {
  for (int i = 0; i < n; i += 4) {
    s.pairs[i / 2] = pair_of(s.sub[i], s.sub[i + 2]);
    s.pairs[i / 2 + 1] = pair_of(s.sub[i + 1], s.sub[i + 3]);
  }
}

// Q4_K and Q5_K: d, dmin, then 8 scales and 8 minima of 6 bits in 12 bytes.
template <class R>
[[gnu::always_inline]] inline Scales256 scales_6_bit(R rows) {
  Ints head[4];
  gather16(rows, 0, head);
  Scales256 s;
  s.d = f16_to_float(head[0]);
  s.dmin = f16_to_float(shift_right(head[0], 16));
  for (int i = 0; i < 4; ++i) {
    s.sub[i] = bits_of(head[1], 8 * i, 63);
    s.sub[4 + i] = bit_or(bits_of(head[3], 8 * i, 15), bits_of(head[1], 8 * i + 2, 0x30));
  }
  for (int i = 0; i < 2; ++i) {
    s.pairs[i] = byte_pair(head[2], 8 * i, 63);
    s.pairs[2 + i] = bit_or(byte_pair(head[3], 8 * i + 4, 15), byte_pair(head[2], 8 * i + 2, 0x30));
  }
  return s;
}

struct Q2K {
  static constexpr int kBytes = 84, kSub = 16, kOffset = 0, kMostCode = 3, kNearBytes = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const auto packed = quads32(rows, 16 + 32 * half);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) use(4 * half + i, [&](int k) { return shift_mask(packed[k], 2 * i, 3); });
    }
  }
  template <class R>
  [[gnu::always_inline]] static Scales256 scales(R rows) {
    Ints packed[4];
    gather16(rows, 0, packed);
    const Ints d = last_of16(rows, 68);
    Scales256 s;
    s.d = f16_to_float(d);
    s.dmin = f16_to_float(shift_right(d, 16));
    for (int i = 0; i < 16; ++i) s.sub[i] = bits_of(packed[i / 4], 8 * (i % 4), 15);
    for (int i = 0; i < 8; ++i) s.pairs[i] = byte_pair(packed[i / 2], 8 * (i % 2) + 4, 15);
    return s;
  }
};

struct Q3K {
  static constexpr int kBytes = 110, kSub = 16, kOffset = 4, kNearBytes = 0;
  static constexpr bool kHasMin = false, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    const auto high = quads32(rows, 0);
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const auto low = quads32(rows, 32 + 32 * half);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        use(4 * half + i, [&](int k) {
          return join_bits(shift_mask(low[k], 2 * i, 3), shift_mask(high[k], 4 * half + i - 2, 4));
        });
      }
    }
  }
  template <class R>
  [[gnu::always_inline]] static Scales256 scales(R rows) {
    Ints tail[4];
    gather16(rows, 92, tail);
    const Ints* low = tail + 1;
    const Ints high = tail[3];
    Scales256 s;
    s.d = f16_to_float(shift_right(last_of16(rows, 94), 16));
    s.dmin = zeros();
    for (int i = 0; i < 16; ++i) {
      const Ints four = bits_of(low[i % 8 / 4], 8 * (i % 4) + 4 * (i / 8), 15);
      const Ints two = bits_of(high, 8 * (i % 4) + 2 * (i / 4), 3);
      s.sub[i] = sub(bit_or(four, shift_left(two, 4)), splat(32));
    }
    pair_scales(s, 16);
    return s;
  }
};

struct Q4K {
  static constexpr int kBytes = 144, kSub = 32, kOffset = 0, kMostCode = 15, kNearBytes = 384;
  static constexpr bool kHasMin = true, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
      const auto packed = quads32(rows, 16 + 32 * pair);
      use(2 * pair, [&](int k) { return shift_mask(packed[k], 0, 15); });
      use(2 * pair + 1, [&](int k) { return shift_mask(packed[k], 4, 15); });
    }
  }
  template <class R>
  [[gnu::always_inline]] static Scales256 scales(R rows) {
    return scales_6_bit(rows);
  }
};

struct Q5K {
  static constexpr int kBytes = 176, kSub = 32, kOffset = 0, kMostCode = 31, kNearBytes = 1024;
  static constexpr bool kHasMin = true, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    const auto high = quads32(rows, 16);
#pragma GCC unroll 4
    for (int pair = 0; pair < 4; ++pair) {
      const auto low = quads32(rows, 48 + 32 * pair);
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        use(2 * pair + i, [&](int k) {
          return join_bits(shift_mask(low[k], 4 * i, 15), shift_mask(high[k], 2 * pair + i - 4, 16));
        });
      }
    }
  }
  template <class R>
  [[gnu::always_inline]] static Scales256 scales(R rows) {
    return scales_6_bit(rows);
  }
};

struct Q6K {
  static constexpr int kBytes = 210, kSub = 16, kOffset = 32, kNearBytes = 1024;
  static constexpr bool kHasMin = false, kIsWide = false;
  // Interleaved: the scales, then low and high bits of the first half, then of the second.
  static constexpr int place_of(int at) {
    if (at >= 192) return at - 192;
    if (at >= 160) return at + 16;
    if (at >= 128) return at - 48;
    return at >= 64 ? at + 48 : at + 16;
  }
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const auto even = quads32(rows, 64 * half), odd = quads32(rows, 64 * half + 32);
      const auto high = quads32(rows, 128 + 32 * half);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        use(4 * half + i, [&](int k) {
          const Bytes low = i % 2 == 0 ? even[k] : odd[k];
          return join_bits(shift_mask(low, 4 * (i / 2), 15), shift_mask(high[k], 2 * i - 4, 48));
        });
      }
    }
  }
  template <class R>
  [[gnu::always_inline]] static Scales256 scales(R rows) {
    Ints packed[4];
    gather16(rows, 192, packed);
    Scales256 s;
    s.d = f16_to_float(shift_right(last_of16(rows, 194), 16));
    s.dmin = zeros();
    for (int i = 0; i < 16; ++i)
      s.sub[i] = shift_right_signed(shift_left(packed[i / 4], 24 - 8 * (i % 4)), 24);
    pair_scales(s, 16);
    return s;
  }
};

struct Iq4Xs {
  static constexpr int kBytes = 136, kSub = 32, kOffset = kWideOffset, kNearBytes = 384;
  static constexpr bool kHasMin = false, kIsWide = true;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
#pragma GCC unroll 8
    for (int c = 0; c < 8; ++c) {
      const Nibbles codes(rows, 8 + 16 * c);
      use(c, [&](int k) { return lookup_signed(kIq4Values, codes(k)); });
    }
  }
  template <class R>
  [[gnu::always_inline]] static Scales256 scales(R rows) {
    Ints head[4];
    gather16(rows, 0, head);
    Scales256 s;
    s.d = f16_to_float(head[0]);
    s.dmin = zeros();
    for (int i = 0; i < 8; ++i) {
      const Ints high = bits_of(head[0], 16 + 2 * i, 3);
      s.sub[i] = sub(bit_or(bits_of(head[1], 4 * i, 15), shift_left(high, 4)), splat(32));
    }
    pair_scales(s, 8);
    return s;
  }
};
