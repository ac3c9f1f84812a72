// The formats with blocks of 256 and integer scales inside. expand() gives the codes q of the c-th 32 in
// natural order; a weight is d * scale * (q - kOffset) - dmin * min, with scale and min of its sub-block of
// kSub. Layouts: quant/*/layout.h.

struct Scales256 {
  Floats d;
  Floats dmin;
  Ints sub[16];  // the first 256 / kSub are used
  Ints min[16];
};

// Byte i of four, unsigned or signed.
inline Ints byte_of(Ints four, int i) { return bit_and(shift_right(four, 8 * i), splat(255)); }
inline Ints signed_byte_of(Ints four, int i) { return shift_right_signed(shift_left(four, 24 - 8 * i), 24); }
inline Ints bits_of(Ints x, int at, int mask) { return bit_and(shift_right(x, at), splat(mask)); }

// Q4_K and Q5_K: d, dmin, then 8 scales and 8 minima of 6 bits in 12 bytes.
inline Scales256 scales_6_bit(Rows rows) {
  Ints head[4];
  gather16(rows, 0, head);
  Scales256 s;
  s.d = f16_to_float(head[0]);
  s.dmin = f16_to_float(shift_right(head[0], 16));
  for (int i = 0; i < 4; ++i) {
    s.sub[i] = bits_of(head[1], 8 * i, 63);
    s.min[i] = bits_of(head[2], 8 * i, 63);
    s.sub[4 + i] = bit_or(bits_of(head[3], 8 * i, 15), shift_left(bits_of(head[1], 8 * i + 6, 3), 4));
    s.min[4 + i] = bit_or(bits_of(head[3], 8 * i + 4, 15), shift_left(bits_of(head[2], 8 * i + 6, 3), 4));
  }
  return s;
}

struct Q2K {
  static constexpr int kBytes = 84, kSub = 16, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  static Bytes expand(Rows rows, int v, int c) {
    return shift_mask(load32(rows, v, 16 + 32 * (c / 4)), 2 * (c % 4), 3);
  }
  static Scales256 scales(Rows rows) {
    Ints packed[4];
    gather16(rows, 0, packed);
    const Ints d = gather<uint32_t>(rows, 80);
    Scales256 s;
    s.d = f16_to_float(d);
    s.dmin = f16_to_float(shift_right(d, 16));
    for (int i = 0; i < 16; ++i) {
      s.sub[i] = bits_of(packed[i / 4], 8 * (i % 4), 15);
      s.min[i] = bits_of(packed[i / 4], 8 * (i % 4) + 4, 15);
    }
    return s;
  }
};

struct Q3K {
  static constexpr int kBytes = 110, kSub = 16, kOffset = 4;
  static constexpr bool kHasMin = false, kIsWide = false;
  static Bytes expand(Rows rows, int v, int c) {
    const Bytes low = shift_mask(load32(rows, v, 32 + 32 * (c / 4)), 2 * (c % 4), 3);
    return join_bits(low, shift_mask(load32(rows, v, 0), c - 2, 4));
  }
  // The last 14 bytes are 12 bytes of scales and d; read with the two before them, so as not to read beyond.
  static Scales256 scales(Rows rows) {
    Ints tail[4];
    gather16(rows, 94, tail);
    const auto bytes = [&](int i) { return bit_or(shift_right(tail[i], 16), shift_left(tail[i + 1], 16)); };
    const Ints low[2] = {bytes(0), bytes(1)};
    const Ints high = bytes(2);
    Scales256 s;
    s.d = f16_to_float(shift_right(tail[3], 16));
    s.dmin = zeros();
    for (int i = 0; i < 16; ++i) {
      const Ints four = bits_of(low[i % 8 / 4], 8 * (i % 4) + 4 * (i / 8), 15);
      const Ints two = bits_of(high, 8 * (i % 4) + 2 * (i / 4), 3);
      s.sub[i] = sub(bit_or(four, shift_left(two, 4)), splat(32));
    }
    return s;
  }
};

struct Q4K {
  static constexpr int kBytes = 144, kSub = 32, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  static Bytes expand(Rows rows, int v, int c) {
    return shift_mask(load32(rows, v, 16 + 32 * (c / 2)), 4 * (c % 2), 15);
  }
  static Scales256 scales(Rows rows) { return scales_6_bit(rows); }
};

struct Q5K {
  static constexpr int kBytes = 176, kSub = 32, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  static Bytes expand(Rows rows, int v, int c) {
    const Bytes low = shift_mask(load32(rows, v, 48 + 32 * (c / 2)), 4 * (c % 2), 15);
    return join_bits(low, shift_mask(load32(rows, v, 16), c - 4, 16));
  }
  static Scales256 scales(Rows rows) { return scales_6_bit(rows); }
};

struct Q6K {
  static constexpr int kBytes = 210, kSub = 16, kOffset = 32;
  static constexpr bool kHasMin = false, kIsWide = false;
  static Bytes expand(Rows rows, int v, int c) {
    const int half = c / 4, quarter = c % 4;
    const Bytes low = shift_mask(load32(rows, v, 64 * half + 32 * (quarter % 2)), 4 * (quarter / 2), 15);
    return join_bits(low, shift_mask(load32(rows, v, 128 + 32 * half), 2 * quarter - 4, 48));
  }
  static Scales256 scales(Rows rows) {
    Ints packed[4];
    gather16(rows, 192, packed);
    Scales256 s;
    s.d = gather_f16(rows, 208);
    s.dmin = zeros();
    for (int i = 0; i < 16; ++i) s.sub[i] = signed_byte_of(packed[i / 4], i % 4);
    return s;
  }
};

struct Iq4Xs {
  static constexpr int kBytes = 136, kSub = 32, kOffset = kWideOffset;
  static constexpr bool kHasMin = false, kIsWide = true;
  static Bytes expand(Rows rows, int v, int c) {
    return lookup_signed(kIq4Values, nibbles(load16_twice(rows, v, 8 + 16 * c)));
  }
  static Scales256 scales(Rows rows) {
    Ints head[4];
    gather16(rows, 0, head);
    Scales256 s;
    s.d = f16_to_float(head[0]);
    s.dmin = zeros();
    for (int i = 0; i < 8; ++i) {
      const Ints high = bits_of(head[0], 16 + 2 * i, 3);
      s.sub[i] = sub(bit_or(bits_of(head[1], 4 * i, 15), shift_left(high, 4)), splat(32));
    }
    return s;
  }
};
