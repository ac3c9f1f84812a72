// The lightning indexer: scores of every position a row sees, then the largest of them. Rows come in waves,
// so that their scores fit into bounded memory.
#include "backend/cuda/text/compute.inl"
#include "backend/cuda/text/largest.inl"
#include "backend/cuda/text/pages.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

struct SelectArguments {
  Places places;
  const float* q;        // (n_rows, n_heads, head_dim)
  const float* weights;  // (n_rows, n_heads)
  Pages k_pages;
  int64_t n_heads, head_dim;
  int32_t* selected;  // (n_rows, n_selected)
  int64_t n_selected, entry_stride, page_size;
  bool expands;
  float* scores;  // (rows of a wave, n_scores)
  int64_t n_scores, first_row;
};

__device__ inline int64_t n_seen(const SelectArguments& a, int64_t row) {
  return (a.places.positions[row] + 1) / a.entry_stride;
}

// A thread a position or entry.
__global__ void score_kernel(SelectArguments a) {
  const int64_t row = a.first_row + block_y(), j = block_x() * n_threads() + thread_index();
  if (j >= n_seen(a, row)) return;
  const int64_t seq = a.places.seq_of_row[row];
  const std::byte* key = a.entry_stride == 1
                             ? page_row(a.k_pages, a.places, seq, j, 0)
                             : entry_row(a.k_pages, a.places, seq, j, a.entry_stride, a.page_size);
  float sum = 0.0f;
  for (int64_t h = 0; h < a.n_heads; ++h) {
    const float* q = a.q + (row * a.n_heads + h) * a.head_dim;
    float product = 0.0f;
    for (int64_t first = 0; first < a.head_dim; first += 8) {
      Eight values;
      decode_any(a.k_pages.dtype, key, first, a.head_dim, values);
      for (int64_t i = 0; i < least<int64_t>(8, a.head_dim - first); ++i)
        product = fmaf(q[first + i], values[i], product);
    }
    sum = fmaf(a.weights[row * a.n_heads + h], most(product, 0.0f), sum);
  }
  a.scores[block_y() * a.n_scores + j] = sum;
}

// A block a row.
__global__ void choose_kernel(SelectArguments a) {
  auto& shared = *reinterpret_cast<SelectShared*>(shared_memory());
  const int64_t row = a.first_row + block_x(), n_keys = n_seen(a, row);
  const int64_t n_entries = a.expands ? a.n_selected / a.entry_stride : a.n_selected;
  const int64_t n_chosen = least(n_keys, n_entries), n_each = a.expands ? a.entry_stride : 1;
  const float* scores = a.scores + block_x() * a.n_scores;
  int32_t* selected = a.selected + row * a.n_selected;
  if (n_chosen > 0) {
    choose_largest(scores, n_keys, n_chosen, shared, [&](int64_t at, int64_t j) {
      for (int64_t i = 0; i < n_each; ++i) selected[at * n_each + i] = static_cast<int32_t>(j * n_each + i);
    });
  }
  // Positions after the last whole run, then nothing.
  const int64_t n_past = a.places.positions[row] + 1, n_rest = a.expands ? n_past % a.entry_stride : 0;
  for (int64_t i = n_chosen * n_each + thread_index(); i < a.n_selected; i += kSelectThreads) {
    const int64_t rest = i - n_chosen * n_each;
    selected[i] = rest < n_rest ? static_cast<int32_t>(n_past - n_rest + rest) : -1;
  }
}

}  // namespace

void compute(Machine& machine, const SelectPositions& op) {
  const int64_t page_size = op.entry_stride == 1 ? op.k_pages.dim(2) : op.page_size,
                n_rows = op.batch.n_rows();
  if (n_rows == 0) return;
  const int64_t n_scores = n_blocks_for(op.batch.page_tables.dim(1) * page_size, op.entry_stride);
  constexpr int64_t kMostScores = int64_t{1} << 24;
  constexpr int64_t kMostRows = 65535;  // of a grid
  const int64_t n_wave = most<int64_t>(1, least(least(n_rows, kMostRows), kMostScores / n_scores));
  auto* scores =
      reinterpret_cast<float*>(machine.scratch.take(static_cast<size_t>(n_wave * n_scores) * sizeof(float)));
  SelectArguments arguments{.places = Places(op.batch),
                            .q = op.q.f32(),
                            .weights = op.weights.f32(),
                            .k_pages = Pages(op.k_pages),
                            .n_heads = op.q.dim(1),
                            .head_dim = op.q.dim(2),
                            .selected = op.selected.i32(),
                            .n_selected = op.selected.dim(1),
                            .entry_stride = op.entry_stride,
                            .page_size = page_size,
                            .expands = op.expands,
                            .scores = scores,
                            .n_scores = n_scores,
                            .first_row = 0};
  for (; arguments.first_row < n_rows; arguments.first_row += n_wave) {
    const int64_t n = least(n_wave, n_rows - arguments.first_row);
    launch(machine, score_kernel, {n_blocks_for(n_scores, kSelectThreads), n}, kSelectThreads, 0, arguments);
    launch(machine, choose_kernel, {n}, kSelectThreads, sizeof(SelectShared), arguments);
  }
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
