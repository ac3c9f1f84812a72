// What attention is, whichever kernel computes it: what a row sees, where that lies, and how blocks of
// positions are joined, in their order.
#pragma once

#include "backend/cuda/text/pages.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {

struct AttentionArguments {
  Places places;
  int64_t n_rows, n_seqs;
  const float* q;  // (n_rows, n_heads, head_dim)
  Pages k_pages, v_pages, entry_pages;
  const float* k_rows;  // (n_rows, n_kv_heads, head_dim), where there are no pages
  const float* v_rows;
  const float* sinks;
  const int32_t* selected;  // optional (n_rows, n_selected)
  int64_t n_selected;
  float* out;  // (n_rows, n_heads, v_head_dim)
  int64_t n_heads, n_kv_heads, head_dim, v_head_dim;
  float scale, softcap;
  int64_t window, chunk, reach, entry_stride;
  int n_block_heads;  // query heads of a block of threads, in float32
  int64_t n_head_groups;
  // (n_rows, n_heads, n_blocks, 2 + v_head_dim): maximum, sum and values of each block of positions, counted
  // from the first that a row sees, where the blocks are divided among blocks of threads
  float* partials;
  int64_t n_blocks;  // of positions, at most
};

// What a row sees: items [begin, end), which are positions, places in its list, or entries and then
// positions.
struct Seen {
  int64_t row, seq, begin, end;
  int64_t n_entries;       // the first items are
  int64_t first_position;  // of the item after them
};

// Of the list of a row, which ends in -1.
__device__ inline int64_t n_listed(const AttentionArguments& a, int64_t row) {
  const int32_t* list = a.selected + row * a.n_selected;
  int64_t low = 0, high = a.n_selected;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (list[middle] >= 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ inline Seen seen_by(const AttentionArguments& a, int64_t row) {
  const int64_t seq = a.places.seq_of_row[row], position = a.places.positions[row];
  if (a.k_rows != nullptr) {
    const int64_t first = a.places.row_begin[seq], n = a.places.row_begin[seq + 1] - first, at = row - first;
    if (a.reach == 0) return {row, seq, 0, n, 0, 0};
    return {row, seq, most<int64_t>(0, at - a.reach), least<int64_t>(n, at + a.reach + 1), 0, 0};
  }
  const int64_t by_window = a.window > 0 ? most<int64_t>(0, position - a.window + 1) : 0;
  const int64_t first = most(by_window, a.chunk > 0 ? position / a.chunk * a.chunk : 0);
  if (a.entry_pages) {
    const int64_t n = a.selected != nullptr ? n_listed(a, row) : (position + 1) / a.entry_stride;
    return {row, seq, 0, n + position + 1 - first, n, first};
  }
  if (a.selected != nullptr) return {row, seq, 0, n_listed(a, row), 0, 0};
  return {row, seq, first, position + 1, 0, 0};
}

struct KeyAndValue {
  const std::byte* key;
  const std::byte* value;
};

__device__ inline KeyAndValue find(const AttentionArguments& a, const Seen& seen, int64_t item,
                                   int64_t head) {
  if (a.k_rows != nullptr) {
    const int64_t at = (a.places.row_begin[seen.seq] + item) * a.n_kv_heads + head;
    return {reinterpret_cast<const std::byte*>(a.k_rows + at * a.head_dim),
            reinterpret_cast<const std::byte*>(a.v_rows + at * a.v_head_dim)};
  }
  if (item < seen.n_entries) {
    const int64_t entry = a.selected != nullptr ? a.selected[seen.row * a.n_selected + item] : item;
    const std::byte* key =
        entry_row(a.entry_pages, a.places, seen.seq, entry, a.entry_stride, a.k_pages.page_size);
    return {key, key};
  }
  int64_t position = item;
  if (a.entry_pages) {
    position = seen.first_position + item - seen.n_entries;
  } else if (a.selected != nullptr) {
    position = a.selected[seen.row * a.n_selected + item];
  }
  const std::byte* key = page_row(a.k_pages, a.places, seen.seq, position, head);
  return {key, a.v_pages ? page_row(a.v_pages, a.places, seen.seq, position, head) : key};
}

// Two runs of positions become one.
struct Join {
  float max, sum;
  float of_first, of_second;  // what their values are multiplied by

  // Of a run where nothing is seen the maximum is -infinity, and the other one stays as it is.
  __device__ Join(float first_max, float first_sum, float second_max, float second_sum)
      : max(fmaxf(first_max, second_max)) {
    const float from = max == -kInfinity ? 0.0f : max;
    of_first = expf(first_max - from);
    of_second = expf(second_max - from);
    sum = first_sum * of_first + second_sum * of_second;
  }
};

// The sink of a head comes last; then the values are divided by the sum.
__device__ inline float divisor(const AttentionArguments& a, int64_t head, float max, float sum,
                                float& factor) {
  factor = 1.0f;
  if (a.sinks == nullptr) return sum;
  const Join with_sink(max, sum, a.sinks[head], 1.0f);
  factor = with_sink.of_first;
  return with_sink.sum;
}

// Zeros lose the sign that they have of positions which other rows see.
__device__ inline float divided(float total, float factor, float sum) { return total * factor / sum + 0.0f; }

__device__ inline float* partial_of(const AttentionArguments& a, int64_t row, int64_t head, int64_t block) {
  return a.partials + ((row * a.n_heads + head) * a.n_blocks + block) * (2 + a.v_head_dim);
}

// On tensor cores (attention_tiles.inl). How many blocks of threads compute something at once, where blocks
// of positions are not divided; 0 where attention is float32: of keys and values that are, and of heads so
// large that there is no kernel.
int64_t n_attention_tiles(const AttentionArguments& a);
inline constexpr int kMaxTileRows = 64;  // of a block of threads
void attend_in_tiles(Machine& machine, const AttentionArguments& a);

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
