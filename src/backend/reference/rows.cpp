// Ops that treat every row by itself and have no weight matrix.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/reference/compute.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {
namespace {

// The norm of vector `r` of x: a row, or a head of a row.
void norm_vector(const Norm& op, int64_t r, float* out) {
  const int64_t n_cols = op.x.n_cols();
  std::vector<double> x(op.x.f32() + r * n_cols, op.x.f32() + (r + 1) * n_cols);
  double sum = 0;
  if (op.kind == NormKind::layer) {
    for (const double value : x) sum += value;
    for (double& value : x) value -= sum / static_cast<double>(n_cols);
  }
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(n_cols) + double{op.eps});
  // Where each head has a weight of its own, vector r is of head r modulo their number.
  const int64_t first = op.weight.n_dims == 2 ? r % op.weight.dim(0) * n_cols : 0;
  for (int64_t i = 0; i < n_cols; ++i) {
    const double weight = op.weight ? double{op.weight.f32()[first + i]} : 1.0;
    const double bias = op.bias ? double{op.bias.f32()[first + i]} : 0.0;
    out[i] = static_cast<float>(x[static_cast<size_t>(i)] * scale * weight + bias);
  }
}

// mean + n_deviations * standard deviation of x.
double cutoff(const float* x, int64_t n, double n_deviations) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  const double mean = sum / static_cast<double>(n);
  for (int64_t i = 0; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  return mean + n_deviations * std::sqrt(squares / static_cast<double>(n));
}

}  // namespace

void compute(const Add& op) {
  for (int64_t i = 0; i < op.x.n_elems(); ++i) {
    float& x = op.x.f32()[i];
    x = static_cast<float>(double{op.x_scale} * double{x} + double{op.y_scale} * double{op.y.f32()[i]});
  }
}

void compute(const MatchRms& op) {
  const int64_t n_cols = op.x.n_cols();
  for (int64_t r = 0; r < op.x.dim(0); ++r) {
    const float* x = op.x.f32() + r * n_cols;
    const float* like = op.like.f32() + r * n_cols;
    const double n = static_cast<double>(n_cols);
    const double wanted = std::sqrt(dot(like, like, n_cols) / n);
    const double found = std::sqrt(std::max(dot(x, x, n_cols) / n, double{kLeastMeanSquare}));
    for (int64_t i = 0; i < n_cols; ++i)
      op.out.f32()[r * n_cols + i] = static_cast<float>(x[i] * wanted / found);
  }
}

void compute(const MixStreams& op) {
  const int64_t n_cols = op.x[0].n_cols();
  for (int64_t r = 0; r < op.weights.dim(0); ++r) {
    const float* weights = op.weights.f32() + r * op.weights.n_cols();
    for (int i = 0; i < op.n_streams; ++i) {
      for (int64_t c = r * n_cols; c < (r + 1) * n_cols; ++c) {
        double sum = op.x[i].f32()[c];
        for (int j = 0; j < op.n_inputs; ++j)
          sum += (double{weights[i * op.n_inputs + j]} + double{op.offset}) * double{op.y[j].f32()[c]};
        op.out[i].f32()[c] = static_cast<float>(sum);
      }
    }
  }
}

void compute(const Gate& op) {
  const int64_t n_cols = op.out.n_cols();
  for (int64_t r = 0; r < op.out.dim(0); ++r) {
    const float* gate = op.gate.f32() + (op.gate.n_dims == 1 ? 0 : r * n_cols);
    const double least = cutoff(gate, n_cols, op.cutoff);
    for (int64_t i = 0; i < n_cols; ++i) {
      const double g = std::isfinite(op.cutoff) ? std::max(0.0, gate[i] - least) : double{gate[i]};
      float& out = op.out.f32()[r * n_cols + i];
      out = static_cast<float>(activate(op.activation, g) * double{op.x.f32()[r * n_cols + i]});
    }
  }
}

void compute(const Norm& op) {
  if (op.add) {
    float* x = op.x.f32();
    for (int64_t i = 0; i < op.x.n_elems(); ++i)
      x[i] = static_cast<float>(x[i] + double{op.add_scale} * double{op.add.f32()[i]});
  }
  const int64_t n_cols = op.x.n_cols();
  for (int64_t r = 0; r < op.x.n_rows(); ++r) norm_vector(op, r, op.out.f32() + r * n_cols);
}

void compute(const Split& op) {
  const int64_t n_first = op.first.n_cols(), n_second = op.second.n_cols();
  for (int64_t r = 0; r < op.x.dim(0); ++r) {
    const float* x = op.x.f32() + r * op.x.n_cols();
    std::copy_n(x, n_first, op.first.f32() + r * n_first);
    std::copy_n(x + n_first, n_second, op.second.f32() + r * n_second);
  }
}

void compute(const GatherRows& op) {
  for (int64_t i = 0; i < op.out.dim(0); ++i) {
    const int32_t row = op.rows.i32()[i];
    check(row >= 0 && row < op.x.dim(0), "a row outside of the batch");
    std::copy_n(op.x.row(row), op.x.row_bytes(), op.out.row(i));
  }
}

void compute(const MeanRows& op) {
  const int64_t n_cols = op.x.n_cols();
  for (int64_t i = 0; i < op.out.dim(0); ++i) {
    const int32_t begin = op.begin.i32()[i], end = op.end.i32()[i];
    check(begin >= 0 && begin < end && end <= op.x.dim(0), "some rows of the batch");
    for (int64_t c = 0; c < n_cols; ++c) {
      double sum = 0;
      for (int32_t r = begin; r < end; ++r) sum += double{op.x.f32()[r * n_cols + c]};
      op.out.f32()[i * n_cols + c] = static_cast<float>(sum / (end - begin));
    }
  }
}

}  // namespace millrace::reference
