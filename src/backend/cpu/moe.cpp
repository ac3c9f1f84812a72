// Mixtures of experts: the router, and products grouped by expert so that each expert's weights are read once
// for all of its rows.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "backend/cpu/matmul.h"

namespace millrace::cpu {
namespace {

// The (row, place) pairs of each expert: slots[begin[e] .. begin[e + 1]) are r * n_used + j, ascending.
struct Groups {
  const int32_t* begin;       // (n_experts + 1)
  const int32_t* slots;       // (n_rows * n_used)
  std::vector<int32_t> used;  // experts with at least one row, ascending
};

// A counting sort, stable.
Groups group_by_expert(Context& context, const Tensor& experts, int64_t n_experts) {
  const int64_t n_slots = experts.n_elems();
  int32_t* begin = context.routes.take(2 * (n_experts + 1) + n_slots);
  int32_t* next = begin + n_experts + 1;
  int32_t* slots = next + n_experts + 1;
  std::fill(begin, begin + n_experts + 1, 0);
  for (int64_t i = 0; i < n_slots; ++i) ++begin[experts.i32()[i] + 1];
  std::partial_sum(begin, begin + n_experts + 1, begin);
  std::copy(begin, begin + n_experts, next);
  for (int64_t i = 0; i < n_slots; ++i) slots[next[experts.i32()[i]]++] = static_cast<int32_t>(i);
  Groups groups{.begin = begin, .slots = slots};
  for (int32_t e = 0; e < n_experts; ++e) {
    if (begin[e] < begin[e + 1]) groups.used.push_back(e);
  }
  return groups;
}

void scores_of(float* logits, int64_t n, RouteScore score) {
  if (score == RouteScore::sigmoid) {
    for (int64_t i = 0; i < n; ++i) logits[i] = 1.0f / (1.0f + std::exp(-logits[i]));
    return;
  }
  const float max = *std::max_element(logits, logits + n);
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += logits[i] = std::exp(logits[i] - max);
  for (int64_t i = 0; i < n; ++i) logits[i] /= sum;
}

// The n_used largest of scores + bias, descending, ties by the lower index.
void choose(const Route& op, const float* scores, int32_t* experts, float* weights) {
  const int64_t n_experts = op.weight.dim(0), n_used = op.experts.dim(1);
  const auto rank = [&](int32_t e) {
    return op.select_bias ? scores[e] + op.select_bias.f32()[e] : scores[e];
  };
  std::vector<int32_t> order(static_cast<size_t>(n_experts));
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + n_used, order.end(),
                    [&](int32_t a, int32_t b) { return rank(a) > rank(b) || (rank(a) == rank(b) && a < b); });
  float sum = 0.0f;
  for (int64_t j = 0; j < n_used; ++j) {
    experts[j] = order[static_cast<size_t>(j)];
    weights[j] = scores[experts[j]];
    sum += weights[j];
  }
  for (int64_t j = 0; j < n_used; ++j) weights[j] *= op.scale / (op.renormalise ? sum : 1.0f);
}

}  // namespace

// The router decides, so it is not quantised: whatever the format of its weights, the activations stay
// float32.
void compute(Context& context, const Route& op) {
  const int64_t n_rows = op.x.dim(0), n_experts = op.weight.dim(0), hidden = op.x.dim(1),
                n_used = op.experts.dim(1);
  if (n_rows == 0) return;
  float* decoded = context.floats.take(n_experts * hidden + n_rows * n_experts);
  float* scores = decoded + n_experts * hidden;
  format_of(op.weight.dtype).decode(op.weight.data, decoded, n_experts * hidden);
  const Tensor weight(decoded, Dtype::f32, {n_experts, hidden});
  const Inputs inputs{.n_in = hidden, .f32 = op.x.f32()};
  const std::span<const int32_t> columns = all_columns(context, n_rows);
  context.pool.run(static_cast<int>(n_strips(context, n_experts)), [&](int task, int thread) {
    const Strip strip = multiply_strip(context, thread, 0, weight, inputs, columns, task);
    for (int64_t c = 0; c < n_rows; ++c) {
      std::memcpy(scores + c * n_experts + strip.first, strip.products + c * strip.stride,
                  static_cast<size_t>(strip.n_rows) * sizeof(float));
    }
  });
  for (int64_t r = 0; r < n_rows; ++r) {
    scores_of(scores + r * n_experts, n_experts, op.score);
    choose(op, scores + r * n_experts, op.experts.i32() + r * n_used, op.weights.f32() + r * n_used);
  }
}

void compute(Context& context, const MoeGated& op) {
  const int64_t n_used = op.experts.dim(1), n_ff = op.gate.dim(1);
  if (op.x.dim(0) == 0) return;
  const Groups groups = group_by_expert(context, op.experts, op.gate.dim(0));
  const Dtype formats[2] = {op.gate.dtype, op.up.dtype};
  const Inputs inputs = quantize_inputs(context, op.x, formats);
  int32_t* rows = context.columns.take(op.experts.n_elems());  // the input row of each slot
  for (int64_t i = 0; i < op.experts.n_elems(); ++i) rows[i] = groups.slots[i] / static_cast<int32_t>(n_used);
  const auto activate =
      op.activation == Activation::silu ? context.kernels.silu_mul : context.kernels.gelu_mul;
  const int64_t n_tasks_each = n_strips(context, n_ff);
  context.pool.run(static_cast<int>(n_tasks_each * std::ssize(groups.used)), [&](int task, int thread) {
    const int32_t expert = groups.used[static_cast<size_t>(task / n_tasks_each)];
    const int32_t begin = groups.begin[expert], end = groups.begin[expert + 1];
    const std::span<const int32_t> columns(rows + begin, static_cast<size_t>(end - begin));
    const Strip gate =
        multiply_strip(context, thread, 0, op.gate.at(expert), inputs, columns, task % n_tasks_each);
    const Strip up =
        multiply_strip(context, thread, 1, op.up.at(expert), inputs, columns, task % n_tasks_each);
    for (int32_t i = begin; i < end; ++i) {
      activate(gate.products + (i - begin) * gate.stride, up.products + (i - begin) * up.stride,
               op.out.f32() + groups.slots[i] * n_ff + gate.first, gate.n_rows);
    }
  });
}

void compute(Context& context, const MoeDown& op) {
  const int64_t n_rows = op.x.dim(0), n_used = op.experts.dim(1), n_ff = op.x.dim(2), hidden = op.down.dim(1);
  if (n_rows == 0) return;
  const Groups groups = group_by_expert(context, op.experts, op.down.dim(0));
  const Inputs inputs = quantize_inputs(context, op.x.reshaped({n_rows * n_used, n_ff}), {&op.down.dtype, 1});
  float* each = context.floats.take(n_rows * n_used * hidden);  // (n_rows * n_used, hidden)
  const int64_t n_tasks_each = n_strips(context, hidden);
  context.pool.run(static_cast<int>(n_tasks_each * std::ssize(groups.used)), [&](int task, int thread) {
    const int32_t expert = groups.used[static_cast<size_t>(task / n_tasks_each)];
    const int32_t begin = groups.begin[expert], end = groups.begin[expert + 1];
    const std::span<const int32_t> columns(groups.slots + begin, static_cast<size_t>(end - begin));
    const Strip strip =
        multiply_strip(context, thread, 0, op.down.at(expert), inputs, columns, task % n_tasks_each);
    for (int32_t i = begin; i < end; ++i) {
      std::memcpy(each + groups.slots[i] * hidden + strip.first, strip.products + (i - begin) * strip.stride,
                  static_cast<size_t>(strip.n_rows) * sizeof(float));
    }
  });
  context.pool.run(static_cast<int>(n_rows), [&](int r, int) {
    float* out = op.out.f32() + r * hidden;
    std::memset(out, 0, static_cast<size_t>(hidden) * sizeof(float));
    for (int64_t j = 0; j < n_used; ++j) {
      const int64_t slot = r * n_used + j;
      context.kernels.weighted_add(out, each + slot * hidden, op.weights.f32()[slot], hidden);
    }
  });
}

}  // namespace millrace::cpu
