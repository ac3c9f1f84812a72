// Products of quantised weights with int8 activations. Two ways to the same bits: for few columns the weights
// are expanded in registers and multiplied at once (direct); for many they are expanded once into a panel, in
// which lane r belongs to row r, and a tile of columns is multiplied with it. The integers are exact either
// way, and each output element adds its blocks in the order of the row, with the same float operations.

constexpr int kMaxDirectColumns = 4;
constexpr int kPanelLine = 4 * kLanes;  // bytes of 4 weights of each row of a group

inline Rows rows_of(const StripProduct& p, int group, int64_t at) {
  return {reinterpret_cast<const uint8_t*>(p.groups[group]) + at, p.row_bytes};
}

// Formats with one scale per 32: sum += d * dx * (codes . x - offset * sum(x)) + m * dx * sum(x).
template <class F>
inline Floats add_block32(Floats sum, Ints product, const Scales32& s, const InputScale32& x) {
  const Ints centred = F::kOffset == 0 ? product : sub(product, splat(F::kOffset * x.sum));
  sum = fma(mul(s.d, splat(x.scale)), to_float(centred), sum);
  return F::kHasMin ? fma(s.m, splat(x.scaled_sum), sum) : sum;
}

template <class F>
void multiply32_direct(const StripProduct& p, int group) {
  const int64_t n_blocks = p.inputs->n_in / 32;
  Floats sums_of_columns[kMaxDirectColumns];
  for (int c = 0; c < p.n_columns; ++c) sums_of_columns[c] = zeros();
  for (int64_t b = 0; b < n_blocks; ++b) {
    const Rows rows = rows_of(p, group, b * F::kBytes);
    Bytes w[kByteVectors];
    for (int v = 0; v < kByteVectors; ++v) w[v] = F::expand(rows, v);
    const Scales32 s = F::scales(rows);
    for (int c = 0; c < p.n_columns; ++c) {
      const int64_t column = p.columns[c];
      const Bytes x = repeat32(p.inputs->int8_32 + column * p.inputs->n_in + 32 * b);
      Ints d[kByteVectors];
      for (int v = 0; v < kByteVectors; ++v) d[v] = dot<F::kIsWide>(splat(0), w[v], x);
      sums_of_columns[c] =
          add_block32<F>(sums_of_columns[c], sums(d), s, p.inputs->scale32[column * n_blocks + b]);
    }
  }
  for (int c = 0; c < p.n_columns; ++c) store(p.out + (c * p.n_groups + group) * kLanes, sums_of_columns[c]);
}

// A panel of one group: for each block 8 lines of codes, then d and m of the rows.
constexpr int64_t kPanelBlock32 = 8 * kPanelLine + 2 * kLanes * 4;

template <class F>
void expand32(const StripProduct& p, int group, uint8_t* panel) {
  for (int64_t b = 0; b < p.inputs->n_in / 32; ++b, panel += kPanelBlock32) {
    const Rows rows = rows_of(p, group, b * F::kBytes);
    Bytes w[kByteVectors];
    for (int v = 0; v < kByteVectors; ++v) w[v] = F::expand(rows, v);
    transpose(w, panel);
    const Scales32 s = F::scales(rows);
    store(reinterpret_cast<float*>(panel + 8 * kPanelLine), s.d);
    store(reinterpret_cast<float*>(panel + 8 * kPanelLine) + kLanes, s.m);
  }
}

inline Bytes load_line(const uint8_t* p) { return load_bytes(p); }

// The tile of kGroups groups and kColumns columns from column `first` on.
template <class F, int kGroups, int kColumns>
void multiply32_tile(const StripProduct& p, const uint8_t* panel, int64_t panel_bytes, int first) {
  const int64_t n_blocks = p.inputs->n_in / 32;
  Floats acc[kGroups][kColumns];
  for (auto& line : acc) {
    for (Floats& each : line) each = zeros();
  }
  for (int64_t b = 0; b < n_blocks; ++b) {
    const uint8_t* block = panel + b * kPanelBlock32;
    Ints product[kGroups][kColumns];
    for (auto& line : product) {
      for (Ints& each : line) each = splat(0);
    }
    for (int k = 0; k < 8; ++k) {
      Bytes w[kGroups];
      for (int g = 0; g < kGroups; ++g) w[g] = load_line(block + g * panel_bytes + k * kPanelLine);
      for (int c = 0; c < kColumns; ++c) {
        const Bytes x = repeat4(p.inputs->int8_32 + p.columns[first + c] * p.inputs->n_in + 32 * b + 4 * k);
        for (int g = 0; g < kGroups; ++g) product[g][c] = dot<F::kIsWide>(product[g][c], w[g], x);
      }
    }
    for (int g = 0; g < kGroups; ++g) {
      const auto* scales = reinterpret_cast<const float*>(block + g * panel_bytes + 8 * kPanelLine);
      const Scales32 s = {load(scales), load(scales + kLanes)};
      for (int c = 0; c < kColumns; ++c) {
        acc[g][c] = add_block32<F>(acc[g][c], product[g][c], s,
                                   p.inputs->scale32[p.columns[first + c] * n_blocks + b]);
      }
    }
  }
  for (int c = 0; c < kColumns; ++c) {
    for (int g = 0; g < kGroups; ++g) store(p.out + ((first + c) * p.n_groups + g) * kLanes, acc[g][c]);
  }
}

// Formats with blocks of 256. `product` is the sum over sub-blocks of scale * (codes . x - offset * sum(x)).
template <class F>
inline Floats add_block256(Floats sum, Ints product, Ints minima, const Scales256& s, float x_scale) {
  sum = fma(mul(s.d, splat(x_scale)), to_float(product), sum);
  return F::kHasMin ? fnma(mul(s.dmin, splat(x_scale)), to_float(minima), sum) : sum;
}

template <class F>
inline Ints sum_of_minima(const Ints* minima, const InputScale256& x) {
  Ints sum = splat(0);
  if (!F::kHasMin) return sum;
  for (int i = 0; i < 256 / F::kSub; ++i) {
    sum = add(sum, mul(minima[i], splat(static_cast<int32_t>(F::kSub == 16 ? x.sums16[i] : x.sums32[i]))));
  }
  return sum;
}

// `dots` of sub-block i, scaled and centred, onto `sum`.
template <class F>
inline Ints add_sub_block(Ints sum, Ints dots, Ints scale, int i, const InputScale256& x) {
  if (F::kOffset != 0) {
    dots = sub(dots, splat(F::kOffset * static_cast<int32_t>(F::kSub == 16 ? x.sums16[i] : x.sums32[i])));
  }
  return add(sum, mul(dots, scale));
}

template <class F>
void multiply256_direct(const StripProduct& p, int group) {
  const int64_t n_blocks = p.inputs->n_in / 256;
  Floats acc[kMaxDirectColumns];
  for (int c = 0; c < p.n_columns; ++c) acc[c] = zeros();
  for (int64_t b = 0; b < n_blocks; ++b) {
    const Rows rows = rows_of(p, group, b * F::kBytes);
    const Scales256 s = F::scales(rows);
    Ints product[kMaxDirectColumns];
    for (int c = 0; c < p.n_columns; ++c) product[c] = splat(0);
    for (int chunk = 0; chunk < 8; ++chunk) {
      Bytes w[kByteVectors];
      for (int v = 0; v < kByteVectors; ++v) w[v] = F::expand(rows, v, chunk);
      for (int c = 0; c < p.n_columns; ++c) {
        const int64_t column = p.columns[c];
        const InputScale256& scale = p.inputs->scale256[column * n_blocks + b];
        const Bytes x = repeat32(p.inputs->int8_256 + column * p.inputs->n_in + 256 * b + 32 * chunk);
        Ints d[kByteVectors];
        for (int v = 0; v < kByteVectors; ++v) d[v] = dot<F::kIsWide>(splat(0), w[v], x);
        if (F::kSub == 32) {
          product[c] = add_sub_block<F>(product[c], sums(d), s.sub[chunk], chunk, scale);
        } else {
          const Halves halves = half_sums(d);
          product[c] = add_sub_block<F>(product[c], halves.low, s.sub[2 * chunk], 2 * chunk, scale);
          product[c] = add_sub_block<F>(product[c], halves.high, s.sub[2 * chunk + 1], 2 * chunk + 1, scale);
        }
      }
    }
    for (int c = 0; c < p.n_columns; ++c) {
      const InputScale256& scale = p.inputs->scale256[p.columns[c] * n_blocks + b];
      acc[c] = add_block256<F>(acc[c], product[c], sum_of_minima<F>(s.min, scale), s, scale.scale);
    }
  }
  for (int c = 0; c < p.n_columns; ++c) store(p.out + (c * p.n_groups + group) * kLanes, acc[c]);
}

// A panel of one group: for each block 64 lines of codes, then d, dmin, scales and minima of the rows.
constexpr int64_t kPanelCodes256 = 64 * kPanelLine;
template <class F>
constexpr int64_t kPanelBlock256 = kPanelCodes256 + (2 + 2 * 256 / F::kSub) * kLanes * 4;

template <class F>
void expand256(const StripProduct& p, int group, uint8_t* panel) {
  for (int64_t b = 0; b < p.inputs->n_in / 256; ++b, panel += kPanelBlock256<F>) {
    const Rows rows = rows_of(p, group, b * F::kBytes);
    for (int chunk = 0; chunk < 8; ++chunk) {
      Bytes w[kByteVectors];
      for (int v = 0; v < kByteVectors; ++v) w[v] = F::expand(rows, v, chunk);
      transpose(w, panel + 8 * chunk * kPanelLine);
    }
    const Scales256 s = F::scales(rows);
    auto* floats = reinterpret_cast<float*>(panel + kPanelCodes256);
    store(floats, s.d);
    store(floats + kLanes, s.dmin);
    auto* ints = reinterpret_cast<int32_t*>(floats + 2 * kLanes);
    for (int i = 0; i < 256 / F::kSub; ++i) {
      store(ints + 2 * i * kLanes, s.sub[i]);
      store(ints + (2 * i + 1) * kLanes, F::kHasMin ? s.min[i] : splat(0));
    }
  }
}

template <class F, int kGroups, int kColumns>
void multiply256_tile(const StripProduct& p, const uint8_t* panel, int64_t panel_bytes, int first) {
  constexpr int kLinesOfSub = F::kSub / 4;
  const int64_t n_blocks = p.inputs->n_in / 256;
  Floats acc[kGroups][kColumns];
  for (auto& line : acc) {
    for (Floats& each : line) each = zeros();
  }
  for (int64_t b = 0; b < n_blocks; ++b) {
    const uint8_t* block = panel + b * kPanelBlock256<F>;
    const auto scales_of = [&](int g) {
      return reinterpret_cast<const float*>(block + g * panel_bytes + kPanelCodes256);
    };
    Ints product[kGroups][kColumns];
    Ints minima[kGroups][kColumns];
    for (int g = 0; g < kGroups; ++g) {
      for (int c = 0; c < kColumns; ++c) product[g][c] = minima[g][c] = splat(0);
    }
    for (int i = 0; i < 256 / F::kSub; ++i) {
      Ints dots[kGroups][kColumns];
      for (auto& line : dots) {
        for (Ints& each : line) each = splat(0);
      }
      for (int k = i * kLinesOfSub; k < (i + 1) * kLinesOfSub; ++k) {
        Bytes w[kGroups];
        for (int g = 0; g < kGroups; ++g) w[g] = load_line(block + g * panel_bytes + k * kPanelLine);
        for (int c = 0; c < kColumns; ++c) {
          const Bytes x =
              repeat4(p.inputs->int8_256 + p.columns[first + c] * p.inputs->n_in + 256 * b + 4 * k);
          for (int g = 0; g < kGroups; ++g) dots[g][c] = dot<F::kIsWide>(dots[g][c], w[g], x);
        }
      }
      for (int g = 0; g < kGroups; ++g) {
        const auto* ints = reinterpret_cast<const int32_t*>(scales_of(g) + 2 * kLanes) + 2 * i * kLanes;
        const Ints scale = load(ints);
        for (int c = 0; c < kColumns; ++c) {
          const InputScale256& x = p.inputs->scale256[p.columns[first + c] * n_blocks + b];
          product[g][c] = add_sub_block<F>(product[g][c], dots[g][c], scale, i, x);
          if (F::kHasMin) {
            const int32_t sum = F::kSub == 16 ? x.sums16[i] : x.sums32[i];
            minima[g][c] = add(minima[g][c], mul(load(ints + kLanes), splat(sum)));
          }
        }
      }
    }
    for (int g = 0; g < kGroups; ++g) {
      Scales256 s;
      s.d = load(scales_of(g));
      s.dmin = load(scales_of(g) + kLanes);
      for (int c = 0; c < kColumns; ++c) {
        const float scale = p.inputs->scale256[p.columns[first + c] * n_blocks + b].scale;
        acc[g][c] = add_block256<F>(acc[g][c], product[g][c], minima[g][c], s, scale);
      }
    }
  }
  for (int c = 0; c < kColumns; ++c) {
    for (int g = 0; g < kGroups; ++g) store(p.out + ((first + c) * p.n_groups + g) * kLanes, acc[g][c]);
  }
}

// What the strips of both kinds share: choose the way, walk the tiles.
template <class F>
struct Kind32 {
  static constexpr InputKind kInput = InputKind::int8_32;
  static int64_t group_bytes(int64_t n_in) { return n_in / 32 * kPanelBlock32; }
  static void direct(const StripProduct& p, int g) { multiply32_direct<F>(p, g); }
  static void expand(const StripProduct& p, int g, uint8_t* panel) { expand32<F>(p, g, panel); }
  template <int kGroups, int kColumns>
  static void tile(const StripProduct& p, const uint8_t* panel, int64_t panel_bytes, int first) {
    multiply32_tile<F, kGroups, kColumns>(p, panel, panel_bytes, first);
  }
};
template <class F>
struct Kind256 {
  static constexpr InputKind kInput = InputKind::int8_256;
  static int64_t group_bytes(int64_t n_in) { return n_in / 256 * kPanelBlock256<F>; }
  static void direct(const StripProduct& p, int g) { multiply256_direct<F>(p, g); }
  static void expand(const StripProduct& p, int g, uint8_t* panel) { expand256<F>(p, g, panel); }
  template <int kGroups, int kColumns>
  static void tile(const StripProduct& p, const uint8_t* panel, int64_t panel_bytes, int first) {
    multiply256_tile<F, kGroups, kColumns>(p, panel, panel_bytes, first);
  }
};

// Columns [first, n) in tiles of kTileColumns, the rest in tiles of 2 and 1.
template <class Kind, int kGroups>
void walk_tiles(const StripProduct& p, const uint8_t* panel, int64_t panel_bytes) {
  int first = 0;
  for (; first + kTileColumns <= p.n_columns; first += kTileColumns) {
    Kind::template tile<kGroups, kTileColumns>(p, panel, panel_bytes, first);
  }
  for (; first + 2 <= p.n_columns; first += 2) Kind::template tile<kGroups, 2>(p, panel, panel_bytes, first);
  if (first < p.n_columns) Kind::template tile<kGroups, 1>(p, panel, panel_bytes, first);
}

template <class Kind>
void multiply_blocks(const StripProduct& p) {
  if (p.n_columns <= kMaxDirectColumns) {
    for (int g = 0; g < p.n_groups; ++g) Kind::direct(p, g);
    return;
  }
  auto* panel = reinterpret_cast<uint8_t*>(p.panel);
  const int64_t group_bytes = Kind::group_bytes(p.inputs->n_in);
  for (int g = 0; g < p.n_groups; ++g) Kind::expand(p, g, panel + g * group_bytes);
  if (p.n_groups == 2) {
    walk_tiles<Kind, 2>(p, panel, group_bytes);
  } else {
    walk_tiles<Kind, 1>(p, panel, group_bytes);
  }
}

template <class Kind>
Matmul matmul_of_blocks() {
  return {.input = Kind::kInput, .multiply = multiply_blocks<Kind>, .panel_bytes = [](int64_t n_in) {
            return kStripGroups * Kind::group_bytes(n_in);
          }};
}

inline void quantize32_row(const float* x, int64_t n, int8_t* q, InputScale32* scales) {
  for (int64_t b = 0; b < n / 32; ++b, x += 32, q += 32) {
    Floats largest = zeros();
    for (int i = 0; i < 32; i += kLanes) largest = max(largest, abs(load(x + i)));
    const float scale = max_of(largest) / 127.0f;
    const Floats inverse = splat(scale > 0.0f ? 1.0f / scale : 0.0f);
    for (int i = 0; i < 32; i += kLanes) store_int8(q + i, mul(load(x + i), inverse));
    int32_t sum = 0;
    for (int i = 0; i < 32; ++i) sum += q[i];
    scales[b] = {scale, sum, scale * static_cast<float>(sum)};
  }
}

inline void quantize256_row(const float* x, int64_t n, int8_t* q, InputScale256* scales) {
  for (int64_t b = 0; b < n / 256; ++b, x += 256, q += 256) {
    Floats largest = zeros();
    for (int i = 0; i < 256; i += kLanes) largest = max(largest, abs(load(x + i)));
    scales[b].scale = max_of(largest) / 127.0f;
    const Floats inverse = splat(scales[b].scale > 0.0f ? 1.0f / scales[b].scale : 0.0f);
    for (int i = 0; i < 256; i += kLanes) store_int8(q + i, mul(load(x + i), inverse));
    for (int s = 0; s < 16; ++s) {
      int32_t sum = 0;
      for (int i = 0; i < 16; ++i) sum += q[16 * s + i];
      scales[b].sums16[s] = static_cast<int16_t>(sum);
    }
    for (int s = 0; s < 8; ++s)
      scales[b].sums32[s] = static_cast<int16_t>(scales[b].sums16[2 * s] + scales[b].sums16[2 * s + 1]);
  }
}
