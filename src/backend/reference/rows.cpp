// Ops that treat every row by itself and have no weight matrix.
#include <algorithm>

#include "backend/reference/compute.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {

void compute(const Add& op) {
  for (int64_t i = 0; i < op.x.n_elems(); ++i) op.x.f32()[i] += op.y.f32()[i];
}

void compute(const Norm& op) {
  if (op.add) compute(Add{.x = op.x, .y = op.add});
  const int64_t n_cols = op.x.n_cols();
  for (int64_t r = 0; r < op.x.dim(0); ++r) {
    const float* x = op.x.f32() + r * n_cols;
    float* out = op.out.f32() + r * n_cols;
    const double scale = inverse_rms(x, n_cols, op.eps);
    for (int64_t i = 0; i < n_cols; ++i) out[i] = static_cast<float>(x[i] * scale * op.weight.f32()[i]);
  }
}

void compute(const GatherRows& op) {
  for (int64_t i = 0; i < op.out.dim(0); ++i) {
    const int32_t row = op.rows.i32()[i];
    check(row >= 0 && row < op.x.dim(0), "a row outside of the batch");
    std::copy_n(op.x.row(row), op.x.row_bytes(), op.out.row(i));
  }
}

}  // namespace millrace::reference
