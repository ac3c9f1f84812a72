// How numbers are stored: the table of element formats, plain and quantised in blocks. A format is a folder
// beside this file (layout, codec) and a line in format.cpp. Ids, sizes and bit layouts are those of GGUF,
// but for the formats without an id: what quantised checkpoints of Hugging Face become.
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
  f8_e4m3,
  nvfp4,
  q4_z,
  q8_z,
};
inline constexpr int kNDtypes = 21;

// The ggml_type of a format that GGUF files cannot hold.
inline constexpr uint32_t kNoGgmlType = UINT32_MAX;

struct Format {
  Dtype dtype;
  std::string_view name;  // as users write it: "Q4_K"
  uint32_t ggml_type;     // the id in GGUF files
  int block_elems;        // elements a block; 1 for plain formats
  int block_bytes;

  // Decodes whole blocks: n_elems is a multiple of block_elems, or at most one row where a row may end in a
  // part of a block. nullptr for i32.
  void (*decode)(const std::byte* blocks, float* out, int64_t n_elems);
  // Encodes one row as ggml_quantize_chunk does, bit for bit.
  // `importance` is empty, or one weight >= 0 for each of the n_elems columns (then the search minimises the
  // weighted error). nullptr for i32.
  void (*encode)(const float* in, std::byte* blocks, int64_t n_elems, std::span<const float> importance);
  // False when a block holds a scale that is NaN or infinite: a corrupt file. nullptr where every pattern is
  // sound.
  bool (*is_sound)(const std::byte* blocks, int64_t n_elems);

  // Rows whose length is no multiple of block_elems end in a block that is stored whole; the elements beyond
  // the row are zeros.
  bool has_partial_blocks = false;
};

const Format& format_of(Dtype dtype);
std::span<const Format> all_formats();
// The format of that name (upper or lower case) or of that GGUF id, or nothing.
std::optional<Dtype> dtype_of_name(std::string_view name);
std::optional<Dtype> dtype_of_ggml_type(uint32_t ggml_type);

// What a tensor becomes in a GGUF file: its own format, or the nearest plain one where GGUF has none.
Dtype gguf_dtype_of(Dtype dtype);

// Bytes of `n_elems` elements: whole blocks, or a row of a format with partial blocks.
inline int64_t n_bytes_of(Dtype dtype, int64_t n_elems) {
  const Format& format = format_of(dtype);
  return (n_elems + format.block_elems - 1) / format.block_elems * format.block_bytes;
}

}  // namespace millrace
