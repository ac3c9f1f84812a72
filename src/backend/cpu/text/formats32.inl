// The formats with one float scale per block of 32. expand() hands `use` a function that gives the codes q of
// elements [4k, 4k + 4); a weight is d * (q - kOffset) (+ m). Layouts: quant/*/layout.h.

alignas(16) constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
alignas(16) constexpr int8_t kMxfp4Values[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                 0, -1, -2, -3, -4, -6, -8, -12};  // doubled

struct Scales32 {
  Floats d;
  Floats m;
};

template <class R>
inline Floats f16_at_start(R rows) {
  return f16_to_float(first_of16(rows, 0));
}
// (d, m) as two float16.
template <class R>
inline Scales32 scales_d_m(R rows) {
  const Ints pair = first_of16(rows, 0);
  return {f16_to_float(pair), f16_to_float(shift_right(pair, 16))};
}

// Elements 0 to 15 are the low halves of 16 bytes, 16 to 31 the high ones.
struct Nibbles {
  template <class R>
  Nibbles(R rows, int at) {
    load16(rows, at, packed);
  }
  Bytes operator()(int k) const { return shift_mask(packed[k % 4], k / 4 * 4, 15); }
  Bytes packed[4];
};

// Bits [4k, 4k + 4) of 32, as 16 or 0 in a byte each.
inline Bytes spread_bits(Ints bits, int k) {
  const Ints four = bit_and(shift_right(bits, 4 * k), splat(15));
  return as_bytes(bit_and(mul(four, splat(0x02040810)), splat(0x10101010)));
}

struct Q4_0 {
  static constexpr int kBytes = 18, kOffset = 8;
  static constexpr bool kHasMin = false, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    use(Nibbles(rows, 2));
  }
  template <class R>
  static Scales32 scales(R rows) {
    return {f16_at_start(rows), zeros()};
  }
};

struct Q4_1 {
  static constexpr int kBytes = 20, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    use(Nibbles(rows, 4));
  }
  template <class R>
  static Scales32 scales(R rows) {
    return scales_d_m(rows);
  }
};

struct Q5_0 {
  static constexpr int kBytes = 22, kOffset = 16;
  static constexpr bool kHasMin = false, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    const Nibbles low(rows, 6);
    const Ints high = first_of16(rows, 2);
    use([&](int k) { return join_bits(low(k), spread_bits(high, k)); });
  }
  template <class R>
  static Scales32 scales(R rows) {
    return {f16_at_start(rows), zeros()};
  }
};

struct Q5_1 {
  static constexpr int kBytes = 24, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    const Nibbles low(rows, 8);
    const Ints high = first_of16(rows, 4);
    use([&](int k) { return join_bits(low(k), spread_bits(high, k)); });
  }
  template <class R>
  static Scales32 scales(R rows) {
    return scales_d_m(rows);
  }
};

struct Q8_0 {
  static constexpr int kBytes = 34, kOffset = kWideOffset;
  static constexpr bool kHasMin = false, kIsWide = true;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    const auto q = quads32(rows, 2);
    use([&](int k) { return widen_signed(q[k]); });
  }
  template <class R>
  static Scales32 scales(R rows) {
    return {f16_at_start(rows), zeros()};
  }
};

struct Iq4Nl {
  static constexpr int kBytes = 18, kOffset = kWideOffset;
  static constexpr bool kHasMin = false, kIsWide = true;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    const Nibbles codes(rows, 2);
    use([&](int k) { return lookup_signed(kIq4Values, codes(k)); });
  }
  template <class R>
  static Scales32 scales(R rows) {
    return {f16_at_start(rows), zeros()};
  }
};

struct Q4Z {
  static constexpr int kBytes = 19, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    use(Nibbles(rows, 3));
  }
  template <class R>
  static Scales32 scales(R rows) {
    const Ints head = first_of16(rows, 0);
    const Floats d = f16_to_float(head);
    return {d, fnma(d, to_float(bit_and(shift_right(head, 16), splat(255))), zeros())};
  }
};

struct Q8Z {
  static constexpr int kBytes = 38, kOffset = kWideOffset;
  static constexpr bool kHasMin = true, kIsWide = true;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    const auto q = quads32(rows, 6);
    use([&](int k) { return widen_signed(q[k]); });
  }
  template <class R>
  static Scales32 scales(R rows) {
    Ints head[4];
    gather16(rows, 0, head);
    const Floats d = bits_to_float(head[0]);
    const Ints zero = shift_right_signed(shift_left(head[1], 16), 16);
    return {d, fnma(d, to_float(zero), zeros())};
  }
};

struct Mxfp4 {
  static constexpr int kBytes = 17, kOffset = kWideOffset;
  static constexpr bool kHasMin = false, kIsWide = true;
  template <class R, class Use>
  static void expand(R rows, const Use& use) {
    const Nibbles codes(rows, 1);
    use([&](int k) { return lookup_signed(kMxfp4Values, codes(k)); });
  }
  // 2^(e - 128), as the values are doubled. Below e = 2 that is subnormal: 2^22 and 2^21 in its mantissa.
  template <class R>
  static Scales32 scales(R rows) {
    const Ints e = bit_and(first_of16(rows, 0), splat(255));
    const Floats normal = bits_to_float(shift_left(sub(e, splat(1)), 23));
    const Floats subnormal = bits_to_float(add(splat(0x00200000), mul(e, splat(0x00200000))));
    return {select_less(to_float(e), splat(2.0f), subnormal, normal), zeros()};
  }
};
