// Who computes a row: the router's logits in float32, then the choice.
#include <cmath>
#include <numeric>

#include "backend/cpu/inputs.h"
#include "backend/cpu/strip.h"

namespace millrace::cpu {
namespace {

struct SharedPart {
  SharedPart(Carver& carver, int64_t n_rows, int64_t n_experts)
      : columns(carver.take<int32_t>(n_rows)), logits(carver.take<float>(n_rows * n_experts)) {}

  int32_t* columns;
  float* logits;  // (n_rows, n_experts)
};

struct ThreadPart {
  ThreadPart(Carver& carver, const Kernels& kernels, const Tensor& weight, int64_t max_columns)
      : decoded(carver.take<float>(kMaxStrip * weight.n_cols())),
        strip(carver, kernels, {Tensor(decoded, Dtype::f32, {kMaxStrip, weight.n_cols()})}, max_columns) {}

  float* decoded;  // (kMaxStrip, hidden)
  StripScratch strip;
};

// The scores of one row's logits, in place.
void score(const Kernels& kernels, RouteScore kind, std::span<float> logits) {
  const float max = kind == RouteScore::softmax ? *std::ranges::max_element(logits) : 0.0f;
  const float sign = kind == RouteScore::softmax ? 1.0f : -1.0f;
  for (float& logit : logits) logit = sign * (logit - max);
  kernels.exp(logits.data(), static_cast<int64_t>(logits.size()));
  if (kind == RouteScore::sigmoid) {
    for (float& value : logits) value = 1.0f / (1.0f + value);
    return;
  }
  const float sum = std::accumulate(logits.begin(), logits.end(), 0.0f);
  for (float& value : logits) value /= sum;
}

// The n_used best, found one after the other: n_used is small, and of equal keys the first one stays.
void choose(const Route& op, int64_t r, std::span<const float> scores) {
  const int64_t n_used = op.experts.dim(1);
  int32_t* chosen = op.experts.i32() + r * n_used;
  float* weights = op.weights.f32() + r * n_used;
  const auto key = [&](int32_t e) {
    return scores[static_cast<size_t>(e)] + (op.select_bias ? op.select_bias.f32()[e] : 0.0f);
  };
  float sum = 0;
  for (int64_t j = 0; j < n_used; ++j) {
    int32_t best = -1;
    for (int32_t e = 0; e < static_cast<int32_t>(scores.size()); ++e) {
      const bool is_taken = std::find(chosen, chosen + j, e) != chosen + j;
      if (!is_taken && (best < 0 || key(e) > key(best))) best = e;
    }
    chosen[j] = best;
    weights[j] = scores[static_cast<size_t>(best)];
    sum += weights[j];
  }
  const float scale = op.renormalise ? op.scale / sum : op.scale;
  for (int64_t j = 0; j < n_used; ++j) weights[j] *= scale;
}

// Rows `range` of the weight in float32: where it lies, or decoded into scratch.
Tensor rows_in_f32(const Tensor& weight, RowRange range, float* decoded) {
  if (weight.dtype == Dtype::f32) return weight.slice(range.first, range.first + range.n);
  format_of(weight.dtype).decode(weight.row(range.first), decoded, range.n * weight.n_cols());
  return Tensor(decoded, Dtype::f32, {range.n, weight.n_cols()});
}

}  // namespace

void compute(Machine& machine, const Route& op) {
  const int64_t n_rows = op.x.dim(0);
  if (n_rows == 0) return;
  const Kernels& kernels = machine.kernels;
  const int64_t n_experts = op.weight.dim(0);
  const auto shared = machine.scratch.shared<SharedPart>(n_rows, n_experts);
  const int64_t max_columns = std::min(n_rows, kMaxColumns);
  machine.scratch.reserve<ThreadPart>(kernels, op.weight, max_columns);
  std::iota(shared.columns, shared.columns + n_rows, 0);
  const Inputs inputs{.n_in = op.x.n_cols(), .f32 = op.x.f32()};

  const Strips strips(kernels, n_experts);
  const int64_t n_runs = (n_rows + max_columns - 1) / max_columns;
  machine.pool.run(static_cast<int>(strips.n_strips() * n_runs), [&](int task, int thread) {
    const auto scratch = machine.scratch.of_thread<ThreadPart>(thread, kernels, op.weight, max_columns);
    const RowRange range = strips.at(task / n_runs);
    const int64_t first = task % n_runs * max_columns;
    const std::span columns(shared.columns + first,
                            static_cast<size_t>(std::min(max_columns, n_rows - first)));
    multiply_strip(kernels, rows_in_f32(op.weight, range, scratch.decoded), {0, range.n}, inputs, columns,
                   scratch.strip, shared.logits + first * n_experts + range.first, n_experts);
  });
  for_each_row(machine, n_rows, n_experts * op.experts.dim(1), [&](int64_t r, int) {
    const std::span scores(shared.logits + r * n_experts, static_cast<size_t>(n_experts));
    score(kernels, op.score, scores);
    choose(op, r, scores);
  });
}

}  // namespace millrace::cpu
