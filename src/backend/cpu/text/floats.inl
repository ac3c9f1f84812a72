// Products with plain weights (float32, float16, bfloat16): activations stay float32. Each element has two
// sums, of the even and of the odd vectors along the row, added at the end: the same whatever the tile.

struct PlainF32 {
  static constexpr int kBytes = 4;
  static Floats load_at(const uint8_t* p) { return load(reinterpret_cast<const float*>(p)); }
};
struct PlainF16 {
  static constexpr int kBytes = 2;
  static Floats load_at(const uint8_t* p) { return load_f16(p); }
};
struct PlainBf16 {
  static constexpr int kBytes = 2;
  static Floats load_at(const uint8_t* p) { return load_bf16(p); }
};

constexpr int kFloatRows = 4;
constexpr int kFloatColumns = 3;

// The end of a row that fills no vector, with zeros behind it.
template <class F>
inline Floats load_end(const uint8_t* p, int64_t n) {
  alignas(64) uint8_t padded[kLanes * 4] = {};
  __builtin_memcpy(padded, p, static_cast<size_t>(n) * F::kBytes);
  return F::load_at(padded);
}

template <class F, int kColumns>
void multiply_floats_tile(const StripProduct& p, const uint8_t* rows, int row, int first) {
  const int64_t n_in = p.inputs->n_in;
  Floats acc[2][kFloatRows][kColumns];
  for (auto& half : acc) {
    for (auto& line : half) {
      for (Floats& each : line) each = zeros();
    }
  }
  const float* x[kColumns];
  for (int c = 0; c < kColumns; ++c) x[c] = p.inputs->f32 + p.columns[first + c] * n_in;
  const auto add_vector = [&](int half, int64_t k, auto load_w, auto load_x) {
    Floats xs[kColumns];
    for (int c = 0; c < kColumns; ++c) xs[c] = load_x(x[c] + k);
    for (int r = 0; r < kFloatRows; ++r) {
      const Floats w = load_w(rows + r * p.row_bytes + k * F::kBytes);
      for (int c = 0; c < kColumns; ++c) acc[half][r][c] = fma(w, xs[c], acc[half][r][c]);
    }
  };
  const auto whole_w = [](const uint8_t* at) { return F::load_at(at); };
  const auto whole_x = [](const float* at) { return load(at); };
  int64_t k = 0;
  for (; k + 2 * kLanes <= n_in; k += 2 * kLanes) {
    add_vector(0, k, whole_w, whole_x);
    add_vector(1, k + kLanes, whole_w, whole_x);
  }
  for (int half = 0; k < n_in; ++half, k += kLanes) {
    const int64_t n = n_in - k < kLanes ? n_in - k : kLanes;
    add_vector(
        half, k, [n](const uint8_t* at) { return load_end<F>(at, n); },
        [n](const float* at) { return load_end<PlainF32>(reinterpret_cast<const uint8_t*>(at), n); });
  }
  const int n_rows = p.n_groups * kLanes;
  for (int r = 0; r < kFloatRows; ++r) {
    for (int c = 0; c < kColumns; ++c)
      p.out[(first + c) * n_rows + row + r] = sum_of(add(acc[0][r][c], acc[1][r][c]));
  }
}

template <class F>
void multiply_floats(const StripProduct& p) {
  for (int g = 0; g < p.n_groups; ++g) {
    for (int r = 0; r < kLanes; r += kFloatRows) {
      const uint8_t* rows = reinterpret_cast<const uint8_t*>(p.groups[g]) + r * p.row_bytes;
      const int row = g * kLanes + r;
      int first = 0;
      for (; first + kFloatColumns <= p.n_columns; first += kFloatColumns) {
        multiply_floats_tile<F, kFloatColumns>(p, rows, row, first);
      }
      for (; first < p.n_columns; ++first) multiply_floats_tile<F, 1>(p, rows, row, first);
    }
  }
}

template <class F>
Matmul matmul_of_floats() {
  return {.input = InputKind::f32, .multiply = multiply_floats<F>, .panel_bytes = [](int64_t) -> int64_t {
            return 0;
          }};
}
