// The formats with one float scale per block of 32. expand() gives codes q in natural order for the rows of
// vector v; a weight is d * (q - kOffset) (+ m). Layouts: quant/*/layout.h.

alignas(16) constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
alignas(16) constexpr int8_t kMxfp4Values[16] = {0, 1,  2,  3,  4,  6,  8,  12,
                                                 0, -1, -2, -3, -4, -6, -8, -12};  // doubled

struct Scales32 {
  Floats d;
  Floats m;
};

// (d, m) as two float16.
inline Scales32 scales_d_m(Rows rows) {
  const Ints pair = gather<uint32_t>(rows, 0);
  return {f16_to_float(pair), f16_to_float(shift_right(pair, 16))};
}

struct Q4_0 {
  static constexpr int kBytes = 18, kOffset = 8;
  static constexpr bool kHasMin = false, kIsWide = false;
  static Bytes expand(Rows rows, int v) { return nibbles(load16_twice(rows, v, 2)); }
  static Scales32 scales(Rows rows) { return {gather_f16(rows, 0), zeros()}; }
};

struct Q4_1 {
  static constexpr int kBytes = 20, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  static Bytes expand(Rows rows, int v) { return nibbles(load16_twice(rows, v, 4)); }
  static Scales32 scales(Rows rows) { return scales_d_m(rows); }
};

struct Q5_0 {
  static constexpr int kBytes = 22, kOffset = 16;
  static constexpr bool kHasMin = false, kIsWide = false;
  static Bytes expand(Rows rows, int v) {
    return join_bits(nibbles(load16_twice(rows, v, 6)), spread_bits(rows, v, 2, 16));
  }
  static Scales32 scales(Rows rows) { return {gather_f16(rows, 0), zeros()}; }
};

struct Q5_1 {
  static constexpr int kBytes = 24, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  static Bytes expand(Rows rows, int v) {
    return join_bits(nibbles(load16_twice(rows, v, 8)), spread_bits(rows, v, 4, 16));
  }
  static Scales32 scales(Rows rows) { return scales_d_m(rows); }
};

struct Q8_0 {
  static constexpr int kBytes = 34, kOffset = kWideOffset;
  static constexpr bool kHasMin = false, kIsWide = true;
  static Bytes expand(Rows rows, int v) { return widen_signed(load32(rows, v, 2)); }
  static Scales32 scales(Rows rows) { return {gather_f16(rows, 0), zeros()}; }
};

struct Iq4Nl {
  static constexpr int kBytes = 18, kOffset = kWideOffset;
  static constexpr bool kHasMin = false, kIsWide = true;
  static Bytes expand(Rows rows, int v) {
    return lookup_signed(kIq4Values, nibbles(load16_twice(rows, v, 2)));
  }
  static Scales32 scales(Rows rows) { return {gather_f16(rows, 0), zeros()}; }
};

struct Q4Z {
  static constexpr int kBytes = 19, kOffset = 0;
  static constexpr bool kHasMin = true, kIsWide = false;
  static Bytes expand(Rows rows, int v) { return nibbles(load16_twice(rows, v, 3)); }
  static Scales32 scales(Rows rows) {
    const Floats d = gather_f16(rows, 0);
    return {d, fnma(d, to_float(gather<uint8_t>(rows, 2)), zeros())};
  }
};

struct Q8Z {
  static constexpr int kBytes = 38, kOffset = kWideOffset;
  static constexpr bool kHasMin = true, kIsWide = true;
  static Bytes expand(Rows rows, int v) { return widen_signed(load32(rows, v, 6)); }
  static Scales32 scales(Rows rows) {
    const Floats d = bits_to_float(gather<uint32_t>(rows, 0));
    const Ints zero = shift_right_signed(shift_left(gather<uint16_t>(rows, 4), 16), 16);
    return {d, fnma(d, to_float(zero), zeros())};
  }
};

struct Mxfp4 {
  static constexpr int kBytes = 17, kOffset = kWideOffset;
  static constexpr bool kHasMin = false, kIsWide = true;
  static Bytes expand(Rows rows, int v) {
    return lookup_signed(kMxfp4Values, nibbles(load16_twice(rows, v, 1)));
  }
  // 2^(e - 128), as the values are doubled. Below e = 2 that is subnormal: 2^22 and 2^21 in its mantissa.
  static Scales32 scales(Rows rows) {
    const Ints e = gather<uint8_t>(rows, 0);
    const Floats normal = bits_to_float(shift_left(sub(e, splat(1)), 23));
    const Floats subnormal = bits_to_float(add(splat(0x00200000), mul(e, splat(0x00200000))));
    return {select_less(to_float(e), splat(2.0f), subnormal, normal), zeros()};
  }
};
