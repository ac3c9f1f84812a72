// The feed-forward half of a block: gated (SwiGLU, GeGLU) or not, dense or as a mixture of experts.
#pragma once

#include <limits>

#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"
#include "tensor/buffer.h"

namespace millrace {

// down(activation(gate(x)) * up(x)), or down(activation(up(x))) without a gate. Optional biases are empty.
struct Mlp {
  int64_t hidden = 0;
  int64_t n_ff = 0;
  bool is_gated = true;
  Tensor gate, up;  // (n_ff, hidden)
  Tensor gate_up;   // (2 * n_ff, hidden): one below the other, where the file has them so
  Tensor down;      // (hidden, n_ff)
  Tensor gate_bias, up_bias, down_bias;
  Activation activation = Activation::silu;
  float limit = 0.0f;  // of what goes into the activation, and of what it is multiplied by; 0: none
  float cutoff = -std::numeric_limits<float>::infinity();  // of the gate, see Gate; -infinity: none
};

void list_mlp(WeightList& list, Mlp& mlp);
void list_mlp_bias(WeightList& list, Mlp& mlp);  // optional ones
// The same with gate and up as one tensor, which split_gate_up cuts into views once it is bound.
void list_fused_mlp(WeightList& list, Mlp& mlp);
void split_gate_up(Mlp& mlp);
// out = mlp(x); both (n_rows, hidden).
void run_mlp(const Pass& pass, const Mlp& mlp, const Tensor& x, const Tensor& out);

// A router chooses n_used of n_experts gated MLPs for each row; the settings are those of the ops Route,
// MoeGated and MoeDown. A shared expert serves every row besides, and is added; where it has a gate, times
// sigmoid(x * gate^T) (Qwen2-MoE). Optional tensors are empty.
struct Moe {
  int64_t hidden = 0;
  int64_t n_ff = 0;  // of one expert
  int64_t n_experts = 0;
  int64_t n_used = 0;
  Tensor router;                         // (n_experts, hidden)
  Tensor router_bias, select_bias;       // (n_experts)
  Tensor gate, up;                       // (n_experts, n_ff, hidden); or both in gate, one after the other
  Tensor down;                           // (n_experts, hidden, n_ff)
  Tensor gate_bias, up_bias, down_bias;  // (n_experts, n_ff), (n_experts, n_ff), (n_experts, hidden)
  Tensor gate_up_bias;                   // (n_experts, 2 * n_ff): in place of the first two
  RouteScore score = RouteScore::softmax;
  bool chooses_by_token = false;
  Tensor table;  // int32 (n_vocab, n_used): the experts of each token, where it chooses
  int64_t n_groups = 1;
  int64_t n_groups_used = 1;
  bool is_renormalised = true;  // the weights of the chosen experts sum to 1
  float scale = 1.0f;
  bool weighs_input = false;  // weights multiply what an expert reads, not what it writes
  Activation activation = Activation::silu;
  float limit = 0.0f;
  float up_offset = 0.0f;
  Mlp shared;          // n_ff 0: none
  Tensor shared_gate;  // optional (1, hidden)
};

// expert_count and its company; n_experts is 0 where the model is dense. `usual` holds what the architecture
// does where the file is silent. Throws Error(bad_model) for a routing that `Moe` does not describe.
Moe read_moe(Hparams& hparams, int64_t hidden, const Moe& usual = {});
// The same with a shared expert, where the file has one.
Moe read_shared_moe(Hparams& hparams, int64_t hidden, const Moe& usual);

struct ExpertSizes {
  int64_t n_experts, n_ff, hidden;
};
// Gate and up of experts, in two tensors or in one.
void list_gate_and_up(WeightList& list, Tensor& gate, Tensor& up, const ExpertSizes& sizes);
void list_moe(WeightList& list, Moe& moe);
void list_moe_bias(WeightList& list, Moe& moe);  // of the router and of the experts
// Makes gate_bias and up_bias where the file has them in one tensor, in memory that is returned.
Buffer split_moe_bias(Moe& moe);
void list_select_bias(WeightList& list, Moe& moe);
void list_shared_expert(WeightList& list, Moe& moe);  // where there is one, as the next
void list_shared_gate(WeightList& list, Moe& moe);
// Of DeepSeek: experts, an optional bias of the choice, the shared expert.
void list_shared_moe(WeightList& list, Moe& moe);
// out = moe(x); both (n_rows, hidden).
void run_moe(const Pass& pass, const Moe& moe, const Tensor& x, const Tensor& out);

// Of models with dense layers and such with experts: moe where it has experts, else mlp.
struct FeedForward {
  Mlp mlp;
  Moe moe;
};
// Of each layer, as DeepSeek has them: the first leading_dense_block_count are dense.
std::vector<FeedForward> read_feed_forwards(Hparams& hparams, const ModelShape& shape, const Moe& usual);
void list_feed_forward(WeightList& list, FeedForward& feed_forward);  // of those
// out = feed_forward(x); both (n_rows, hidden).
void run_feed_forward(const Pass& pass, const FeedForward& feed_forward, const Tensor& x, const Tensor& out);

}  // namespace millrace
