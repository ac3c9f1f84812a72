// Hyper-connections: several residual streams, collapsed before a branch and mixed after it.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/reference/compute.h"

namespace millrace::reference {
namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Row after row, divides `n` rows of `n` elements, `stride` apart within, by their sum + eps.
void normalise(std::vector<double>& matrix, size_t n, size_t row_stride, size_t stride, double eps) {
  for (size_t i = 0; i < n; ++i) {
    double sum = eps;
    for (size_t j = 0; j < n; ++j) sum += matrix[i * row_stride + j * stride];
    for (size_t j = 0; j < n; ++j) matrix[i * row_stride + j * stride] /= sum;
  }
}

// Sinkhorn-Knopp from the softmax of each row: nearly doubly stochastic.
void balance(std::vector<double>& matrix, size_t n, const HyperCollapse& op) {
  for (size_t i = 0; i < n; ++i) {
    const auto row = matrix.begin() + static_cast<ptrdiff_t>(i * n);
    const double most = *std::max_element(row, row + static_cast<ptrdiff_t>(n));
    double sum = 0;
    for (size_t j = 0; j < n; ++j) sum += row[static_cast<ptrdiff_t>(j)] = std::exp(matrix[i * n + j] - most);
    for (size_t j = 0; j < n; ++j) matrix[i * n + j] = matrix[i * n + j] / sum + op.eps;
  }
  normalise(matrix, n, 1, n, op.eps);  // columns
  for (int32_t i = 1; i < op.n_iterations; ++i) {
    normalise(matrix, n, n, 1, op.eps);
    normalise(matrix, n, 1, n, op.eps);
  }
}

}  // namespace

void compute(const HyperCollapse& op) {
  const int64_t n = op.x.dim(1), hidden = op.x.dim(2), n_mix = op.mix ? op.mix.dim(1) : 0;
  for (int64_t r = 0; r < op.x.dim(0); ++r) {
    const auto logit = [&](int64_t i, int64_t kind) {
      return double{op.mix.f32()[r * n_mix + i]} * double{op.scale.f32()[kind]} + double{op.base.f32()[i]};
    };
    std::vector<double> sums(static_cast<size_t>(hidden));
    for (int64_t s = 0; s < n; ++s) {
      const double weight = op.mix ? sigmoid(logit(s, 0)) + op.eps : 1.0 / static_cast<double>(n);
      for (int64_t i = 0; i < hidden; ++i)
        sums[static_cast<size_t>(i)] += weight * double{op.x.f32()[(r * n + s) * hidden + i]};
    }
    for (int64_t i = 0; i < hidden; ++i)
      op.out.f32()[r * hidden + i] = static_cast<float>(sums[static_cast<size_t>(i)]);
    if (!op.post) continue;
    for (int64_t s = 0; s < n; ++s)
      op.post.f32()[r * n + s] = static_cast<float>(2 * sigmoid(logit(n + s, 1)));
    std::vector<double> matrix(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n * n; ++i) matrix[static_cast<size_t>(i)] = logit(2 * n + i, 2);
    balance(matrix, static_cast<size_t>(n), op);
    for (int64_t i = 0; i < n * n; ++i)
      op.comb.f32()[r * n * n + i] = static_cast<float>(matrix[static_cast<size_t>(i)]);
  }
}

void compute(const HyperExpand& op) {
  const int64_t n = op.x.dim(1), hidden = op.x.dim(2);
  std::vector<double> mixed(static_cast<size_t>(n));
  for (int64_t r = 0; r < op.x.dim(0); ++r) {
    for (int64_t i = 0; i < hidden; ++i) {
      float* x = op.x.f32() + r * n * hidden + i;
      for (int64_t s = 0; s < n; ++s) {
        double sum = double{op.post.f32()[r * n + s]} * double{op.branch.f32()[r * hidden + i]};
        for (int64_t from = 0; from < n; ++from)
          sum += double{op.comb.f32()[(r * n + from) * n + s]} * double{x[from * hidden]};
        mixed[static_cast<size_t>(s)] = sum;
      }
      for (int64_t s = 0; s < n; ++s) x[s * hidden] = static_cast<float>(mixed[static_cast<size_t>(s)]);
    }
  }
}

}  // namespace millrace::reference
