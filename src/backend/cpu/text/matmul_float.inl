// Products of float weights, plain or small ones under scales, with float32 activations. Lanes lie along the
// row: lane i adds up the elements i, i + kLanes, ... in order, and sum_of() joins the lanes at the end,
// whatever the size of the tile.

struct F32 {
  static constexpr int kBytes = 4;
  static Floats load_lanes(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
};
struct F16 {
  static constexpr int kBytes = 2;
  static Floats widen(Words x) { return widen_f16(x); }
  static Floats load_lanes(const uint8_t* p) { return widen(load_words(p)); }
};
struct BF16 {
  static constexpr int kBytes = 2;
  static Floats widen(Words x) { return widen_bf16(x); }
  static Floats load_lanes(const uint8_t* p) { return widen(load_words(p)); }
};

// The first n < kLanes elements, zeros after them.
template <class F>
inline Floats load_some(const uint8_t* p, int64_t n) {
  alignas(64) uint8_t lanes[F::kBytes * kLanes] = {};
  __builtin_memcpy(lanes, p, static_cast<size_t>(n * F::kBytes));
  return F::load_lanes(lanes);
}

template <class F>
inline Floats load_upto(const uint8_t* p, int64_t n) {
  return n >= kLanes ? F::load_lanes(p) : load_some<F>(p, n);
}

// Elements [k, k + n) of a row, n at most kLanes, zeros after them.
template <class F>
inline Floats load_weights(const uint8_t* row, int64_t k, int64_t n) {
  if constexpr (requires { F::kBytes; }) {
    return load_upto<F>(row + k * F::kBytes, n);
  } else {
    return F::load_lanes(row, k);  // blocks are stored whole
  }
}

// E2M1 becomes float16 by moving its bits; the exponent, too small by 14, is made up for in the scale, as
// that of E4M3, too small by 8. Layouts: quant/*/layout.h.
inline Floats widen_e2m1(Ints q) {
  const Ints magnitude = shift_left(bit_and(q, splat(7)), 9);
  return f16_to_float(bit_or(magnitude, shift_left(bit_and(q, splat(8)), 12)));
}
inline float float_at(const uint8_t* p) {
  float value;
  __builtin_memcpy(&value, p, sizeof value);
  return value;
}

struct F8E4M3 {
  static Floats load_lanes(const uint8_t* row, int64_t k) {
    const uint8_t* block = row + k / 128 * 132;
    return mul(load_e4m3(block + 4 + k % 128), splat(0x1p8f * float_at(block)));
  }
};

struct Nvfp4 {
  static Floats load_lanes(const uint8_t* row, int64_t k) {
    const uint8_t* block = row + k / 64 * 40;
    const int64_t at = k % 64;
    const int32_t code = block[4 + at / 16];
    const Ints half = splat((code & 0x7f) << 7 | (code & 0x80) << 8);
    const Floats scale = mul(splat(0x1p22f * float_at(block)), f16_to_float(half));
    const Ints pairs = widen_bytes(block + 8 + at / 32 * 16 + at % 16);
    return mul(widen_e2m1(shift_right(pairs, static_cast<int>(at / 16 % 2 * 4))), scale);
  }
};

inline const uint8_t* bytes_of(const float* p) { return reinterpret_cast<const uint8_t*>(p); }

template <class F, int kRows, int kColumns>
inline void dot_step(Floats (&acc)[kRows][kColumns], const uint8_t* const (&w)[kRows],
                     const float* const (&x)[kColumns], int64_t k, int64_t n) {
  Floats columns[kColumns];
#pragma GCC unroll 8
  for (int c = 0; c < kColumns; ++c) columns[c] = load_upto<F32>(bytes_of(x[c] + k), n);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const Floats weights = load_weights<F>(w[r], k, n);
#pragma GCC unroll 8
    for (int c = 0; c < kColumns; ++c) acc[r][c] = fma(weights, columns[c], acc[r][c]);
  }
}

template <class F, int kRows, int kColumns>
inline void float_tile(const StripProduct& p, const uint8_t* rows, int first_row, int first_column) {
  const int64_t n_in = p.inputs->n_in;
  const uint8_t* w[kRows];
  const float* x[kColumns];
  Floats acc[kRows][kColumns];
  for (int r = 0; r < kRows; ++r) w[r] = rows + r * p.row_bytes;
  for (int c = 0; c < kColumns; ++c) {
    const int64_t column = p.first_column + first_column + c;
    x[c] = p.inputs->f32 + (p.inputs->rows == nullptr ? column : p.inputs->rows[column]) * n_in;
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) acc[r][c] = zeros();
  }
  int64_t k = 0;
  for (; k + kLanes <= n_in; k += kLanes) dot_step<F, kRows, kColumns>(acc, w, x, k, kLanes);
  if (k < n_in) dot_step<F, kRows, kColumns>(acc, w, x, k, n_in - k);
  for (int c = 0; c < kColumns; ++c) {
    float* out = p.out + (first_column + c) * p.out_stride + first_row;
    for (int r = 0; r < kRows; ++r) out[r] = sum_of(acc[r][c]);
  }
}

template <class F, int kRows, int kColumns = kFloatTileColumns>
inline void float_tiles(const StripProduct& p, const uint8_t* rows, int first_row, int first_column = 0) {
  for (; first_column + kColumns <= p.n_columns; first_column += kColumns)
    float_tile<F, kRows, kColumns>(p, rows, first_row, first_column);
  if constexpr (kColumns > 1) float_tiles<F, kRows, kColumns - 1>(p, rows, first_row, first_column);
}

template <class F>
void multiply_float(const StripProduct& p) {
  constexpr int kRows = 4;
  for (int g = 0; g < p.n_groups; ++g) {
    const auto* rows = reinterpret_cast<const uint8_t*>(p.groups[g]);
    for (int r = 0; r < kLanes; r += kRows) float_tiles<F, kRows>(p, rows + r * p.row_bytes, g * kLanes + r);
  }
}

template <class F>
constexpr Matmul float_matmul() {
  return {.input = InputKind::f32,
          .multiply = multiply_float<F>,
          .multiply_interleaved = nullptr,
          .interleave = nullptr,
          .take_row = nullptr};
}
