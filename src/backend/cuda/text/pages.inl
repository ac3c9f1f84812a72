// Keys and values among pages: where they lie, and how they are written.
#pragma once

#include "backend/cuda/text/formats.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {

struct Pages {
  std::byte* data = nullptr;  // (n_pages, n_heads, page_size, n_cols)
  Dtype dtype = Dtype::f32;
  int64_t n_pages = 0, n_heads = 0, page_size = 0, n_cols = 0, row_bytes = 0;

  Pages() = default;
  explicit Pages(const Tensor& pages) {
    if (!pages) return;
    data = pages.data;
    dtype = pages.dtype;
    n_pages = pages.dim(0), n_heads = pages.dim(1), page_size = pages.dim(2), n_cols = pages.dim(3);
    row_bytes = pages.row_bytes();
  }
  __device__ explicit operator bool() const { return data != nullptr; }
};

// Of a batch, as kernels read it.
struct Places {
  const int32_t* positions;
  const int32_t* seq_of_row;
  const int32_t* row_begin;
  const int32_t* page_tables;   // (n_seqs, max_pages)
  const int32_t* entry_tables;  // the same, of entries
  int64_t max_pages;

  explicit Places(const Batch& batch)
      : positions(batch.positions.i32()),
        seq_of_row(batch.seq_of_row.i32()),
        row_begin(batch.row_begin.i32()),
        page_tables(batch.page_tables.i32()),
        entry_tables(batch.tables_of_entries().i32()),
        max_pages(batch.page_tables.dim(1)) {}

  // Of pages that hold page_size positions each, by one of the tables.
  __device__ int64_t page_of(const int32_t* tables, int64_t seq, int64_t position, int64_t page_size,
                             const Pages& pages) const {
    require(position >= 0 && position / page_size < max_pages);
    const int64_t page = tables[seq * max_pages + position / page_size];
    require(page >= 0 && page < pages.n_pages);
    return page;
  }
};

// The vector of `head` at `position` of a sequence.
__device__ inline std::byte* page_row(const Pages& pages, const Places& places, int64_t seq, int64_t position,
                                      int64_t head) {
  const int64_t page = places.page_of(places.page_tables, seq, position, pages.page_size, pages);
  return pages.data +
         ((page * pages.n_heads + head) * pages.page_size + position % pages.page_size) * pages.row_bytes;
}

// Entry `entry` of a sequence, which stands for `stride` positions in pages of `page_size`: it lies with the
// last.
__device__ inline std::byte* entry_row(const Pages& pages, const Places& places, int64_t seq, int64_t entry,
                                       int64_t stride, int64_t page_size) {
  const int64_t last = (entry + 1) * stride - 1;
  const int64_t page = places.page_of(places.entry_tables, seq, last, page_size, pages);
  return pages.data + (page * pages.page_size + last % page_size / stride) * pages.row_bytes;
}

// As Decoder does, of the types that pages may have.
__device__ inline void decode_stored(Dtype dtype, const std::byte* row, int64_t first, int64_t n_cols,
                                     Eight& out) {
  switch (dtype) {
    case Dtype::f32:
      return Decoder<Dtype::f32>::run(row, first, n_cols, out);
    case Dtype::f16:
      return Decoder<Dtype::f16>::run(row, first, n_cols, out);
    case Dtype::bf16:
      return Decoder<Dtype::bf16>::run(row, first, n_cols, out);
    case Dtype::q8_0:
      return Decoder<Dtype::q8_0>::run(row, first, n_cols, out);
    case Dtype::q4_0:
      return Decoder<Dtype::q4_0>::run(row, first, n_cols, out);
    default:
      require(false);
  }
}

// As the encoders of quant/legacy do.
__device__ inline void encode_q8_0(const float* from, BlockQ8_0& block) {
  float largest = 0.0f;
  for (int i = 0; i < kLegacyElems; ++i) largest = fmaxf(largest, fabsf(from[i]));
  const float d = largest / 127.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
  block.d = f16_bits_of_float(d);
  for (int i = 0; i < kLegacyElems; ++i) {
    const float product = from[i] * inverse;
    const float scaled = fabsf(product) < 127.5f ? product : 0.0f;
    const auto whole = static_cast<int>(scaled);
    const float rest = scaled - static_cast<float>(whole);
    block.qs[i] = static_cast<int8_t>(whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0));
  }
}
__device__ inline void encode_q4_0(const float* from, BlockQ4_0& block) {
  float largest = 0.0f;  // of magnitude, with its sign
  for (int i = 0; i < kLegacyElems; ++i)
    if (fabsf(from[i]) > fabsf(largest)) largest = from[i];
  const float d = largest / -8.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
  block.d = f16_bits_of_float(d);
  const auto code = [&](int i) {
    const float level = from[i] * inverse + 8.5f;
    return static_cast<int>(fminf(level > 0.0f ? level : 0.0f, 15.0f));
  };
  for (int i = 0; i < kLegacyElems / 2; ++i)
    block.qs[i] = static_cast<uint8_t>(code(i) | code(i + kLegacyElems / 2) << 4);
}

// A warp writes n elements of `from`, which all of it sees.
__device__ inline void encode_row(const float* from, int64_t n, Dtype dtype, std::byte* row) {
  if (dtype == Dtype::q8_0 || dtype == Dtype::q4_0) {
    for (int64_t b = lane_index(); b < n / kLegacyElems; b += kWarp) {
      if (dtype == Dtype::q8_0) {
        encode_q8_0(from + b * kLegacyElems, reinterpret_cast<BlockQ8_0*>(row)[b]);
      } else {
        encode_q4_0(from + b * kLegacyElems, reinterpret_cast<BlockQ4_0*>(row)[b]);
      }
    }
    return;
  }
  for (int64_t i = lane_index(); i < n; i += kWarp) {
    if (dtype == Dtype::f32) reinterpret_cast<float*>(row)[i] = from[i];
    if (dtype == Dtype::f16) reinterpret_cast<uint16_t*>(row)[i] = f16_bits_of_float(from[i]);
    if (dtype == Dtype::bf16) reinterpret_cast<uint16_t*>(row)[i] = bf16_bits_of_float(from[i]);
  }
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
