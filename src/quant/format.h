// How numbers are stored: the table of element formats, plain and quantised in blocks. A format is a folder
// beside this file (layout, codec) and a line in format.cpp. Ids, sizes and bit layouts are those of GGUF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace millrace {

enum class Dtype : uint8_t {
  f32,
  f16,
  bf16,
  i32,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
};
inline constexpr int kNDtypes = 17;

struct Format {
  Dtype dtype;
  std::string_view name;  // as users write it: "Q4_K"
  uint32_t ggml_type;     // the id in GGUF files
  int block_elems;        // elements a block; 1 for plain formats
  int block_bytes;

  // Decodes whole blocks: n_elems is a multiple of block_elems. nullptr for i32.
  void (*decode)(const std::byte* blocks, float* out, int64_t n_elems);
  // Encodes one row as ggml_quantize_chunk does, bit for bit.
  // `importance` is empty, or one weight >= 0 for each of the n_elems columns (then the search minimises the
  // weighted error). nullptr for i32.
  void (*encode)(const float* in, std::byte* blocks, int64_t n_elems, std::span<const float> importance);
  // False when a block holds a scale that is NaN or infinite: a corrupt file. nullptr where every pattern is
  // sound.
  bool (*is_sound)(const std::byte* blocks, int64_t n_elems);
};

const Format& format_of(Dtype dtype);
std::span<const Format> all_formats();
// The format of that name (upper or lower case) or of that GGUF id, or nothing.
std::optional<Dtype> dtype_of_name(std::string_view name);
std::optional<Dtype> dtype_of_ggml_type(uint32_t ggml_type);

// Bytes of `n_elems` elements, which must be a multiple of the block.
inline int64_t n_bytes_of(Dtype dtype, int64_t n_elems) {
  const Format& format = format_of(dtype);
  return n_elems / format.block_elems * format.block_bytes;
}

}  // namespace millrace
