// What the folders of formats offer to the table in format.cpp: for each format a decode, an encode and,
// where a block holds a scale, a soundness check. Their contracts are those of Format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "quant/half.h"

namespace millrace {

using Importance = std::span<const float>;

inline bool is_finite_f16(uint16_t bits) { return (bits & 0x7c00) != 0x7c00; }

#define MILLRACE_CODEC(name)                                                                      \
  void decode_##name(const std::byte* blocks, float* out, int64_t n_elems);                       \
  void encode_##name(const float* in, std::byte* blocks, int64_t n_elems, Importance importance); \
  bool is_sound_##name(const std::byte* blocks, int64_t n_elems);

MILLRACE_CODEC(f32)
MILLRACE_CODEC(f16)
MILLRACE_CODEC(bf16)
MILLRACE_CODEC(q4_0)
MILLRACE_CODEC(q4_1)
MILLRACE_CODEC(q5_0)
MILLRACE_CODEC(q5_1)
MILLRACE_CODEC(q8_0)
MILLRACE_CODEC(q2_k)
MILLRACE_CODEC(q3_k)
MILLRACE_CODEC(q4_k)
MILLRACE_CODEC(q5_k)
MILLRACE_CODEC(q6_k)
MILLRACE_CODEC(iq4_nl)
MILLRACE_CODEC(iq4_xs)
MILLRACE_CODEC(mxfp4)
MILLRACE_CODEC(f8_e4m3)
MILLRACE_CODEC(nvfp4)
MILLRACE_CODEC(q4_z)
MILLRACE_CODEC(q8_z)
#undef MILLRACE_CODEC

// is_sound for a block type with the float16 scales that `scales_ok` looks at.
template <class Block, class ScalesOk>
bool all_blocks(const std::byte* blocks, int64_t n_blocks, ScalesOk scales_ok) {
  const auto* b = reinterpret_cast<const Block*>(blocks);
  for (int64_t i = 0; i < n_blocks; ++i) {
    if (!scales_ok(b[i])) return false;
  }
  return true;
}

}  // namespace millrace
