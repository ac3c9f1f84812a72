// head_linear: a task is the product of one head for a run of rows. The part of x that is multiplied is
// packed first, so that the vectors of a head lie as activations of a linear do.
#include <algorithm>

#include "backend/cpu/inputs.h"
#include "backend/cpu/strip.h"

namespace millrace::cpu {
namespace {

struct SharedPart {
  SharedPart(Carver& carver, InputViews views, const HeadLinear& op)
      : packed(carver.take<float>(op.x.dim(0) * op.x.dim(1) * op.weight.dim(2))),
        inputs(carver, views, op.x.dim(0) * op.x.dim(1), op.weight.dim(2)) {}

  float* packed;  // (n_heads of x, n_rows, n_in)
  InputMemory inputs;
};

// Packs what is multiplied, and carries over the rest.
void split_rows(Machine& machine, const HeadLinear& op, const SharedPart& shared) {
  const int64_t n_heads = op.weight.dim(0);
  const int64_t n_packed = op.x.dim(1);  // n_heads, or 1
  const int64_t n_in = op.weight.dim(2);
  const int64_t n_carried = op.out.dim(2) - op.weight.dim(1);
  for_each_row(machine, op.x.dim(0), n_heads * op.x.dim(2), [&](int64_t r, int) {
    for (int64_t h = 0; h < n_heads; ++h) {
      const float* x = op.x.f32() + (r * n_packed + std::min(h, n_packed - 1)) * op.x.dim(2);
      if (h < n_packed) std::copy_n(x, n_in, shared.packed + (h * op.x.dim(0) + r) * n_in);
      std::copy_n(x + n_in, n_carried, op.out.f32() + (r * n_heads + h) * op.out.dim(2) + op.weight.dim(1));
    }
  });
}

}  // namespace

void compute(Machine& machine, const HeadLinear& op) {
  const int64_t n_rows = op.x.dim(0);
  if (n_rows == 0) return;
  const Kernels& kernels = machine.kernels;
  const int64_t n_heads = op.weight.dim(0);
  const InputViews views(kernels, {op.weight});
  const auto shared = machine.scratch.shared<SharedPart>(views, op);
  const int64_t max_columns = std::min(n_rows, kMaxColumns);
  const std::initializer_list<Tensor> weights = {op.weight};
  machine.scratch.reserve<StripScratch>(kernels, weights, max_columns);
  split_rows(machine, op, shared);
  const Tensor packed(shared.packed, Dtype::f32, {op.x.dim(1) * n_rows, op.weight.dim(2)});
  const Inputs inputs = prepare_inputs(machine, packed, views, shared.inputs);

  const Strips strips(kernels, op.weight.dim(1));
  const Weight read = machine.read(op.weight);
  const int64_t stride = n_heads * op.out.dim(2);
  const int64_t n_runs = (n_rows + max_columns - 1) / max_columns;
  machine.pool.run(static_cast<int>(n_heads * n_runs), [&](int task, int thread) {
    const int64_t head = task / n_runs;
    const int64_t first = task % n_runs * max_columns;
    const int64_t packed_head = std::min(head, op.x.dim(1) - 1);
    const ColumnRange columns{packed_head * n_rows + first, std::min(max_columns, n_rows - first)};
    const Weight weight = read.at(head);
    const auto scratch = machine.scratch.of_thread<StripScratch>(thread, kernels, weights, max_columns);
    float* out = op.out.f32() + first * stride + head * op.out.dim(2);
    for (int64_t s = 0; s < strips.n_strips(); ++s) {
      const RowRange range = strips.at(s);
      multiply_strip(kernels, weight, range, inputs, columns, scratch, out + range.first, stride);
    }
  });
}

}  // namespace millrace::cpu
