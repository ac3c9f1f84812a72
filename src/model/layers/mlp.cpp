#include "model/layers/mlp.h"

namespace millrace {

void list_mlp(WeightList& list, Mlp& mlp) {
  if (mlp.is_gated) list.add(mlp.gate, "ffn_gate.weight", {mlp.n_ff, mlp.hidden}, Shard::outputs);
  list.add(mlp.up, "ffn_up.weight", {mlp.n_ff, mlp.hidden}, Shard::outputs);
  list.add(mlp.down, "ffn_down.weight", {mlp.hidden, mlp.n_ff}, Shard::inputs);
}

void list_mlp_bias(WeightList& list, Mlp& mlp) {
  if (mlp.is_gated) list.add_optional(mlp.gate_bias, "ffn_gate.bias", {mlp.n_ff}, Shard::outputs);
  list.add_optional(mlp.up_bias, "ffn_up.bias", {mlp.n_ff}, Shard::outputs);
  list.add_optional(mlp.down_bias, "ffn_down.bias", {mlp.hidden});
}

void run_mlp(const Pass& pass, const Mlp& mlp, const Tensor& x, const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const Tensor inner = pass.arena.take(Dtype::f32, {x.dim(0), mlp.n_ff});
  if (mlp.is_gated) {
    pass.backend.run(LinearGated{.x = x,
                                 .gate = mlp.gate,
                                 .up = mlp.up,
                                 .gate_bias = mlp.gate_bias,
                                 .up_bias = mlp.up_bias,
                                 .out = inner,
                                 .activation = mlp.activation});
  } else {
    pass.backend.run(Linear{.x = x,
                            .products = {{.weight = mlp.up, .bias = mlp.up_bias, .out = inner}},
                            .activation = mlp.activation});
  }
  pass.backend.run(Linear{.x = inner, .products = {{.weight = mlp.down, .bias = mlp.down_bias, .out = out}}});
}

Moe read_moe(Hparams& hparams, int64_t hidden) {
  Moe moe{.hidden = hidden, .n_experts = hparams.count_or("expert_count", 0, {0, 4096})};
  if (moe.n_experts == 0) return moe;
  moe.n_used = hparams.count("expert_used_count");
  if (moe.n_used > moe.n_experts) {
    hparams.refuse("expert_used_count",
                   fmt::format("{} of {} experts cannot be used", moe.n_used, moe.n_experts));
  }
  // Mixtral's files give the width of an expert as that of the feed-forward.
  const int64_t n_ff = hparams.count_or("feed_forward_length", 0);
  moe.n_ff = n_ff > 0 ? hparams.count_or("expert_feed_forward_length", n_ff, kCount)
                      : hparams.count("expert_feed_forward_length");
  moe.is_renormalised = hparams.flag_or("expert_weights_norm", true);
  if (hparams.count_or("expert_gating_func", 0) > 1) {
    hparams.refuse("expert_gating_func", "only softmax (1) is implemented for this architecture");
  }
  return moe;
}

Moe read_shared_moe(Hparams& hparams, int64_t hidden, RouteScore otherwise) {
  Moe moe{.hidden = hidden, .n_experts = hparams.count_or("expert_count", 0, {0, 4096})};
  if (moe.n_experts == 0) return moe;
  moe.n_used = hparams.count("expert_used_count");
  moe.n_ff = hparams.count("expert_feed_forward_length");
  moe.is_renormalised = hparams.flag_or("expert_weights_norm", false);
  const double scale = hparams.real_or("expert_weights_scale", 1.0, {0.0, 1e6});
  moe.scale = scale > 0.0 ? static_cast<float>(scale) : 1.0f;  // 0 is none, in files
  moe.score = otherwise;
  const int64_t gating = hparams.count_or("expert_gating_func", 0);
  if (gating > 2) hparams.refuse("expert_gating_func", "only softmax (1) and sigmoid (2) are implemented");
  if (gating > 0) moe.score = gating == 1 ? RouteScore::softmax : RouteScore::sigmoid;
  moe.n_groups = std::max<int64_t>(1, hparams.count_or("expert_group_count", 1));
  moe.n_groups_used = std::max<int64_t>(1, hparams.count_or("expert_group_used_count", 1));
  if (moe.n_experts % moe.n_groups != 0 || moe.n_groups_used > moe.n_groups ||
      moe.n_used > moe.n_experts / moe.n_groups * moe.n_groups_used) {
    hparams.refuse("expert_group_count",
                   fmt::format("{} of {} experts cannot be used from {} of {} groups", moe.n_used,
                               moe.n_experts, moe.n_groups_used, moe.n_groups));
  }
  moe.shared = {.hidden = hidden, .n_ff = moe.n_ff * hparams.count_or("expert_shared_count", 0)};
  return moe;
}

void list_moe(WeightList& list, Moe& moe) {
  list.add(moe.router, "ffn_gate_inp.weight", {moe.n_experts, moe.hidden});
  list.add(moe.gate, "ffn_gate_exps.weight", {moe.n_experts, moe.n_ff, moe.hidden}, Shard::experts);
  list.add(moe.up, "ffn_up_exps.weight", {moe.n_experts, moe.n_ff, moe.hidden}, Shard::experts);
  list.add(moe.down, "ffn_down_exps.weight", {moe.n_experts, moe.hidden, moe.n_ff}, Shard::experts);
}

void list_shared_moe(WeightList& list, Moe& moe) {
  list_moe(list, moe);
  list.add_optional(moe.select_bias, "exp_probs_b.bias", {moe.n_experts});
  if (moe.shared.n_ff == 0) return;
  list.add(moe.shared.gate, "ffn_gate_shexp.weight", {moe.shared.n_ff, moe.hidden}, Shard::outputs);
  list.add(moe.shared.up, "ffn_up_shexp.weight", {moe.shared.n_ff, moe.hidden}, Shard::outputs);
  list.add(moe.shared.down, "ffn_down_shexp.weight", {moe.hidden, moe.shared.n_ff}, Shard::inputs);
}

void run_moe(const Pass& pass, const Moe& moe, const Tensor& x, const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const int64_t n_rows = x.dim(0);
  const Tensor experts = pass.arena.take(Dtype::i32, {n_rows, moe.n_used});
  const Tensor weights = pass.arena.take(Dtype::f32, {n_rows, moe.n_used});
  pass.backend.run(
      Route{.x = x,
            .weight = moe.router,
            .select_bias = moe.select_bias,
            .experts = experts,
            .weights = weights,
            .score = moe.score,
            .n_groups = static_cast<int32_t>(moe.n_groups),
            .n_groups_used = static_cast<int32_t>(moe.n_groups_used),
            .group_score = moe.score == RouteScore::softmax ? GroupScore::max : GroupScore::sum_of_two,
            .renormalise = moe.is_renormalised,
            .sum_eps = 1e-20f,
            .scale = moe.scale});
  const Tensor gated = pass.arena.take(Dtype::f32, {n_rows, moe.n_used, moe.n_ff});
  pass.backend.run(MoeGated{.x = x, .experts = experts, .gate = moe.gate, .up = moe.up, .out = gated});
  pass.backend.run(MoeDown{.x = gated, .experts = experts, .weights = weights, .down = moe.down, .out = out});
  if (moe.shared.n_ff == 0) return;
  const Tensor shared = pass.arena.take(Dtype::f32, {n_rows, moe.hidden});
  run_mlp(pass, moe.shared, x, shared);
  pass.backend.run(Add{.x = out, .y = shared});
}

}  // namespace millrace
