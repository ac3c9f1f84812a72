// Formats as they lie, one function each: eight elements of a row, from a multiple of eight on. Layouts are
// those of quant/*/layout.h.
#pragma once

#include <bit>

#include "backend/cuda/text/threads.inl"
#include "quant/fp8/layout.h"
#include "quant/iq4/layout.h"
#include "quant/k/layout.h"
#include "quant/legacy/layout.h"
#include "quant/mxfp4/layout.h"
#include "quant/nvfp4/layout.h"
#include "quant/zero_point/layout.h"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {

using Eight = float[8];

// Eight bytes as one number, the first lowest, in loads of Word: as wide as the layout keeps aligned.
template <class Word>
__device__ inline uint64_t eight_bytes(const uint8_t* from) {
  constexpr int kWords = 8 / sizeof(Word);
  uint64_t bytes = 0;
  for (int i = 0; i < kWords; ++i)
    bytes |= static_cast<uint64_t>(load<Word>(from + i * sizeof(Word))) << (64 / kWords * i % 64);
  return bytes;
}

// Of n_bits from bit `shift` of byte i on: all bytes are shifted once.
__device__ inline int bits_of(uint64_t bytes, int i, int shift, int n_bits) {
  return static_cast<int>((bytes >> shift) >> 8 * i) & ((1 << n_bits) - 1);
}
__device__ inline int nibble(uint64_t bytes, int i, int shift) { return bits_of(bytes, i, shift, 4); }

// A table of 16 small numbers in two words: a kernel has no table of the host's.
constexpr uint64_t packed(const int8_t* levels) {
  uint64_t bytes = 0;
  for (int i = 0; i < 8; ++i) bytes |= static_cast<uint64_t>(static_cast<uint8_t>(levels[i])) << 8 * i;
  return bytes;
}
__device__ inline float level(uint64_t low, uint64_t high, int i) {
  return static_cast<float>(static_cast<int8_t>((i < 8 ? low : high) >> (i % 8 * 8) & 255));
}
__device__ inline float iq4_level(int i) {
  constexpr uint64_t kLow = packed(kIq4Levels), kHigh = packed(kIq4Levels + 8);
  return level(kLow, kHigh, i);
}
__device__ inline float e2m1_doubled(int i) {
  constexpr uint64_t kLow = packed(kMxfp4Doubled), kHigh = packed(kMxfp4Doubled + 8);
  return level(kLow, kHigh, i);
}

__device__ inline float float_of_bf16_bits(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
__device__ inline uint16_t bf16_bits_of_float(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 64);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
__device__ inline float float_of_e4m3_bits(uint64_t byte) {
  const auto bits = static_cast<uint32_t>(byte & 255);
  if ((bits & 0x7f) == 0x7f) return std::bit_cast<float>(0x7fc00000u);
  return 256.0f * float_of_f16_bits(static_cast<uint16_t>((bits & 0x80) << 8 | (bits & 0x7f) << 7));
}

// Decodes the elements [first, first + 8) of a row of n_cols; those beyond the row are zeros. `row` lies as
// the format's blocks must: at a multiple of the widest number in them. `first` is a multiple of 8, or any
// place in rows without blocks.
template <Dtype kType>
struct Decoder;

template <>
struct Decoder<Dtype::f32> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t n_cols, Eight& out) {
    const auto* from = reinterpret_cast<const float*>(row) + first;
    if (first + 8 <= n_cols && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
      const Bytes16 low = load16(from), high = load16(from + 4);
      for (int i = 0; i < 4; ++i) out[i] = std::bit_cast<float>(low.words[i]);
      for (int i = 0; i < 4; ++i) out[4 + i] = std::bit_cast<float>(high.words[i]);
      return;
    }
    for (int i = 0; i < 8; ++i) out[i] = first + i < n_cols ? from[i] : 0.0f;
  }
};

// Of 16 bits.
template <class ToFloat>
__device__ inline void decode_halves(const std::byte* row, int64_t first, int64_t n_cols, ToFloat to_float,
                                     Eight& out) {
  const auto* from = reinterpret_cast<const uint16_t*>(row) + first;
  if (first + 8 <= n_cols && reinterpret_cast<uintptr_t>(from) % 16 == 0) {
    const Bytes16 all = load16(from);
    for (int i = 0; i < 8; ++i) out[i] = to_float(static_cast<uint16_t>(all.words[i / 2] >> (i % 2 * 16)));
    return;
  }
  for (int i = 0; i < 8; ++i) out[i] = first + i < n_cols ? to_float(from[i]) : 0.0f;
}
template <>
struct Decoder<Dtype::f16> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t n_cols, Eight& out) {
    decode_halves(
        row, first, n_cols, [](uint16_t bits) { return float_of_f16_bits(bits); }, out);
  }
};
template <>
struct Decoder<Dtype::bf16> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t n_cols, Eight& out) {
    decode_halves(
        row, first, n_cols, [](uint16_t bits) { return float_of_bf16_bits(bits); }, out);
  }
};

// The block of element `first` in a row of blocks, and the element's place in it: unsigned, so that a
// compiler sees where neighbours share them.
template <class Block>
__device__ inline const Block& block_at(const std::byte* row, int64_t first, uint32_t n_elems) {
  return reinterpret_cast<const Block*>(row)[static_cast<uint32_t>(first) / n_elems];
}
__device__ inline int place_in_block(int64_t first, uint32_t n_elems) {
  return static_cast<int>(static_cast<uint32_t>(first) % n_elems);
}

template <>
struct Decoder<Dtype::q4_0> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ4_0>(row, first, kLegacyElems);
    const int at = place_in_block(first, kLegacyElems);
    const uint64_t qs = eight_bytes<uint16_t>(b.qs + at % 16);
    const float d = float_of_f16_bits(b.d);
    for (int i = 0; i < 8; ++i) out[i] = static_cast<float>(nibble(qs, i, at / 16 * 4) - 8) * d;
  }
};
template <>
struct Decoder<Dtype::q4_1> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ4_1>(row, first, kLegacyElems);
    const int at = place_in_block(first, kLegacyElems);
    const uint64_t qs = eight_bytes<uint32_t>(b.qs + at % 16);
    const float d = float_of_f16_bits(b.d), m = float_of_f16_bits(b.m);
    for (int i = 0; i < 8; ++i) out[i] = static_cast<float>(nibble(qs, i, at / 16 * 4)) * d + m;
  }
};
template <>
struct Decoder<Dtype::q5_0> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ5_0>(row, first, kLegacyElems);
    const int at = place_in_block(first, kLegacyElems);
    const uint64_t qs = eight_bytes<uint16_t>(b.qs + at % 16);
    const int high = b.qh[at / 8];
    const float d = float_of_f16_bits(b.d);
    for (int i = 0; i < 8; ++i)
      out[i] = static_cast<float>((nibble(qs, i, at / 16 * 4) | (high >> i & 1) << 4) - 16) * d;
  }
};
template <>
struct Decoder<Dtype::q5_1> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ5_1>(row, first, kLegacyElems);
    const int at = place_in_block(first, kLegacyElems);
    const uint64_t qs = eight_bytes<uint64_t>(b.qs + at % 16);
    const int high = b.qh[at / 8];
    const float d = float_of_f16_bits(b.d), m = float_of_f16_bits(b.m);
    for (int i = 0; i < 8; ++i)
      out[i] = static_cast<float>(nibble(qs, i, at / 16 * 4) | (high >> i & 1) << 4) * d + m;
  }
};
template <>
struct Decoder<Dtype::q8_0> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ8_0>(row, first, kLegacyElems);
    const auto* at = reinterpret_cast<const uint8_t*>(b.qs) + place_in_block(first, kLegacyElems);
    const uint64_t qs = eight_bytes<uint16_t>(at);
    const float d = float_of_f16_bits(b.d);
    for (int i = 0; i < 8; ++i) out[i] = static_cast<float>(static_cast<int8_t>(qs >> 8 * i & 255)) * d;
  }
};

template <>
struct Decoder<Dtype::q2_k> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ2K>(row, first, kSuperElems);
    const int at = place_in_block(first, kSuperElems);
    const uint64_t qs = eight_bytes<uint32_t>(b.qs + at / 128 * 32 + at % 32);
    const int shift = at % 128 / 32 * 2, scales = b.scales[at / 16];
    const float scale = float_of_f16_bits(b.d) * static_cast<float>(scales & 15);
    const float minimum = float_of_f16_bits(b.dmin) * static_cast<float>(scales >> 4);
    for (int i = 0; i < 8; ++i) out[i] = scale * static_cast<float>(bits_of(qs, i, shift, 2)) - minimum;
  }
};

template <>
struct Decoder<Dtype::q3_k> {
  __device__ static int scale_of(const BlockQ3K& b, int i) {
    const int low = i < 8 ? b.scales[i] & 15 : b.scales[i - 8] >> 4;
    const int high = b.scales[8 + i % 4] >> (2 * (i / 4)) & 3;
    return (low | high << 4) - 32;
  }
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ3K>(row, first, kSuperElems);
    const int at = place_in_block(first, kSuperElems);
    const uint64_t qs = eight_bytes<uint16_t>(b.qs + at / 128 * 32 + at % 32);
    const uint64_t high = eight_bytes<uint16_t>(b.hmask + at % 32);
    const int shift = at % 128 / 32 * 2;
    const float scale = float_of_f16_bits(b.d) * static_cast<float>(scale_of(b, at / 16));
    for (int i = 0; i < 8; ++i) {
      const int low = bits_of(qs, i, shift, 2);
      const int bit = bits_of(high, i, at / 32, 1);
      out[i] = scale * static_cast<float>((low | bit << 2) - 4);
    }
  }
};

// The 6-bit scale and minimum of group g of Q4_K and Q5_K, times d and dmin.
struct ScaleAndMinimum {
  float scale, minimum;
};
template <class Block>
__device__ inline ScaleAndMinimum scale_and_minimum(const Block& b, int g) {
  const Bytes16 all =
      load16(&b);  // d and dmin, and twelve bytes: both of groups 0 to 3, then what 4 to 7 add
  const int shift = g % 4 * 8;
  const uint32_t first = all.words[1] >> shift & 255, second = all.words[2] >> shift & 255,
                 third = all.words[3] >> shift & 255;
  const uint32_t scale = g < 4 ? first & 63 : (third & 15) | first >> 6 << 4;
  const uint32_t minimum = g < 4 ? second & 63 : third >> 4 | second >> 6 << 4;
  return {float_of_f16_bits(static_cast<uint16_t>(all.words[0])) * static_cast<float>(scale),
          float_of_f16_bits(static_cast<uint16_t>(all.words[0] >> 16)) * static_cast<float>(minimum)};
}

template <>
struct Decoder<Dtype::q4_k> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ4K>(row, first, kSuperElems);
    const int at = place_in_block(first, kSuperElems);
    const uint64_t qs = eight_bytes<uint64_t>(b.qs + at / 64 * 32 + at % 32);
    const ScaleAndMinimum by = scale_and_minimum(b, at / 32);
    for (int i = 0; i < 8; ++i)
      out[i] = by.scale * static_cast<float>(nibble(qs, i, at / 32 % 2 * 4)) - by.minimum;
  }
};
template <>
struct Decoder<Dtype::q5_k> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ5K>(row, first, kSuperElems);
    const int at = place_in_block(first, kSuperElems);
    const uint64_t qs = eight_bytes<uint64_t>(b.qs + at / 64 * 32 + at % 32);
    const uint64_t high = eight_bytes<uint64_t>(b.qh + at % 32);
    const ScaleAndMinimum by = scale_and_minimum(b, at / 32);
    for (int i = 0; i < 8; ++i) {
      const int bit = bits_of(high, i, at / 32, 1);
      out[i] = by.scale * static_cast<float>(nibble(qs, i, at / 32 % 2 * 4) | bit << 4) - by.minimum;
    }
  }
};
template <>
struct Decoder<Dtype::q6_k> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ6K>(row, first, kSuperElems);
    const int at = place_in_block(first, kSuperElems);
    const int half = at / 128, quarter = at % 128 / 32;
    const uint64_t low = eight_bytes<uint16_t>(b.ql + 64 * half + 32 * (quarter % 2) + at % 32);
    const uint64_t high = eight_bytes<uint16_t>(b.qh + 32 * half + at % 32);
    const int8_t of_sixteen = b.scales[at / 16];
    const float scale = float_of_f16_bits(b.d) * static_cast<float>(of_sixteen);
    for (int i = 0; i < 8; ++i) {
      const int top = bits_of(high, i, quarter * 2, 2);
      out[i] = scale * static_cast<float>((nibble(low, i, quarter / 2 * 4) | top << 4) - 32);
    }
  }
};

template <>
struct Decoder<Dtype::iq4_nl> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockIq4Nl>(row, first, kLegacyElems);
    const int at = place_in_block(first, kLegacyElems);
    const uint64_t qs = eight_bytes<uint16_t>(b.qs + at % 16);
    const float d = float_of_f16_bits(b.d);
    for (int i = 0; i < 8; ++i) out[i] = d * iq4_level(nibble(qs, i, at / 16 * 4));
  }
};
template <>
struct Decoder<Dtype::iq4_xs> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockIq4Xs>(row, first, kSuperElems);
    const int at = place_in_block(first, kSuperElems), group = at / 32;
    const uint64_t qs = eight_bytes<uint64_t>(b.qs + group * 16 + at % 16);
    const int low = b.scales_l[group / 2] >> (4 * (group % 2)) & 15;
    const int scale = (low | (b.scales_h >> (2 * group) & 3) << 4) - 32;
    const float d = float_of_f16_bits(b.d) * static_cast<float>(scale);
    for (int i = 0; i < 8; ++i) out[i] = d * iq4_level(nibble(qs, i, at % 32 / 16 * 4));
  }
};

template <>
struct Decoder<Dtype::mxfp4> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockMxfp4>(row, first, kLegacyElems);
    const int at = place_in_block(first, kLegacyElems);
    const uint64_t qs = eight_bytes<uint8_t>(b.qs + at % 16);
    const uint32_t half_scale = b.e < 2 ? 0x00200000u << b.e : static_cast<uint32_t>(b.e - 1) << 23;
    const float d = b.e == 255 ? std::bit_cast<float>(0x7fc00000u) : std::bit_cast<float>(half_scale);
    for (int i = 0; i < 8; ++i) out[i] = d * e2m1_doubled(nibble(qs, i, at / 16 * 4));
  }
};
template <>
struct Decoder<Dtype::nvfp4> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t n_cols, Eight& out) {
    const auto& b = block_at<BlockNvfp4>(row, first, kNvfp4Elems);
    const int at = place_in_block(first, kNvfp4Elems);
    const uint64_t qs = eight_bytes<uint64_t>(b.qs + at / 32 * 16 + at % 16);
    const float d = b.d * float_of_e4m3_bits(b.s[at / 16]);
    for (int i = 0; i < 8; ++i)
      out[i] = first + i < n_cols ? d * (0.5f * e2m1_doubled(nibble(qs, i, at / 16 % 2 * 4))) : 0.0f;
  }
};
template <>
struct Decoder<Dtype::f8_e4m3> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t n_cols, Eight& out) {
    const auto& b = block_at<BlockF8E4M3>(row, first, kF8Elems);
    const uint64_t q = eight_bytes<uint32_t>(b.q + place_in_block(first, kF8Elems));
    for (int i = 0; i < 8; ++i) out[i] = first + i < n_cols ? b.d * float_of_e4m3_bits(q >> 8 * i) : 0.0f;
  }
};

template <>
struct Decoder<Dtype::q4_z> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ4Z>(row, first, kZeroPointElems);
    const int at = place_in_block(first, kZeroPointElems);
    const uint64_t qs = eight_bytes<uint8_t>(b.qs + at % 16);
    const float d = float_of_f16_bits(static_cast<uint16_t>(b.d[0] | b.d[1] << 8));
    for (int i = 0; i < 8; ++i) out[i] = d * static_cast<float>(nibble(qs, i, at / 16 * 4) - b.z);
  }
};
template <>
struct Decoder<Dtype::q8_z> {
  __device__ static void run(const std::byte* row, int64_t first, int64_t, Eight& out) {
    const auto& b = block_at<BlockQ8Z>(row, first, kZeroPointElems);
    const auto* at = reinterpret_cast<const uint8_t*>(b.qs) + place_in_block(first, kZeroPointElems);
    const uint64_t qs = eight_bytes<uint16_t>(at);
    const uint32_t d =
        static_cast<uint32_t>(load<uint16_t>(b.d)) | static_cast<uint32_t>(load<uint16_t>(b.d + 2)) << 16;
    const auto z = static_cast<int>(static_cast<int16_t>(load<uint16_t>(b.z)));
    for (int i = 0; i < 8; ++i)
      out[i] = std::bit_cast<float>(d) * static_cast<float>(static_cast<int8_t>(qs >> 8 * i & 255) - z);
  }
};

#define MILLRACE_WEIGHT_TYPES(each)                                                                   \
  each(f32) each(f16) each(bf16) each(q4_0) each(q4_1) each(q5_0) each(q5_1) each(q8_0) each(q2_k)    \
      each(q3_k) each(q4_k) each(q5_k) each(q6_k) each(iq4_nl) each(iq4_xs) each(mxfp4) each(f8_e4m3) \
          each(nvfp4) each(q4_z) each(q8_z)

// Of any format; a kernel that knows its format uses the Decoder.
__device__ inline void decode_any(Dtype dtype, const std::byte* row, int64_t first, int64_t n_cols,
                                  Eight& out) {
  switch (dtype) {
#define MILLRACE_CASE(type) \
  case Dtype::type:         \
    return Decoder<Dtype::type>::run(row, first, n_cols, out);
    MILLRACE_WEIGHT_TYPES(MILLRACE_CASE)
#undef MILLRACE_CASE
    case Dtype::i32:
      return;
  }
}

// On the host: calls use(std::integral_constant<Dtype, type>()) with the type that `dtype` is.
template <class Use>
void with_weight_type(Dtype dtype, const Use& use) {
  switch (dtype) {
#define MILLRACE_CASE(type) \
  case Dtype::type:         \
    return use(std::integral_constant<Dtype, Dtype::type>());
    MILLRACE_WEIGHT_TYPES(MILLRACE_CASE)
#undef MILLRACE_CASE
    case Dtype::i32:
      check(false, "weights are no integers");
  }
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
