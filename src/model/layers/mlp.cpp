#include "model/layers/mlp.h"

#include <algorithm>
#include <cmath>

namespace millrace {

void list_mlp(WeightList& list, Mlp& mlp) {
  if (mlp.is_gated) list.add(mlp.gate, "ffn_gate.weight", {mlp.n_ff, mlp.hidden});
  list.add(mlp.up, "ffn_up.weight", {mlp.n_ff, mlp.hidden});
  list.add(mlp.down, "ffn_down.weight", {mlp.hidden, mlp.n_ff});
}

void list_fused_mlp(WeightList& list, Mlp& mlp) {
  list.add(mlp.gate_up, "ffn_up.weight", {2 * mlp.n_ff, mlp.hidden});
  list.add(mlp.down, "ffn_down.weight", {mlp.hidden, mlp.n_ff});
}

void split_gate_up(Mlp& mlp) {
  mlp.gate = mlp.gate_up.slice(0, mlp.n_ff);
  mlp.up = mlp.gate_up.slice(mlp.n_ff, mlp.gate_up.dim(0));
}

void list_mlp_bias(WeightList& list, Mlp& mlp) {
  if (mlp.is_gated) list.add_optional(mlp.gate_bias, "ffn_gate.bias", {mlp.n_ff});
  list.add_optional(mlp.up_bias, "ffn_up.bias", {mlp.n_ff});
  list.add_optional(mlp.down_bias, "ffn_down.bias", {mlp.hidden});
}

namespace {

// The cut needs whole rows of the gate: it cannot be done while they are multiplied.
void run_sparse_gate(const Pass& pass, const Mlp& mlp, const Tensor& x, const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const Tensor up = pass.arena.take(Dtype::f32, {x.dim(0), mlp.n_ff});
  pass.backend.run(Linear{.x = x,
                          .products = {{.weight = mlp.gate, .bias = mlp.gate_bias, .out = out},
                                       {.weight = mlp.up, .bias = mlp.up_bias, .out = up}},
                          .n_products = 2});
  pass.backend.run(
      Gate{.gate = out, .x = up, .out = out, .activation = mlp.activation, .cutoff = mlp.cutoff});
}

}  // namespace

void run_mlp(const Pass& pass, const Mlp& mlp, const Tensor& x, const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const Tensor inner = pass.arena.take(Dtype::f32, {x.dim(0), mlp.n_ff});
  if (mlp.is_gated && std::isfinite(mlp.cutoff)) {
    run_sparse_gate(pass, mlp, x, inner);
  } else if (mlp.is_gated) {
    pass.backend.run(LinearGated{.x = x,
                                 .gate = mlp.gate,
                                 .up = mlp.up,
                                 .gate_bias = mlp.gate_bias,
                                 .up_bias = mlp.up_bias,
                                 .out = inner,
                                 .activation = mlp.activation,
                                 .limit = mlp.limit});
  } else {
    pass.backend.run(Linear{.x = x,
                            .products = {{.weight = mlp.up, .bias = mlp.up_bias, .out = inner}},
                            .activation = mlp.activation});
  }
  pass.backend.run(Linear{.x = inner, .products = {{.weight = mlp.down, .bias = mlp.down_bias, .out = out}}});
}

namespace {

// expert_gating_func: 1 softmax, 2 sigmoid, 3 softmax over the chosen logits, 4 sqrt(softplus).
void read_score(Hparams& hparams, Moe& moe) {
  const int64_t kind = hparams.count_or("expert_gating_func", 0);
  if (kind > 4) hparams.refuse("expert_gating_func", fmt::format("{} is not known", kind));
  if (kind == 1 || kind == 3) moe.score = RouteScore::softmax;
  if (kind == 2) moe.score = RouteScore::sigmoid;
  if (kind == 3) moe.is_renormalised = true;  // the same numbers
  if (kind == 4) moe.score = RouteScore::sqrt_softplus;
}

GroupScore group_score(const Moe& moe) {
  return moe.score == RouteScore::softmax ? GroupScore::max : GroupScore::sum_of_two;
}

void read_groups(Hparams& hparams, Moe& moe) {
  constexpr Range kGroups{0, 4096};
  moe.n_groups = std::max<int64_t>(1, hparams.count_or("expert_group_count", 1, kGroups));
  moe.n_groups_used =
      std::max<int64_t>(1, hparams.count_or("expert_group_used_count", moe.n_groups, kGroups));
  if (moe.n_experts % moe.n_groups != 0 || moe.n_groups_used > moe.n_groups ||
      moe.n_used > moe.n_experts / moe.n_groups * moe.n_groups_used) {
    hparams.refuse("expert_group_count",
                   fmt::format("{} of {} experts cannot be used from {} of {} groups", moe.n_used,
                               moe.n_experts, moe.n_groups_used, moe.n_groups));
  }
  const bool adds_two = moe.n_groups > 1 && group_score(moe) == GroupScore::sum_of_two;
  if (adds_two && moe.n_experts / moe.n_groups < 2)
    hparams.refuse("expert_group_count", "a group should have two experts or more");
}

}  // namespace

Moe read_moe(Hparams& hparams, int64_t hidden, const Moe& usual) {
  Moe moe = usual;
  moe.hidden = hidden;
  moe.n_experts = hparams.count_or("expert_count", 0, {0, 4096});
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
  moe.is_renormalised = hparams.flag_or("expert_weights_norm", moe.is_renormalised);
  const double scale = hparams.real_or("expert_weights_scale", 0.0, {0.0, 1e6});  // 0 is none, in files
  if (scale > 0.0) moe.scale = static_cast<float>(scale);
  read_score(hparams, moe);
  read_groups(hparams, moe);
  return moe;
}

Moe read_shared_moe(Hparams& hparams, int64_t hidden, const Moe& usual) {
  Moe moe = read_moe(hparams, hidden, usual);
  if (moe.n_experts == 0) return moe;
  const int64_t n_ff = moe.n_ff * hparams.count_or("expert_shared_count", 0, {0, 256});
  moe.shared = {.hidden = hidden, .n_ff = hparams.count_or("expert_shared_feed_forward_length", n_ff)};
  return moe;
}

void list_gate_and_up(WeightList& list, Tensor& gate, Tensor& up, const ExpertSizes& sizes) {
  const std::vector<int64_t> one{sizes.n_experts, sizes.n_ff, sizes.hidden};
  list.add(gate, "ffn_gate_exps.weight", one);
  list.add(up, "ffn_up_exps.weight", one);
  list.add_instead(gate, "ffn_gate_up_exps.weight", {sizes.n_experts, 2 * sizes.n_ff, sizes.hidden}, 2);
}

void list_moe(WeightList& list, Moe& moe) {
  list.add(moe.router, "ffn_gate_inp.weight", {moe.n_experts, moe.hidden});
  list_gate_and_up(list, moe.gate, moe.up, {moe.n_experts, moe.n_ff, moe.hidden});
  list.add(moe.down, "ffn_down_exps.weight", {moe.n_experts, moe.hidden, moe.n_ff});
}

void list_moe_bias(WeightList& list, Moe& moe) {
  list.add(moe.router_bias, "ffn_gate_inp.bias", {moe.n_experts});
  list.add_f32(moe.gate_bias, "ffn_gate_exps.bias", {moe.n_experts, moe.n_ff});
  list.add_f32(moe.up_bias, "ffn_up_exps.bias", {moe.n_experts, moe.n_ff});
  list.add_instead(moe.gate_up_bias, "ffn_gate_up_exps.bias", {moe.n_experts, 2 * moe.n_ff}, 2);
  list.add_f32(moe.down_bias, "ffn_down_exps.bias", {moe.n_experts, moe.hidden});
}

Buffer split_moe_bias(Moe& moe) {
  if (!moe.gate_up_bias) return {};
  const int64_t n = moe.n_experts * moe.n_ff;
  Buffer made(static_cast<size_t>(2 * n) * sizeof(float));
  moe.gate_bias = Tensor(made.data(), Dtype::f32, {moe.n_experts, moe.n_ff});
  moe.up_bias = Tensor(made.data() + n * int64_t{sizeof(float)}, Dtype::f32, {moe.n_experts, moe.n_ff});
  if (moe.gate_up_bias.data == nullptr) return made;  // only its layout is looked at
  for (int64_t e = 0; e < moe.n_experts; ++e) {
    const float* both = moe.gate_up_bias.f32() + 2 * e * moe.n_ff;
    std::copy_n(both, moe.n_ff, moe.gate_bias.f32() + e * moe.n_ff);
    std::copy_n(both + moe.n_ff, moe.n_ff, moe.up_bias.f32() + e * moe.n_ff);
  }
  return made;
}

void list_select_bias(WeightList& list, Moe& moe) {
  list.add(moe.select_bias, "exp_probs_b.bias", {moe.n_experts});
}

void list_shared_expert(WeightList& list, Moe& moe) {
  Mlp& shared = moe.shared;
  if (shared.n_ff == 0) return;
  list.add(shared.gate, "ffn_gate_shexp.weight", {shared.n_ff, moe.hidden});
  list.add(shared.up, "ffn_up_shexp.weight", {shared.n_ff, moe.hidden});
  list.add(shared.down, "ffn_down_shexp.weight", {moe.hidden, shared.n_ff});
}

void list_shared_moe(WeightList& list, Moe& moe) {
  list_moe(list, moe);
  list.add_optional(moe.select_bias, "exp_probs_b.bias", {moe.n_experts});
  list_shared_expert(list, moe);
}

void list_shared_gate(WeightList& list, Moe& moe) {
  if (moe.shared.n_ff > 0) list.add(moe.shared_gate, "ffn_gate_inp_shexp.weight", {1, moe.hidden});
}

namespace {

// out = the experts that the router chooses.
void run_experts(const Pass& pass, const Moe& moe, const Tensor& x, const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const int64_t n_rows = x.dim(0);
  const Tensor experts = pass.arena.take(Dtype::i32, {n_rows, moe.n_used});
  const Tensor weights = pass.arena.take(Dtype::f32, {n_rows, moe.n_used});
  pass.backend.run(Route{.x = x,
                         .weight = moe.router,
                         .bias = moe.router_bias,
                         .select_bias = moe.select_bias,
                         .tokens = moe.chooses_by_token ? pass.batch.tokens : Tensor(),
                         .table = moe.table,
                         .experts = experts,
                         .weights = weights,
                         .score = moe.score,
                         .n_groups = static_cast<int32_t>(moe.n_groups),
                         .n_groups_used = static_cast<int32_t>(moe.n_groups_used),
                         .group_score = group_score(moe),
                         .renormalise = moe.is_renormalised,
                         .sum_eps = 1e-20f,  // a number even where every score is 0
                         .scale = moe.scale});
  const Tensor gated = pass.arena.take(Dtype::f32, {n_rows, moe.n_used, moe.n_ff});
  pass.backend.run(MoeGated{.x = x,
                            .experts = experts,
                            .weights = moe.weighs_input ? weights : Tensor(),
                            .gate = moe.gate,
                            .up = moe.up,
                            .gate_bias = moe.gate_bias,
                            .up_bias = moe.up_bias,
                            .out = gated,
                            .activation = moe.activation,
                            .limit = moe.limit,
                            .up_offset = moe.up_offset});
  pass.backend.run(MoeDown{.x = gated,
                           .experts = experts,
                           .weights = moe.weighs_input ? Tensor() : weights,
                           .down = moe.down,
                           .bias = moe.down_bias,
                           .out = out});
}

// A shared expert with a gate is a mixture of one expert, whose weight is the sigmoid of its logit.
Moe mixture_of_one(const Moe& moe) {
  const Mlp& shared = moe.shared;
  return {.hidden = moe.hidden,
          .n_ff = shared.n_ff,
          .n_experts = 1,
          .n_used = 1,
          .router = moe.shared_gate,
          .gate = shared.gate.reshaped({1, shared.n_ff, moe.hidden}),
          .up = shared.up.reshaped({1, shared.n_ff, moe.hidden}),
          .down = shared.down.reshaped({1, moe.hidden, shared.n_ff}),
          .score = RouteScore::sigmoid,
          .is_renormalised = false,
          .activation = shared.activation};
}

}  // namespace

void run_moe(const Pass& pass, const Moe& moe, const Tensor& x, const Tensor& out) {
  run_experts(pass, moe, x, out);
  if (moe.shared.n_ff == 0) return;
  const ArenaScope scope(pass.arena);
  const Tensor shared = pass.arena.take(Dtype::f32, {x.dim(0), moe.hidden});
  if (moe.shared_gate) {
    run_experts(pass, mixture_of_one(moe), x, shared);
  } else {
    run_mlp(pass, moe.shared, x, shared);
  }
  pass.backend.run(Add{.x = out, .y = shared});
}

std::vector<FeedForward> read_feed_forwards(Hparams& hparams, const ModelShape& shape, const Moe& usual) {
  const Moe moe = read_shared_moe(hparams, shape.hidden, usual);
  const int64_t n_dense =
      moe.n_experts > 0 ? hparams.count_or("leading_dense_block_count", 0) : shape.n_layers;
  const int64_t n_ff =
      n_dense > 0 ? hparams.count("feed_forward_length") : hparams.count_or("feed_forward_length", 0);
  std::vector<FeedForward> layers(static_cast<size_t>(shape.n_layers), FeedForward{.moe = moe});
  for (int64_t i = 0; i < std::min(n_dense, shape.n_layers); ++i)
    layers[static_cast<size_t>(i)] = {.mlp = {.hidden = shape.hidden, .n_ff = n_ff}};
  return layers;
}

void list_feed_forward(WeightList& list, FeedForward& feed_forward) {
  if (feed_forward.moe.n_experts > 0) return list_shared_moe(list, feed_forward.moe);
  list_mlp(list, feed_forward.mlp);
}

void run_feed_forward(const Pass& pass, const FeedForward& feed_forward, const Tensor& x, const Tensor& out) {
  if (feed_forward.moe.n_experts > 0) return run_moe(pass, feed_forward.moe, x, out);
  run_mlp(pass, feed_forward.mlp, x, out);
}

}  // namespace millrace
