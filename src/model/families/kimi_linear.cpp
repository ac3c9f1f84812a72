// Kimi Linear (Kimi Team 2025): three of four layers are Kimi delta attention, a delta rule whose decay is of
// each key dimension; the fourth is latent attention that does not rotate. Experts beside one that every row
// uses.
#include "model/families.h"
#include "model/hf/delta_keys.h"
#include "model/hf/expert_keys.h"
#include "model/layers/delta_attention.h"
#include "model/layers/latent_attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Layer {
  bool is_recurrent = false;
  Tensor attn_norm, ffn_norm;  // (hidden)
  LatentAttention latent;      // one of the two
  DeltaAttention delta;
  FeedForward feed_forward;
};

class KimiLinear final : public Model {
 public:
  explicit KimiLinear(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  WeightList weights();

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  std::vector<Buffer> made_;  // of weights that the file has in another form
};

KimiLinear::KimiLinear(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers),
                 {.latent = read_still_latent_attention(hparams, shape_.hidden),
                  .delta = read_delta_attention(hparams, shape_.hidden, ends_.norm_eps)});
  // Without key-value heads a layer is recurrent.
  const std::vector<int64_t> n_kv_heads =
      hparams.counts("attention.head_count_kv", shape_.n_layers, kCountOrNone);
  const std::vector<FeedForward> feed_forwards =
      read_feed_forwards(hparams, shape_, {.score = RouteScore::sigmoid});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    layer.is_recurrent = n_kv_heads[i] == 0;
    layer.feed_forward = feed_forwards[i];
    shape_.kv_layers.push_back(layer.is_recurrent ? KvLayer{} : layer.latent.kv_layer());
    shape_.state_layers.push_back(layer.is_recurrent ? layer.delta.rule.sizes.state_layer() : StateLayer{});
  }
  weights().bind(checkpoint);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i].is_recurrent)
      made_.push_back(make_latent_weights(layers_[i].latent, static_cast<int64_t>(i)));
  }
  hparams.refuse_rest();
}

WeightList KimiLinear::weights() {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    if (layer.is_recurrent) {
      list_delta_attention(list, layer.delta);
    } else {
      list_latent_attention(list, layer.latent);
    }
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    list_feed_forward(list, layer.feed_forward);
  }
  return list;
}

Tensor KimiLinear::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const auto index = static_cast<int64_t>(i);
    stream.norm(layer.attn_norm);
    if (layer.is_recurrent) {
      run_delta_attention(pass, layer.delta, index, stream.normed(), stream.branch());
    } else {
      run_latent_attention(pass, layer.latent,
                           {.layer = index, .x = stream.normed(), .out = stream.branch()});
    }
    stream.norm(layer.ffn_norm);
    run_feed_forward(pass, layer.feed_forward, stream.normed(), stream.branch());
  }
  return stream.logits();
}

std::unique_ptr<Model> load_kimi_linear(const Checkpoint& checkpoint) {
  return std::make_unique<KimiLinear>(checkpoint);
}

// --- Hugging Face --------------------------------------------------------------------------------------

constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.block_sparse_moe.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.block_sparse_moe.shared_experts.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.block_sparse_moe.shared_experts.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.block_sparse_moe.shared_experts.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
};

constexpr ExpertNames kExpertNames{.gating = "moe_router_activation_func",
                                   .n_experts = "num_experts",
                                   .n_used = "num_experts_per_token",
                                   .n_shared = "num_shared_experts",
                                   .renormalises = "moe_renormalize",
                                   .n_groups = "num_expert_group"};

void write_kimi_linear(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  if (!config.flag_or("mla_use_nope", true))
    config.refuse("mla_use_nope", "attention that rotates is not implemented for this class");
  const int64_t n_heads = config.count("num_attention_heads");
  keys.set("block_count", config.count("num_hidden_layers", {1, 4096}));
  const bool is_usual = config.has("max_position_embeddings");  // transformers takes both
  keys.set("context_length",
           config.count(is_usual ? "max_position_embeddings" : "model_max_length", kPositions));
  config.find("model_max_length");
  keys.set("embedding_length", config.count("hidden_size"));
  keys.set("feed_forward_length", config.count("intermediate_size"));
  keys.set("vocab_size", config.count("vocab_size"));
  keys.set("attention.head_count", n_heads);
  keys.set("attention.layer_norm_rms_epsilon", config.real("rms_norm_eps", {0.0, 1.0}));
  if (config.count_or("num_key_value_heads", n_heads) != n_heads)
    config.refuse("num_key_value_heads", "latent attention has keys and values for every head");
  for (const std::string_view key : {"attention_bias", "rope_theta", "rope_parameters"})
    config.find(key);  // biases show in the tensors, and nothing rotates
  write_latent_size_keys(config, keys);
  write_delta_keys(config, keys, {.attention_types = {"full_attention"}});
  write_expert_keys(config, keys, Gating::sigmoid, kExpertNames);
  config.find("use_grouped_topk");  // with one group it changes nothing, with more the class always groups
}

constexpr std::string_view kDefaults = R"({
  "rms_norm_eps": 1e-5, "model_max_length": 1048576, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
  "qk_nope_head_dim": 128, "v_head_dim": 128, "first_k_dense_replace": 1, "num_experts": 256,
  "num_experts_per_token": 8, "num_shared_experts": 1, "moe_intermediate_size": 1024,
  "routed_scaling_factor": 2.446,
  "linear_head_dim": 128, "linear_num_heads": 32, "linear_conv_kernel_dim": 4})";

constexpr HfModelClass kHfClasses[] = {
    {"kimi_linear", "kimi-linear", kDefaults, kTensors, write_kimi_linear},
};
constexpr std::string_view kArchitectures[] = {"kimi-linear"};

}  // namespace

Family kimi_linear_family() {
  return {.architectures = kArchitectures,
          .load = load_kimi_linear,
          .hf_classes = kHfClasses,
          .has_latents = true};
}

}  // namespace millrace
