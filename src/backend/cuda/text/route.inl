// Who computes a row: a warp a row, over logits that a product has left.
#include "backend/cuda/text/compute.inl"
#include "backend/cuda/text/product.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

struct RouteArguments {
  const float* logits;  // (n_rows, n_experts)
  int64_t n_experts, n_used;
  const float* select_bias;
  const float* expert_scale;
  const int32_t* tokens;  // where experts are listed by token
  const int32_t* table;
  int64_t n_vocab;
  int32_t* experts;
  float* weights;
  RouteScore score;
  int64_t n_groups, n_groups_used;
  GroupScore group_score;
  bool renormalise;
  float sum_eps, scale;
};

__device__ inline float score_of(RouteScore kind, float logit, float largest, float sum) {
  switch (kind) {
    case RouteScore::softmax:
      return expf(logit - largest) / sum;
    case RouteScore::sigmoid:
      return 1.0f / (1.0f + expf(-logit));
    case RouteScore::sqrt_softplus:
      return sqrtf(most(logit, 0.0f) + log1pf(expf(-fabsf(logit))));
  }
  return 0.0f;
}

// The index of the largest of n keys that are not NaN, the lowest of equals. The warp sees the keys.
__device__ inline int64_t largest_of(const float* keys, int64_t n) {
  int64_t best = -1;
  for (int64_t i = lane_index(); i < n; i += kWarp) {
    if (keys[i] == keys[i] && (best < 0 || keys[i] > keys[best])) best = i;
  }
  const float largest = warp_max(best < 0 ? -kInfinity : keys[best]);
  const bool is_candidate = best >= 0 && keys[best] == largest;
  // Indices are small: exact as floats.
  const float lowest = -warp_max(is_candidate ? -static_cast<float>(best) : -kInfinity);
  return lowest < static_cast<float>(n) ? static_cast<int64_t>(lowest) : 0;
}

// Makes the keys of the groups that are not used NaN.
__device__ inline void leave_out_groups(const RouteArguments& a, float* keys, float* group_keys) {
  const int64_t n_in_group = a.n_experts / a.n_groups;
  for (int64_t g = lane_index(); g < a.n_groups; g += kWarp) {
    float first = -kInfinity, second = -kInfinity;
    for (int64_t i = g * n_in_group; i < (g + 1) * n_in_group; ++i) {
      second = most(second, least(first, keys[i]));
      first = most(first, keys[i]);
    }
    group_keys[g] = a.group_score == GroupScore::max ? first : first + second;
  }
  for (int64_t i = 0; i < a.n_groups_used; ++i) {
    const int64_t used = largest_of(group_keys, a.n_groups);
    sync_warp();
    if (lane_index() == 0) group_keys[used] = NAN;
    sync_warp();
  }
  for (int64_t e = lane_index(); e < a.n_experts; e += kWarp) {
    const float group_key = group_keys[e / n_in_group];
    if (group_key == group_key) keys[e] = NAN;
  }
}

__global__ void route_kernel(RouteArguments a) {
  const int64_t row = block_x();
  auto* keys = reinterpret_cast<float*>(shared_memory());  // (n_experts)
  float* scores = keys + a.n_experts;                      // (n_experts)
  float* group_keys = scores + a.n_experts;                // (n_groups)
  const float* logits = a.logits + row * a.n_experts;
  float largest = -kInfinity, sum = 0.0f;
  for (int64_t e = lane_index(); e < a.n_experts; e += kWarp) largest = fmaxf(largest, logits[e]);
  largest = warp_max(largest);
  for (int64_t e = lane_index(); e < a.n_experts; e += kWarp) sum += expf(logits[e] - largest);
  sum = warp_sum(sum);
  for (int64_t e = lane_index(); e < a.n_experts; e += kWarp) {
    scores[e] = score_of(a.score, logits[e], largest, sum);
    keys[e] = a.select_bias != nullptr ? scores[e] + a.select_bias[e] : logits[e];
  }
  sync_warp();
  if (a.n_groups > 1) leave_out_groups(a, keys, group_keys);

  int32_t* experts = a.experts + row * a.n_used;
  float* weights = a.weights + row * a.n_used;
  float chosen_sum = a.sum_eps;
  for (int64_t j = 0; j < a.n_used; ++j) {
    int64_t e;
    if (a.table != nullptr) {
      require(a.tokens[row] >= 0 && a.tokens[row] < a.n_vocab);
      e = a.table[a.tokens[row] * a.n_used + j];
    } else {
      e = largest_of(keys, a.n_experts);
      sync_warp();
    }
    require(e >= 0 && e < a.n_experts);
    chosen_sum += scores[e];
    if (lane_index() == 0) {
      experts[j] = static_cast<int32_t>(e);
      keys[e] = NAN;
    }
    sync_warp();
  }
  const float scale = a.renormalise ? a.scale / chosen_sum : a.scale;
  for (int64_t j = lane_index(); j < a.n_used; j += kWarp) {
    const float own = a.expert_scale != nullptr ? a.expert_scale[experts[j]] : 1.0f;
    weights[j] = scores[experts[j]] * scale * own;
  }
}

}  // namespace

void compute(Machine& machine, const Route& op) {
  const int64_t n_rows = op.x.dim(0), n_experts = op.weight.dim(0);
  auto* logits =
      reinterpret_cast<float*>(machine.scratch.take(static_cast<size_t>(n_rows * n_experts) * sizeof(float)));
  const Product product{.weight = op.weight.data,
                        .dtype = op.weight.dtype,
                        .row_bytes = op.weight.row_bytes(),
                        .matrix_bytes = op.weight.n_bytes(),
                        .n_in = op.x.n_cols(),
                        .n_out = n_experts,
                        .x = op.x.f32(),
                        .x_stride = op.x.n_cols(),
                        .n_rows = n_rows,
                        .n_columns = n_rows,
                        .out = logits,
                        .out_stride = n_experts,
                        .bias = floats_of(op.bias),
                        .keeps_floats = true};
  multiply(machine, {&product, 1});
  launch(machine, route_kernel, {n_rows}, kWarp,
         static_cast<size_t>(2 * n_experts + op.n_groups) * sizeof(float),
         RouteArguments{.logits = logits,
                        .n_experts = n_experts,
                        .n_used = op.experts.dim(1),
                        .select_bias = floats_of(op.select_bias),
                        .expert_scale = floats_of(op.expert_scale),
                        .tokens = ints_of(op.tokens),
                        .table = ints_of(op.table),
                        .n_vocab = op.table.dim(0),
                        .experts = op.experts.i32(),
                        .weights = op.weights.f32(),
                        .score = op.score,
                        .n_groups = op.n_groups,
                        .n_groups_used = op.n_groups_used,
                        .group_score = op.group_score,
                        .renormalise = op.renormalise,
                        .sum_eps = op.sum_eps,
                        .scale = op.scale});
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
