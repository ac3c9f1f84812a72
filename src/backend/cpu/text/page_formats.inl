// The quantised formats that pages may have: values of single rows, and rows made of floats. A row is whole
// blocks of 32. Layouts: quant/legacy/layout.h.

// The float16 at the beginning of a block, in all lanes.
inline Floats block_scale(const uint8_t* block) {
  uint16_t bits;
  __builtin_memcpy(&bits, block, sizeof bits);
  return f16_to_float(splat(int32_t{bits}));
}
inline void store_block_scale(uint8_t* block, float scale) {
  alignas(64) uint8_t lanes[2 * kLanes];
  store_f16(lanes, splat(scale));
  __builtin_memcpy(block, lanes, 2);
}

// The values of 32 bytes under a scale of each row, [byte][row].
inline void store_transposed(const uint8_t* const* bytes, int at, Floats scales, float* out) {
  alignas(64) uint8_t transposed[32 * kLanes];
  transpose_bytes(bytes, at, transposed);
  for (int i = 0; i < 32; ++i)
    store(out + i * kLanes, mul(to_float(widen_int8(transposed + i * kLanes)), scales));
}
// The float16 at byte `at` of each of kLanes rows.
inline Floats gather_scales(const uint8_t* const* rows, int64_t at) {
  alignas(64) uint8_t bits[2 * kLanes];
  for (int r = 0; r < kLanes; ++r) __builtin_memcpy(bits + 2 * r, rows[r] + at, 2);
  return widen_f16(load_words(bits));
}

struct PageQ8_0 {
  static constexpr int kBlockBytes = 34;
  static Floats load_lanes(const uint8_t* row, int64_t k) {
    const uint8_t* block = row + k / 32 * kBlockBytes;
    return mul(to_float(widen_int8(block + 2 + k % 32)), block_scale(block));
  }
  // Elements [k, k + 32) of kLanes rows, [element][row].
  static void transpose_block(const uint8_t* const* rows, int k, float* out) {
    const int at = k / 32 * kBlockBytes;
    store_transposed(rows, at + 2, gather_scales(rows, at), out);
  }
  static void store_block(const float* x, uint8_t* block) {
    alignas(64) int8_t q[32];
    store_block_scale(block, quantize_block<32>(x, q));
    __builtin_memcpy(block + 2, q, sizeof q);
  }
};

struct PageQ4_0 {
  static constexpr int kBlockBytes = 18;
  static Floats load_lanes(const uint8_t* row, int64_t k) {
    const uint8_t* block = row + k / 32 * kBlockBytes;
    const Ints pairs = widen_bytes(block + 2 + k % 16);
    const Ints q = bit_and(shift_right(pairs, static_cast<int>(k / 16 % 2 * 4)), splat(15));
    return mul(to_float(sub(q, splat(8))), block_scale(block));
  }
  static void transpose_block(const uint8_t* const* rows, int k, float* out) {
    const int at = k / 32 * kBlockBytes;
    const Floats scales = gather_scales(rows, at);
    alignas(64) uint8_t pairs[kLanes][32] = {}, transposed[32 * kLanes];
    const uint8_t* copies[kLanes];
    for (int r = 0; r < kLanes; ++r) {
      __builtin_memcpy(pairs[r], rows[r] + at + 2, 16);
      copies[r] = pairs[r];
    }
    transpose_bytes(copies, 0, transposed);
    for (int i = 0; i < 16; ++i) {
      const Ints pair = widen_bytes(transposed + i * kLanes);
      const Ints low = bit_and(pair, splat(15)), high = shift_right(pair, 4);
      store(out + i * kLanes, mul(to_float(sub(low, splat(8))), scales));
      store(out + (16 + i) * kLanes, mul(to_float(sub(high, splat(8))), scales));
    }
  }
  // The value of the largest magnitude becomes -8, as the format's own rounding does it.
  static void store_block(const float* x, uint8_t* block) {
    Floats most = zeros(), least = zeros();
    for (int i = 0; i < 32; i += kLanes) {
      most = max(most, load(x + i));
      least = max(least, sub(zeros(), load(x + i)));
    }
    const float above = max_of(most), below = max_of(least);
    const float scale = (above > below ? above : -below) / -8.0f;
    const float inverse = above > 1e-30f || below > 1e-30f ? 1.0f / scale : 0.0f;
    store_block_scale(block, scale);
    uint8_t q[32];
    for (int i = 0; i < 32; ++i) {
      const float shifted = x[i] * inverse + 8.5f;
      q[i] = static_cast<uint8_t>(shifted < 15.0f ? shifted : 15.0f);
    }
    for (int i = 0; i < 16; ++i) block[2 + i] = static_cast<uint8_t>(q[i] | q[16 + i] << 4);
  }
};

template <class F>
void store_blocks(const float* x, std::byte* out, int64_t n) {
  auto* block = reinterpret_cast<uint8_t*>(out);
  for (int64_t i = 0; i < n; i += 32, block += F::kBlockBytes) F::store_block(x + i, block);
}
