// The feed-forward half of a block: gated (SwiGLU, GeGLU) or not, dense or as a mixture of experts.
#pragma once

#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"

namespace millrace {

// down(activation(gate(x)) * up(x)), or down(activation(up(x))) without a gate. Optional biases are empty.
struct Mlp {
  int64_t hidden = 0;
  int64_t n_ff = 0;
  bool is_gated = true;
  Tensor gate, up;  // (n_ff, hidden)
  Tensor down;      // (hidden, n_ff)
  Tensor gate_bias, up_bias, down_bias;
  Activation activation = Activation::silu;
};

void list_mlp(WeightList& list, Mlp& mlp);
void list_mlp_bias(WeightList& list, Mlp& mlp);  // optional ones
// out = mlp(x); both (n_rows, hidden).
void run_mlp(const Pass& pass, const Mlp& mlp, const Tensor& x, const Tensor& out);

// A router chooses n_used of n_experts gated MLPs for each row; the fields of the routing are those of Route.
struct Moe {
  int64_t hidden = 0;
  int64_t n_ff = 0;  // of one expert
  int64_t n_experts = 0;
  int64_t n_used = 0;
  Tensor router;       // (n_experts, hidden)
  Tensor gate, up;     // (n_experts, n_ff, hidden)
  Tensor down;         // (n_experts, hidden, n_ff)
  Tensor select_bias;  // (n_experts), or empty
  RouteScore score = RouteScore::softmax;
  int64_t n_groups = 1;
  int64_t n_groups_used = 1;
  bool is_renormalised = true;  // the weights of the chosen experts sum to 1
  float scale = 1.0f;
  Mlp shared;  // an expert that every row uses besides, its output added; n_ff 0: none
};

// expert_count and its company; n_experts is 0 where the model is dense. Throws Error(bad_model) for a
// routing that `Moe` does not describe.
Moe read_moe(Hparams& hparams, int64_t hidden);
void list_moe(WeightList& list, Moe& moe);
// The same with all that DeepSeek's routing has: groups, a bias of the choice, a scale, a shared expert.
// `otherwise` is the score where the file has no expert_gating_func.
Moe read_shared_moe(Hparams& hparams, int64_t hidden, RouteScore otherwise);
void list_shared_moe(WeightList& list, Moe& moe);
// out = moe(x); both (n_rows, hidden).
void run_moe(const Pass& pass, const Moe& moe, const Tensor& x, const Tensor& out);

}  // namespace millrace
