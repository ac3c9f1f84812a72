// Hyper-connections: a task is some rows.
#include <algorithm>
#include <cmath>

#include "backend/cpu/compute.h"

namespace millrace::cpu {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// Divides `n` vectors of `n` elements, `stride` apart, by their sum + eps.
void normalise(float* matrix, int64_t n, int64_t vector_stride, int64_t stride, float eps) {
  for (int64_t i = 0; i < n; ++i) {
    float* vector = matrix + i * vector_stride;
    float sum = 0.0f;
    for (int64_t j = 0; j < n; ++j) sum += vector[j * stride];
    for (int64_t j = 0; j < n; ++j) vector[j * stride] /= sum + eps;
  }
}

// Sinkhorn-Knopp from the softmax of each row: nearly doubly stochastic.
void balance(float* matrix, int64_t n, const HyperCollapse& op) {
  for (int64_t i = 0; i < n; ++i) {
    float* row = matrix + i * n;
    const float most = *std::max_element(row, row + n);
    float sum = 0.0f;
    for (int64_t j = 0; j < n; ++j) sum += row[j] = std::exp(row[j] - most);
    for (int64_t j = 0; j < n; ++j) row[j] = row[j] / sum + op.eps;
  }
  normalise(matrix, n, 1, n, op.eps);  // columns
  for (int32_t i = 1; i < op.n_iterations; ++i) {
    normalise(matrix, n, n, 1, op.eps);
    normalise(matrix, n, 1, n, op.eps);
  }
}

struct RowCopy {
  RowCopy(Carver& carver, int64_t n_elems) : elements(carver.take<float>(n_elems)) {}
  float* elements;
};

}  // namespace

void compute(Machine& machine, const HyperCollapse& op) {
  const int64_t n = op.x.dim(1), hidden = op.x.dim(2), n_mix = op.mix ? op.mix.dim(1) : 0;
  for_each_row(machine, op.x.dim(0), n * hidden, [&](int64_t r, int) {
    const float* base = op.base.f32();
    const auto logit = [&](int64_t i, int64_t kind) {
      return op.mix.f32()[r * n_mix + i] * op.scale.f32()[kind] + base[i];
    };
    float* out = op.out.f32() + r * hidden;
    std::fill_n(out, hidden, 0.0f);
    for (int64_t s = 0; s < n; ++s) {
      const float weight = op.mix ? sigmoid(logit(s, 0)) + op.eps : 1.0f / static_cast<float>(n);
      machine.kernels.weighted_add(out, op.x.f32() + (r * n + s) * hidden, weight, hidden);
    }
    if (!op.post) return;
    for (int64_t s = 0; s < n; ++s) op.post.f32()[r * n + s] = 2.0f * sigmoid(logit(n + s, 1));
    float* comb = op.comb.f32() + r * n * n;
    for (int64_t i = 0; i < n * n; ++i) comb[i] = logit(2 * n + i, 2);
    balance(comb, n, op);
  });
}

void compute(Machine& machine, const HyperExpand& op) {
  const int64_t n = op.x.dim(1), hidden = op.x.dim(2);
  machine.scratch.reserve<RowCopy>(n * hidden);
  for_each_row(machine, op.x.dim(0), n * n * hidden, [&](int64_t r, int thread) {
    float* old = machine.scratch.of_thread<RowCopy>(thread, n * hidden).elements;
    std::copy_n(op.x.f32() + r * n * hidden, n * hidden, old);
    for (int64_t s = 0; s < n; ++s) {
      float* x = op.x.f32() + (r * n + s) * hidden;
      std::copy_n(op.branch.f32() + r * hidden, hidden, x);
      machine.kernels.scale(x, op.post.f32()[r * n + s], hidden);
      for (int64_t from = 0; from < n; ++from)
        machine.kernels.weighted_add(x, old + from * hidden, op.comb.f32()[(r * n + from) * n + s], hidden);
    }
  });
}

}  // namespace millrace::cpu
