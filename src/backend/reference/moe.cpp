// Mixtures of experts: who computes a row, and the experts' products. A slot is row * n_used + j.
#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "backend/reference/compute.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {
namespace {

// The scores of one row's logits.
std::vector<float> scores_of(RouteScore kind, std::span<const float> logits) {
  const double max = std::ranges::max(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  std::vector<float> scores;
  for (const double logit : logits) {
    double score = std::exp(logit - max) / sum;
    if (kind == RouteScore::sigmoid) score = 1 / (1 + std::exp(-logit));
    if (kind == RouteScore::sqrt_softplus)
      score = std::sqrt(std::max(logit, 0.0) + std::log1p(std::exp(-std::abs(logit))));
    scores.push_back(static_cast<float>(score));
  }
  return scores;
}

// The indices of the `n` largest keys, in descending order; of equal keys the lowest index first.
std::vector<int32_t> largest(std::span<const float> keys, int64_t n) {
  std::vector<int32_t> order(keys.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
    return keys[static_cast<size_t>(a)] > keys[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(n));
  return order;
}

// Makes the keys of the groups that are not used lower than any other.
void leave_out_groups(const Route& op, std::span<float> keys) {
  const size_t n_in_group = keys.size() / static_cast<size_t>(op.n_groups);
  const auto group = [&](int32_t g) { return keys.subspan(static_cast<size_t>(g) * n_in_group, n_in_group); };
  std::vector<float> group_keys;
  for (int32_t g = 0; g < op.n_groups; ++g) {
    std::vector<float> sorted(group(g).begin(), group(g).end());
    std::ranges::sort(sorted, std::greater());
    group_keys.push_back(op.group_score == GroupScore::max ? sorted[0] : sorted[0] + sorted[1]);
  }
  const std::vector<int32_t> used = largest(group_keys, op.n_groups_used);
  for (int32_t g = 0; g < op.n_groups; ++g) {
    if (std::ranges::find(used, g) == used.end())
      std::ranges::fill(group(g), -std::numeric_limits<float>::infinity());
  }
}

// The experts of the token of row `r`.
std::vector<int32_t> listed(const Route& op, int64_t r) {
  const int32_t token = op.tokens.i32()[r];
  check(token >= 0 && token < op.table.dim(0), "a token outside of the table");
  const int32_t* experts = op.table.i32() + token * op.table.dim(1);
  return {experts, experts + op.table.dim(1)};
}

double element_or(const Tensor& values, int64_t i, double otherwise) {
  return values ? double{values.f32()[i]} : otherwise;
}

void choose(const Route& op, int64_t r, std::span<const float> logits) {
  const std::vector<float> scores = scores_of(op.score, logits);
  std::vector<float> keys(logits.begin(), logits.end());
  if (op.select_bias) {
    for (size_t e = 0; e < keys.size(); ++e) keys[e] = scores[e] + op.select_bias.f32()[e];
  }
  if (op.n_groups > 1) leave_out_groups(op, keys);
  const std::vector<int32_t> chosen = op.table ? listed(op, r) : largest(keys, op.experts.dim(1));
  double sum = op.sum_eps;
  for (const int32_t e : chosen) sum += scores[static_cast<size_t>(e)];
  const double scale = op.renormalise ? op.scale / sum : op.scale;
  for (size_t j = 0; j < chosen.size(); ++j) {
    const int64_t slot = r * op.experts.dim(1) + static_cast<int64_t>(j);
    op.experts.i32()[slot] = chosen[j];
    const double own = element_or(op.expert_scale, chosen[j], 1.0);
    op.weights.f32()[slot] = static_cast<float>(scores[static_cast<size_t>(chosen[j])] * scale * own);
  }
}

// What the products of one slot with its expert's rows become.
float gated(const MoeGated& op, double gate, double up) {
  if (op.limit > 0) {
    gate = std::min(gate, double{op.limit});
    up = std::clamp(up, -double{op.limit}, double{op.limit});
  }
  return static_cast<float>(activate(op.activation, gate) * (up + op.up_offset));
}

// For each expert the slots that chose it, ascending.
std::vector<std::vector<int64_t>> slots_of_experts(const Tensor& experts, int64_t n_experts) {
  std::vector<std::vector<int64_t>> slots(static_cast<size_t>(n_experts));
  for (int64_t slot = 0; slot < experts.n_elems(); ++slot) {
    const int32_t e = experts.i32()[slot];
    check(e >= 0 && e < n_experts, "an expert that is not there");
    slots[static_cast<size_t>(e)].push_back(slot);
  }
  return slots;
}

}  // namespace

void compute(const Route& op) {
  const int64_t hidden = op.x.n_cols();
  const int64_t n_experts = op.weight.dim(0);
  std::vector<float> weight(static_cast<size_t>(hidden));
  std::vector<float> logits(static_cast<size_t>(op.x.dim(0) * n_experts));  // (n_rows, n_experts)
  for (int64_t e = 0; e < n_experts; ++e) {
    decode_row(op.weight, e, weight);
    for (int64_t r = 0; r < op.x.dim(0); ++r) {
      logits[static_cast<size_t>(r * n_experts + e)] =
          static_cast<float>(dot(op.x.f32() + r * hidden, weight.data(), hidden) + element_or(op.bias, e, 0));
    }
  }
  for (int64_t r = 0; r < op.x.dim(0); ++r)
    choose(op, r, {logits.data() + r * n_experts, static_cast<size_t>(n_experts)});
}

void compute(const MoeGated& op) {
  const int64_t hidden = op.x.n_cols();
  const int64_t n_ff = op.out.n_cols();
  const auto slots_of = slots_of_experts(op.experts, op.gate.dim(0));
  std::vector<float> gate(static_cast<size_t>(hidden));
  std::vector<float> up(static_cast<size_t>(hidden));
  for (int64_t e = 0; e < op.gate.dim(0); ++e) {
    const std::vector<int64_t>& slots = slots_of[static_cast<size_t>(e)];
    if (slots.empty()) continue;
    for (int64_t o = 0; o < n_ff; ++o) {
      decode_row(op.gate, e * op.gate.dim(1) + o, gate);
      if (op.up) {
        decode_row(op.up, e * n_ff + o, up);
      } else {
        decode_row(op.gate, e * op.gate.dim(1) + n_ff + o, up);
      }
      for (const int64_t slot : slots) {
        const float* x = op.x.f32() + slot / op.experts.dim(1) * hidden;
        const double weight = element_or(op.weights, slot, 1);
        const double g = weight * dot(x, gate.data(), hidden) + element_or(op.gate_bias, e * n_ff + o, 0);
        const double u = weight * dot(x, up.data(), hidden) + element_or(op.up_bias, e * n_ff + o, 0);
        op.out.f32()[slot * n_ff + o] = gated(op, g, u);
      }
    }
  }
}

void compute(const MoeDown& op) {
  const int64_t n_ff = op.x.n_cols();
  const int64_t n_used = op.experts.dim(1);
  const int64_t hidden = op.out.n_cols();
  const auto slots_of = slots_of_experts(op.experts, op.down.dim(0));
  std::vector<float> down(static_cast<size_t>(n_ff));
  std::vector<double> products(static_cast<size_t>(op.experts.n_elems()));  // one each slot
  for (int64_t o = 0; o < hidden; ++o) {
    for (int64_t e = 0; e < op.down.dim(0); ++e) {
      const std::vector<int64_t>& slots = slots_of[static_cast<size_t>(e)];
      if (slots.empty()) continue;
      decode_row(op.down, e * hidden + o, down);
      for (const int64_t slot : slots) {
        const double y =
            dot(op.x.f32() + slot * n_ff, down.data(), n_ff) + element_or(op.bias, e * hidden + o, 0);
        products[static_cast<size_t>(slot)] = element_or(op.weights, slot, 1) * y;
      }
    }
    for (int64_t r = 0; r < op.out.dim(0); ++r) {
      double sum = 0;
      for (int64_t j = 0; j < n_used; ++j) sum += products[static_cast<size_t>(r * n_used + j)];
      op.out.f32()[r * hidden + o] = static_cast<float>(sum);
    }
  }
}

}  // namespace millrace::reference
