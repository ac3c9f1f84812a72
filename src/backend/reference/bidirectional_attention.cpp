// Attention of whole sequences in both directions.
#include <algorithm>
#include <vector>

#include "backend/reference/compute.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {
namespace {

// Query head `h` of row `r`, which sees the rows [begin, end).
void attend(const BidirectionalAttention& op, int64_t r, int64_t h, int64_t begin, int64_t end) {
  const int64_t n_heads = op.q.dim(1), n_kv_heads = op.k.dim(1);
  const int64_t head_dim = op.k.dim(2), v_head_dim = op.v.dim(2);
  const int64_t kv_head = h / (n_heads / n_kv_heads);
  const float* q = op.q.f32() + (r * n_heads + h) * head_dim;
  std::vector<double> weights;
  for (int64_t j = begin; j < end; ++j) {
    const double product = dot(q, op.k.f32() + (j * n_kv_heads + kv_head) * head_dim, head_dim);
    weights.push_back(soft_capped(op.scale * product, op.softcap));
  }
  softmax(weights);
  float* out = op.out.f32() + (r * n_heads + h) * v_head_dim;
  for (int64_t i = 0; i < v_head_dim; ++i) {
    double sum = 0;
    for (int64_t j = begin; j < end; ++j) {
      const double value = op.v.f32()[(j * n_kv_heads + kv_head) * v_head_dim + i];
      sum += weights[static_cast<size_t>(j - begin)] * value;
    }
    out[i] = static_cast<float>(sum);
  }
}

}  // namespace

void compute(const BidirectionalAttention& op) {
  for (int64_t seq = 0; seq < op.batch.n_seqs(); ++seq) {
    const int64_t first = op.batch.row_begin.i32()[seq], last = op.batch.row_begin.i32()[seq + 1];
    for (int64_t r = first; r < last; ++r) {
      const int64_t begin = op.reach > 0 ? std::max(first, r - op.reach) : first;
      const int64_t end = op.reach > 0 ? std::min(last, r + op.reach + 1) : last;
      for (int64_t h = 0; h < op.q.dim(1); ++h) attend(op, r, h, begin, end);
    }
  }
}

}  // namespace millrace::reference
