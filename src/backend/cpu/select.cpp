// select_positions: first the scores of some rows, a task for each row and block of positions, then the
// choice of each row. Rows come in waves, so that their scores fit into bounded memory.
#include <algorithm>
#include <numeric>
#include <span>

#include "backend/cpu/compute.h"
#include "backend/cpu/pages.h"

namespace millrace::cpu {
namespace {

constexpr int64_t kBlock = kAttentionPositions;

// What a thread needs to score a block, or to choose.
struct SelectScratch {
  SelectScratch(Carver& carver, const SelectPositions& op, int64_t n_positions)
      : k_rows(carver.take<const std::byte*>(kBlock)),
        queries(carver.take<const float*>(op.q.dim(1))),
        k_panel(carver.take<float>(int64_t{kPanelPositions} * padded(static_cast<int>(op.q.dim(2))))),
        products(carver.take<float>(op.q.dim(1) * kBlock)),
        order(carver.take<int32_t>(n_positions)) {}

  const std::byte** k_rows;
  const float** queries;
  float* k_panel;
  float* products;
  int32_t* order;
};

struct Scores {
  Scores(Carver& carver, int64_t n_rows, int64_t n_positions)
      : of_rows(carver.take<float>(n_rows * n_positions)) {}
  float* of_rows;  // (rows of a wave, n_positions)
};

int64_t n_seen(const SelectPositions& op, int64_t row) {
  return (op.batch.positions.i32()[row] + 1) / op.entry_stride;
}

void score_block(const Kernels& kernels, const SelectPositions& op, int64_t row, int64_t block,
                 const SelectScratch& scratch, float* out) {
  const int64_t first = block * kBlock;
  const int64_t n_positions = std::min(kBlock, n_seen(op, row) - first);
  if (n_positions <= 0) return;
  const int64_t n_heads = op.q.dim(1);
  const int64_t seq = op.batch.seq_of_row.i32()[row];
  const PageReader keys(op.k_pages, op.batch, seq);
  const EntryReader entries(op.k_pages, op.batch, seq, {op.entry_stride, op.page_size});
  for (int64_t j = 0; j < n_positions; ++j)
    scratch.k_rows[j] = op.entry_stride == 1 ? keys.at(first + j, 0) : entries.at(first + j);
  for (int64_t h = 0; h < n_heads; ++h) scratch.queries[h] = op.q.f32() + (row * n_heads + h) * op.q.dim(2);
  kernels.pages[static_cast<size_t>(op.k_pages.dtype)].index_scores({
      .head_dim = static_cast<int>(op.q.dim(2)),
      .n_positions = static_cast<int>(n_positions),
      .k_rows = scratch.k_rows,
      .n_heads = static_cast<int>(n_heads),
      .queries = scratch.queries,
      .weights = op.weights.f32() + row * n_heads,
      .k_panel = scratch.k_panel,
      .products = scratch.products,
      .out = out + first,
  });
}

// The positions that `entries` stand for, and those of the run that is not whole before `n_past`. Returns the
// end.
int32_t* expand(std::span<const int32_t> entries, int32_t stride, int32_t n_past, int32_t* out) {
  for (const int32_t entry : entries) {
    std::iota(out, out + stride, entry * stride);
    out += stride;
  }
  std::iota(out, out + n_past % stride, n_past / stride * stride);
  return out + n_past % stride;
}

// Of the scores of a row. What is no number is chosen last, so that the order is one.
void choose(const SelectPositions& op, int64_t row, std::span<float> scores, int32_t* order) {
  const int64_t width = op.selected.dim(1);
  const int64_t n_selected = op.expands ? width / op.entry_stride : width;
  int32_t* selected = op.selected.i32() + row * width;
  const auto n = static_cast<int64_t>(scores.size());
  std::iota(order, order + n, 0);
  if (n > n_selected) {
    for (float& score : scores) score = score == score ? score : -__builtin_inff();
    std::nth_element(order, order + n_selected, order + n, [&](int32_t a, int32_t b) {
      const float x = scores[static_cast<size_t>(a)], y = scores[static_cast<size_t>(b)];
      return x > y || (x == y && a < b);
    });
    std::sort(order, order + n_selected);
  }
  const std::span<const int32_t> chosen(order, static_cast<size_t>(std::min(n, n_selected)));
  int32_t* end = op.expands ? expand(chosen, op.entry_stride, op.batch.positions.i32()[row] + 1, selected)
                            : std::ranges::copy(chosen, selected).out;
  std::fill(end, selected + width, -1);
}

}  // namespace

void compute(Machine& machine, const SelectPositions& op) {
  const int64_t n_rows = op.batch.n_rows();
  if (n_rows == 0) return;
  int64_t n_blocks = 0;
  for (int64_t r = 0; r < n_rows; ++r) n_blocks = std::max(n_blocks, (n_seen(op, r) + kBlock - 1) / kBlock);
  const int64_t n_positions = std::max<int64_t>(1, n_blocks) * kBlock;
  constexpr int64_t kWaveBytes = 16 << 20;
  const int64_t rows_a_wave =
      std::clamp<int64_t>(kWaveBytes / (n_positions * static_cast<int64_t>(sizeof(float))), 1, n_rows);
  machine.scratch.reserve<SelectScratch>(op, n_positions);
  const auto scores = machine.scratch.shared<Scores>(rows_a_wave, n_positions);
  for (int64_t wave = 0; wave < n_rows; wave += rows_a_wave) {
    const int64_t n = std::min(rows_a_wave, n_rows - wave);
    machine.pool.run(static_cast<int>(n * n_blocks), [&](int task, int thread) {
      const int64_t r = task / n_blocks;
      score_block(machine.kernels, op, wave + r, task % n_blocks,
                  machine.scratch.of_thread<SelectScratch>(thread, op, n_positions),
                  scores.of_rows + r * n_positions);
    });
    machine.pool.run(static_cast<int>(n), [&](int r, int thread) {
      choose(op, wave + r, {scores.of_rows + r * n_positions, static_cast<size_t>(n_seen(op, wave + r))},
             machine.scratch.of_thread<SelectScratch>(thread, op, n_positions).order);
    });
  }
}

}  // namespace millrace::cpu
