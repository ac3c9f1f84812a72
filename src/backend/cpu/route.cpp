// Who computes a row: the router's logits in float32, then the choice.
#include <cmath>
#include <limits>
#include <numeric>

#include "backend/cpu/inputs.h"
#include "backend/cpu/strip.h"

namespace millrace::cpu {
namespace {

struct SharedPart {
  SharedPart(Carver& carver, int64_t n_rows, int64_t n_experts)
      : logits(carver.take<float>(n_rows * n_experts)) {}

  float* logits;  // (n_rows, n_experts)
};

struct ThreadPart {
  ThreadPart(Carver& carver, const Kernels& kernels, const Tensor& weight, int64_t max_columns)
      : decoded(carver.take<float>(kMaxStrip * weight.n_cols())),
        strip(carver, kernels, {Tensor(decoded, Dtype::f32, {kMaxStrip, weight.n_cols()})}, max_columns) {}

  float* decoded;  // (kMaxStrip, hidden)
  StripScratch strip;
};

// What a thread chooses with.
struct ChoiceScratch {
  ChoiceScratch(Carver& carver, int64_t n_experts, int64_t n_groups)
      : keys(carver.take<float>(n_experts)),
        group_keys(carver.take<float>(n_groups)),
        groups(carver.take<int32_t>(n_groups)) {}

  float* keys;
  float* group_keys;
  int32_t* groups;
};

// The scores of one row's logits, in place.
void score(const Kernels& kernels, RouteScore kind, std::span<float> logits) {
  if (kind == RouteScore::sqrt_softplus) {
    for (float& logit : logits)
      logit = std::sqrt(std::max(logit, 0.0f) + std::log1p(std::exp(-std::abs(logit))));
    return;
  }
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

// The largest keys in descending order, found one after the other: they are few, and of equal keys the first
// one stays.
void find_largest(std::span<const float> keys, std::span<int32_t> chosen) {
  for (size_t j = 0; j < chosen.size(); ++j) {
    const auto before = chosen.first(j);
    int32_t best = -1;
    for (int32_t i = 0; i < static_cast<int32_t>(keys.size()); ++i) {
      if (std::ranges::find(before, i) != before.end()) continue;
      if (best < 0 || keys[static_cast<size_t>(i)] > keys[static_cast<size_t>(best)]) best = i;
    }
    chosen[j] = best;
  }
}

float group_key(GroupScore kind, std::span<const float> keys) {
  if (kind == GroupScore::max) return *std::ranges::max_element(keys);
  int32_t best[2];
  find_largest(keys, best);
  return keys[static_cast<size_t>(best[0])] + keys[static_cast<size_t>(best[1])];
}

// Makes the keys of the groups that are not used lower than any other.
void leave_out_groups(const Route& op, std::span<float> keys, const ChoiceScratch& scratch) {
  const size_t n_in_group = keys.size() / static_cast<size_t>(op.n_groups);
  const auto group = [&](int32_t g) { return keys.subspan(static_cast<size_t>(g) * n_in_group, n_in_group); };
  for (int32_t g = 0; g < op.n_groups; ++g) scratch.group_keys[g] = group_key(op.group_score, group(g));
  const std::span used(scratch.groups, static_cast<size_t>(op.n_groups_used));
  find_largest({scratch.group_keys, static_cast<size_t>(op.n_groups)}, used);
  for (int32_t g = 0; g < op.n_groups; ++g) {
    if (std::ranges::find(used, g) == used.end())
      std::ranges::fill(group(g), -std::numeric_limits<float>::infinity());
  }
}

// `logits` become scores.
void choose(const Kernels& kernels, const Route& op, int64_t r, std::span<float> logits,
            const ChoiceScratch& scratch) {
  const std::span keys(scratch.keys, logits.size());
  if (op.bias) kernels.add(logits.data(), op.bias.f32(), static_cast<int64_t>(logits.size()));
  std::ranges::copy(logits, keys.begin());
  score(kernels, op.score, logits);
  if (op.select_bias) {
    for (size_t e = 0; e < keys.size(); ++e) keys[e] = logits[e] + op.select_bias.f32()[e];
  }
  if (op.n_groups > 1) leave_out_groups(op, keys, scratch);
  const std::span chosen(op.experts.i32() + r * op.experts.dim(1), static_cast<size_t>(op.experts.dim(1)));
  if (op.table) {
    const int32_t token = op.tokens.i32()[r];
    check(token >= 0 && token < op.table.dim(0), "a token outside of the table");
    std::copy_n(op.table.i32() + token * op.table.dim(1), chosen.size(), chosen.begin());
  } else {
    find_largest(keys, chosen);
  }

  float* weights = op.weights.f32() + r * op.weights.dim(1);
  float sum = 0;
  for (size_t j = 0; j < chosen.size(); ++j) sum += weights[j] = logits[static_cast<size_t>(chosen[j])];
  const float scale = op.renormalise ? op.scale / (sum + op.sum_eps) : op.scale;
  for (size_t j = 0; j < chosen.size(); ++j)
    weights[j] *= op.expert_scale ? scale * op.expert_scale.f32()[chosen[j]] : scale;
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
  const Inputs inputs{.n_in = op.x.n_cols(), .n_columns = n_rows, .f32 = op.x.f32()};

  const Strips strips(kernels, n_experts);
  const int64_t n_runs = (n_rows + max_columns - 1) / max_columns;
  machine.pool.run(static_cast<int>(strips.n_strips() * n_runs), [&](int task, int thread) {
    const auto scratch = machine.scratch.of_thread<ThreadPart>(thread, kernels, op.weight, max_columns);
    const RowRange range = strips.at(task / n_runs);
    const int64_t first = task % n_runs * max_columns;
    multiply_strip(kernels, {rows_in_f32(op.weight, range, scratch.decoded)}, {0, range.n}, inputs,
                   {first, std::min(max_columns, n_rows - first)}, scratch.strip,
                   shared.logits + first * n_experts + range.first, n_experts);
  });
  machine.scratch.reserve<ChoiceScratch>(n_experts, op.n_groups);
  for_each_row(machine, n_rows, n_experts * op.experts.dim(1), [&](int64_t r, int thread) {
    const std::span logits(shared.logits + r * n_experts, static_cast<size_t>(n_experts));
    choose(kernels, op, r, logits, machine.scratch.of_thread<ChoiceScratch>(thread, n_experts, op.n_groups));
  });
}

}  // namespace millrace::cpu
