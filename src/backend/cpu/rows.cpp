// Ops that go row by row: embed, norm, add, gather.
#include <algorithm>
#include <cstring>

#include "backend/cpu/compute.h"

namespace millrace::cpu {
namespace {

// Rows are handed to the threads in runs, so that a short row does not cost a task.
template <class Each>
void for_rows(Context& context, int64_t n_rows, int64_t n_cols, const Each& each) {
  constexpr int64_t kElemsPerTask = 1 << 14;
  const int64_t run = std::max<int64_t>(1, kElemsPerTask / std::max<int64_t>(1, n_cols));
  context.pool.run(static_cast<int>((n_rows + run - 1) / run), [&](int task, int) {
    for (int64_t r = task * run; r < std::min(n_rows, (task + 1) * run); ++r) each(r);
  });
}

}  // namespace

void compute(Context& context, const Embed& op) {
  const int64_t hidden = op.table.dim(1);
  const Format& format = format_of(op.table.dtype);
  for_rows(context, op.tokens.dim(0), hidden, [&](int64_t r) {
    float* out = op.out.f32() + r * hidden;
    const int32_t token = op.tokens.i32()[r];
    check(token >= 0 && token < op.table.dim(0), "a token outside of the vocabulary");
    format.decode(op.table.row(token), out, hidden);
    if (op.scale != 1.0f) context.kernels.scale(out, op.scale, hidden);
  });
}

void compute(Context& context, const Norm& op) {
  const int64_t n_cols = op.x.n_cols();
  for_rows(context, op.x.n_rows(), n_cols, [&](int64_t r) {
    float* x = op.x.f32() + r * n_cols;
    if (op.add) context.kernels.add(x, op.add.f32() + r * n_cols, n_cols);
    context.kernels.norm(
        {.x = x, .weight = op.weight.f32(), .out = op.out.f32() + r * n_cols, .n = n_cols, .eps = op.eps});
  });
}

void compute(Context& context, const Add& op) {
  const int64_t n_cols = op.x.n_cols();
  for_rows(context, op.x.n_rows(), n_cols,
           [&](int64_t r) { context.kernels.add(op.x.f32() + r * n_cols, op.y.f32() + r * n_cols, n_cols); });
}

void compute(Context& context, const GatherRows& op) {
  const int64_t row_bytes = op.x.row_bytes();
  for_rows(context, op.rows.dim(0), op.x.n_cols(), [&](int64_t i) {
    std::memcpy(op.out.row(i), op.x.row(op.rows.i32()[i]), static_cast<size_t>(row_bytes));
  });
}

}  // namespace millrace::cpu
