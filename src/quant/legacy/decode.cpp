#include <cstring>

#include "quant/codecs.h"
#include "quant/legacy/layout.h"

namespace millrace {
namespace {

// The levels of a block: low nibbles are the first half.
void unpack_nibbles(const uint8_t (&qs)[16], uint8_t (&levels)[kLegacyElems]) {
  for (int j = 0; j < 16; ++j) {
    levels[j] = qs[j] & 15;
    levels[j + 16] = static_cast<uint8_t>(qs[j] >> 4);
  }
}

// Bit k of `qh` becomes the fifth of level k, eight levels at a time: each byte keeps one bit of the eight,
// and what is added carries it to the top of the byte.
void add_fifth_bits(const uint8_t (&qh)[4], uint8_t (&levels)[kLegacyElems]) {
  for (int k = 0; k < 4; ++k) {
    const uint64_t apart = qh[k] * 0x0101010101010101u & 0x8040201008040201u;
    const uint64_t fifth = (apart + 0x00406070787c7e7fu) >> 3 & 0x1010101010101010u;
    uint64_t eight = 0;
    std::memcpy(&eight, levels + 8 * k, sizeof eight);
    eight |= fifth;
    std::memcpy(levels + 8 * k, &eight, sizeof eight);
  }
}

// Calls levels_of(block, levels), then value(block, level) for each of them.
template <class Block, class Levels, class Value>
void decode(const std::byte* blocks, float* out, int64_t n_elems, Levels levels_of, Value value) {
  const auto* b = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < n_elems / kLegacyElems; ++i, out += kLegacyElems) {
    uint8_t levels[kLegacyElems];
    levels_of(b[i], levels);
    const auto value_of = value(b[i]);
    for (int k = 0; k < kLegacyElems; ++k) out[k] = value_of(levels[k]);
  }
}

constexpr auto kFourBits = [](const auto& b, uint8_t (&levels)[kLegacyElems]) {
  unpack_nibbles(b.qs, levels);
};
constexpr auto kFiveBits = [](const auto& b, uint8_t (&levels)[kLegacyElems]) {
  unpack_nibbles(b.qs, levels);
  add_fifth_bits(b.qh, levels);
};

// (level - middle) * d, and level * d + m.
template <int kMiddle>
constexpr auto kAroundZero = [](const auto& b) {
  return [d = float_of_f16(b.d)](int level) { return static_cast<float>(level - kMiddle) * d; };
};
constexpr auto kAboveMinimum = [](const auto& b) {
  return
      [d = float_of_f16(b.d), m = float_of_f16(b.m)](int level) { return static_cast<float>(level) * d + m; };
};

}  // namespace

void decode_q4_0(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ4_0>(blocks, out, n_elems, kFourBits, kAroundZero<8>);
}

void decode_q4_1(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ4_1>(blocks, out, n_elems, kFourBits, kAboveMinimum);
}

void decode_q5_0(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ5_0>(blocks, out, n_elems, kFiveBits, kAroundZero<16>);
}

void decode_q5_1(const std::byte* blocks, float* out, int64_t n_elems) {
  decode<BlockQ5_1>(blocks, out, n_elems, kFiveBits, kAboveMinimum);
}

void decode_q8_0(const std::byte* blocks, float* out, int64_t n_elems) {
  const auto* b = reinterpret_cast<const BlockQ8_0*>(blocks);
  for (int64_t i = 0; i < n_elems / kLegacyElems; ++i, out += kLegacyElems) {
    const float d = float_of_f16(b[i].d);
    for (int k = 0; k < kLegacyElems; ++k) out[k] = static_cast<float>(b[i].qs[k]) * d;
  }
}

bool is_sound_q4_0(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ4_0>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d); });
}
bool is_sound_q4_1(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ4_1>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d) && is_finite_f16(b.m); });
}
bool is_sound_q5_0(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ5_0>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d); });
}
bool is_sound_q5_1(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ5_1>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d) && is_finite_f16(b.m); });
}
bool is_sound_q8_0(const std::byte* blocks, int64_t n_elems) {
  return all_blocks<BlockQ8_0>(blocks, n_elems / kLegacyElems,
                               [](const auto& b) { return is_finite_f16(b.d); });
}

}  // namespace millrace
