// The lightning indexer: which positions a row attends to.
#include <algorithm>
#include <numeric>
#include <vector>

#include "backend/reference/compute.h"
#include "backend/reference/pages.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {
namespace {

// The scores of row `r` for the positions before `n_seen`, rounded: the last bit may decide.
std::vector<float> scores_of_row(const SelectPositions& op, int64_t r, int64_t n_seen) {
  const int64_t n_heads = op.q.dim(1);
  const int64_t head_dim = op.q.dim(2);
  std::vector<float> scores(static_cast<size_t>(n_seen));
  std::vector<float> key(static_cast<size_t>(head_dim));
  for (int64_t j = 0; j < n_seen; ++j) {
    const int64_t seq = op.batch.seq_of_row.i32()[r];
    const std::byte* row = op.entry_stride == 1
                               ? page_row(op.k_pages, op.batch, seq, j, 0)
                               : entry_row(op.k_pages, op.batch, seq, j, {op.entry_stride, op.page_size});
    format_of(op.k_pages.dtype).decode(row, key.data(), head_dim);
    double sum = 0;
    for (int64_t h = 0; h < n_heads; ++h) {
      const int64_t head = r * n_heads + h;
      const double product = dot(op.q.f32() + head * head_dim, key.data(), head_dim);
      sum += op.weights.f32()[head] * std::max(0.0, product);
    }
    scores[static_cast<size_t>(j)] = static_cast<float>(sum);
  }
  return scores;
}

// The positions that `entries` stand for, and those of the run that is not whole before `n_past`.
std::vector<int32_t> expanded(const std::vector<int32_t>& entries, int32_t stride, int32_t n_past) {
  std::vector<int32_t> positions;
  for (const int32_t entry : entries)
    for (int32_t i = 0; i < stride; ++i) positions.push_back(entry * stride + i);
  for (int32_t i = n_past / stride * stride; i < n_past; ++i) positions.push_back(i);
  return positions;
}

}  // namespace

void compute(const SelectPositions& op) {
  const int64_t width = op.selected.dim(1);
  const int64_t n_selected = op.expands ? width / op.entry_stride : width;
  for (int64_t r = 0; r < op.batch.n_rows(); ++r) {
    const int32_t n_past = op.batch.positions.i32()[r] + 1;
    const int64_t n_seen = n_past / op.entry_stride;
    const std::vector<float> scores = scores_of_row(op, r, n_seen);
    std::vector<int32_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::ranges::greater(),
                             [&](int32_t j) { return scores[static_cast<size_t>(j)]; });
    order.resize(static_cast<size_t>(std::min(n_seen, n_selected)));
    std::ranges::sort(order);
    if (op.expands) order = expanded(order, op.entry_stride, n_past);
    order.resize(static_cast<size_t>(width), -1);
    std::ranges::copy(order, op.selected.i32() + r * width);
  }
}

}  // namespace millrace::reference
