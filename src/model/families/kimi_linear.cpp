// Kimi Linear (Kimi Team 2025): three of four layers are Kimi delta attention, a delta rule whose decay is of
// each key dimension; the fourth is latent attention that does not rotate. Experts beside one that every row
// uses.
#include <algorithm>
#include <cmath>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/delta_rule.h"
#include "model/layers/latent_attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

// Kimi delta attention. Decay and gate are products of two small matrices.
struct DeltaAttention {
  DeltaRule rule;
  Tensor q, k, v;           // (width, hidden), the width being that of all heads
  Tensor beta;              // (n_heads, hidden)
  Tensor decay_a, decay_b;  // (head_dim, hidden), (width, head_dim)
  Tensor gate_a, gate_b;    // the same
};

struct Layer {
  bool is_recurrent = false;
  Tensor attn_norm, ffn_norm;  // (hidden)
  LatentAttention latent;      // one of the two
  DeltaAttention delta;
  Mlp mlp;  // one of the two
  Moe moe;
};

class KimiLinear final : public Model {
 public:
  explicit KimiLinear(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams) const;
  WeightList weights();
  void list_delta(WeightList& list, DeltaAttention& delta) const;
  void run_delta(const Pass& pass, const DeltaAttention& delta, int64_t layer, const Tensor& x,
                 const Tensor& out) const;

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  std::vector<Buffer> made_;  // of weights that the file has in another form
};

KimiLinear::KimiLinear(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  // Without key-value heads a layer is recurrent.
  const std::vector<int64_t> n_kv_heads = hparams.counts("attention.head_count_kv", kCountOrNone);
  if (n_kv_heads.size() != layers_.size()) {
    hparams.refuse("attention.head_count_kv",
                   fmt::format("{} entries for {} layers", n_kv_heads.size(), layers_.size()));
  }
  const int64_t n_dense = hparams.count_or("leading_dense_block_count", 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    layer.is_recurrent = n_kv_heads[i] == 0;
    if (static_cast<int64_t>(i) < n_dense) layer.moe = {};
    shape_.kv_layers.push_back(layer.is_recurrent ? KvLayer{} : layer.latent.kv_layer());
    shape_.state_layers.push_back(layer.is_recurrent ? layer.delta.rule.sizes.state_layer() : StateLayer{});
  }
  hparams.real_or("rope.freq_base", 10000.0);  // of a rotation that no layer has
  weights().bind(checkpoint);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i].is_recurrent) made_.push_back(split_kv_b(layers_[i].latent, static_cast<int64_t>(i)));
  }
  hparams.refuse_rest();
}

Layer KimiLinear::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.latent.sizes = read_latent_sizes(hparams, shape_.hidden);
  layer.latent.scale =
      static_cast<float>(1.0 / std::sqrt(static_cast<double>(layer.latent.sizes.head_dim())));
  const int64_t n_heads = hparams.count("attention.head_count"), head_dim = hparams.count("kda.head_dim");
  layer.delta.rule.sizes = {.hidden = shape_.hidden,
                            .n_k_heads = n_heads,
                            .n_v_heads = n_heads,
                            .k_head_dim = head_dim,
                            .v_head_dim = head_dim,
                            .n_taps = read_n_taps(hparams)};
  layer.delta.rule.norm_eps = ends_.norm_eps;
  layer.delta.rule.gate = Activation::sigmoid;
  layer.mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")};
  layer.moe = read_shared_moe(hparams, shape_.hidden, {.score = RouteScore::sigmoid});
  return layer;
}

WeightList KimiLinear::weights() {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    if (layer.is_recurrent) {
      list_delta(list, layer.delta);
    } else {
      list_latent_attention(list, layer.latent);
    }
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    if (layer.moe.n_experts > 0) {
      list_shared_moe(list, layer.moe);
    } else {
      list_mlp(list, layer.mlp);
    }
  }
  return list;
}

void KimiLinear::list_delta(WeightList& list, DeltaAttention& delta) const {
  const DeltaSizes& sizes = delta.rule.sizes;
  const int64_t width = sizes.k_width(), head_dim = sizes.k_head_dim;
  list.add(delta.q, "attn_q.weight", {width, sizes.hidden}, Shard::outputs);
  list.add(delta.k, "attn_k.weight", {width, sizes.hidden}, Shard::outputs);
  list.add(delta.v, "attn_v.weight", {width, sizes.hidden}, Shard::outputs);
  list.add_f32(delta.rule.conv_q, "ssm_conv1d_q.weight", {width, sizes.n_taps});
  list.add_f32(delta.rule.conv_k, "ssm_conv1d_k.weight", {width, sizes.n_taps});
  list.add_f32(delta.rule.conv_v, "ssm_conv1d_v.weight", {width, sizes.n_taps});
  list.add(delta.beta, "ssm_beta.weight", {sizes.n_v_heads, sizes.hidden}, Shard::outputs);
  list.add(delta.decay_a, "ssm_f_a.weight", {head_dim, sizes.hidden});
  list.add(delta.decay_b, "ssm_f_b.weight", {width, head_dim}, Shard::outputs);
  list.add(delta.gate_a, "ssm_g_a.weight", {head_dim, sizes.hidden});
  list.add(delta.gate_b, "ssm_g_b.weight", {width, head_dim}, Shard::outputs);
  list.add(delta.rule.rate, "ssm_a", {sizes.n_v_heads});
  list.add(delta.rule.decay_bias, "ssm_dt.bias", {width});
  list.add(delta.rule.norm, "ssm_norm.weight", {head_dim});
  list.add(delta.rule.out, "attn_output.weight", {sizes.hidden, width}, Shard::inputs);
}

Tensor KimiLinear::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const auto index = static_cast<int64_t>(i);
    stream.norm(layer.attn_norm);
    if (layer.is_recurrent) {
      run_delta(pass, layer.delta, index, stream.normed(), stream.branch());
    } else {
      run_latent_attention(pass, layer.latent,
                           {.layer = index, .x = stream.normed(), .out = stream.branch()});
    }
    stream.norm(layer.ffn_norm);
    if (layer.moe.n_experts > 0) {
      run_moe(pass, layer.moe, stream.normed(), stream.branch());
    } else {
      run_mlp(pass, layer.mlp, stream.normed(), stream.branch());
    }
  }
  return stream.logits();
}

void KimiLinear::run_delta(const Pass& pass, const DeltaAttention& delta, int64_t layer, const Tensor& x,
                           const Tensor& out) const {
  const ArenaScope scope(pass.arena);
  const DeltaSizes& sizes = delta.rule.sizes;
  const auto take = [&](int64_t width) { return pass.arena.take(Dtype::f32, {x.dim(0), width}); };
  const int64_t width = sizes.k_width();
  const DeltaInputs inputs{.q = take(width),
                           .k = take(width),
                           .v = take(width),
                           .beta = take(sizes.n_v_heads),
                           .decay = take(width),
                           .gate = take(width)};
  const Tensor decay = take(sizes.k_head_dim), gate = take(sizes.k_head_dim);
  pass.backend.run(Linear{.x = x,
                          .products = {{.weight = delta.q, .out = inputs.q},
                                       {.weight = delta.k, .out = inputs.k},
                                       {.weight = delta.v, .out = inputs.v}},
                          .n_products = 3});
  pass.backend.run(Linear{.x = x,
                          .products = {{.weight = delta.beta, .out = inputs.beta},
                                       {.weight = delta.decay_a, .out = decay},
                                       {.weight = delta.gate_a, .out = gate}},
                          .n_products = 3});
  pass.backend.run(Linear{.x = decay, .products = {{.weight = delta.decay_b, .out = inputs.decay}}});
  pass.backend.run(Linear{.x = gate, .products = {{.weight = delta.gate_b, .out = inputs.gate}}});
  run_delta_rule(pass, delta.rule, layer, inputs, out);
}

std::unique_ptr<Model> load_kimi_linear(const Checkpoint& checkpoint) {
  return std::make_unique<KimiLinear>(checkpoint);
}

// --- Hugging Face --------------------------------------------------------------------------------------

constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.self_attn.q_conv1d.weight", "blk.{}.ssm_conv1d_q.weight", HfChange::as_f32},
    {"model.layers.{}.self_attn.k_conv1d.weight", "blk.{}.ssm_conv1d_k.weight", HfChange::as_f32},
    {"model.layers.{}.self_attn.v_conv1d.weight", "blk.{}.ssm_conv1d_v.weight", HfChange::as_f32},
    {"model.layers.{}.self_attn.b_proj.weight", "blk.{}.ssm_beta.weight"},
    {"model.layers.{}.self_attn.f_a_proj.weight", "blk.{}.ssm_f_a.weight"},
    {"model.layers.{}.self_attn.f_b_proj.weight", "blk.{}.ssm_f_b.weight"},
    {"model.layers.{}.self_attn.g_a_proj.weight", "blk.{}.ssm_g_a.weight"},
    {"model.layers.{}.self_attn.g_b_proj.weight", "blk.{}.ssm_g_b.weight"},
    {"model.layers.{}.self_attn.A_log", "blk.{}.ssm_a", HfChange::negative_exp},
    {"model.layers.{}.self_attn.dt_bias", "blk.{}.ssm_dt.bias"},
    {"model.layers.{}.self_attn.o_norm.weight", "blk.{}.ssm_norm.weight"},
    {"model.layers.{}.self_attn.q_a_proj.weight", "blk.{}.attn_q_a.weight"},
    {"model.layers.{}.self_attn.q_a_layernorm.weight", "blk.{}.attn_q_a_norm.weight"},
    {"model.layers.{}.self_attn.q_b_proj.weight", "blk.{}.attn_q_b.weight"},
    {"model.layers.{}.self_attn.kv_a_proj_with_mqa.weight", "blk.{}.attn_kv_a_mqa.weight"},
    {"model.layers.{}.self_attn.kv_a_layernorm.weight", "blk.{}.attn_kv_a_norm.weight"},
    {"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_k_b.weight", HfChange::latent_keys},
    {"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_v_b.weight", HfChange::latent_values},
    {"model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.block_sparse_moe.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.block_sparse_moe.shared_experts.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.block_sparse_moe.shared_experts.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.block_sparse_moe.shared_experts.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
};

// The published config keeps what concerns delta attention in an object of its own, and counts layers from 1;
// transformers 5 writes flat keys and a type for each layer.
std::vector<bool> read_recurrent_layers(HfConfig& config, HfConfig& linear) {
  std::vector<bool> is_recurrent(static_cast<size_t>(config.count("num_hidden_layers")), true);
  linear.find("kda_layers");
  if (config.has("layer_types")) {
    const std::vector<std::string> types = config.texts("layer_types");
    if (types.size() != is_recurrent.size())
      config.refuse("layer_types", "one type for each layer is expected");
    for (size_t i = 0; i < types.size(); ++i) {
      is_recurrent[i] = types[i] == "linear_attention";
      if (!is_recurrent[i] && types[i] != "full_attention")
        config.refuse("layer_types", fmt::format("{} is not implemented", printable(types[i])));
    }
    linear.find("full_attn_layers");
    return is_recurrent;
  }
  for (const double layer : linear.reals("full_attn_layers")) {
    if (!(layer >= 1.0 && layer <= static_cast<double>(is_recurrent.size())))
      linear.refuse("full_attn_layers", "layers from 1 to num_hidden_layers are expected");
    is_recurrent[static_cast<size_t>(layer) - 1] = false;
  }
  return is_recurrent;
}

void write_delta_keys(HfConfig& config, HfKeys& keys) {
  static const Json kNone{Json::Object()};
  const Json* object = config.find("linear_attn_config");
  const bool is_flat = object == nullptr;
  HfConfig inner = config.within(is_flat ? kNone : *object, "linear_attn_config");
  HfConfig& linear = is_flat ? config : inner;
  const int64_t n_heads = linear.count(is_flat ? "linear_num_heads" : "num_heads");
  if (n_heads != config.count("num_attention_heads"))
    linear.refuse(is_flat ? "linear_num_heads" : "num_heads", "as many heads as of attention are expected");
  keys.set("kda.head_dim", linear.count(is_flat ? "linear_head_dim" : "head_dim"));
  keys.set("ssm.conv_kernel", linear.count(is_flat ? "linear_conv_kernel_dim" : "short_conv_kernel_size"));
  std::vector<int64_t> n_kv_heads;
  for (const bool is_recurrent : read_recurrent_layers(config, linear))
    n_kv_heads.push_back(is_recurrent ? 0 : 1);
  keys.set("attention.head_count_kv", std::move(n_kv_heads));
  if (!is_flat) linear.refuse_rest();
}

void write_latent_keys_of(HfConfig& config, HfKeys& keys) {
  const int64_t rank = config.count("kv_lora_rank"), n_rope = config.count("qk_rope_head_dim");
  keys.set("attention.kv_lora_rank", rank);
  if (config.has("q_lora_rank")) keys.set("attention.q_lora_rank", config.count("q_lora_rank"));
  config.find("q_lora_rank");
  keys.set("rope.dimension_count", n_rope);
  keys.set("attention.key_length", rank + n_rope);
  keys.set("attention.value_length", rank);
  keys.set("attention.key_length_mla", config.count("qk_nope_head_dim") + n_rope);
  keys.set("attention.value_length_mla", config.count("v_head_dim"));
  for (const std::string_view key :
       {"head_dim", "qk_head_dim", "rope_theta", "rope_parameters", "rope_scaling"})
    config.find(key);  // follow from the others, or nothing rotates
}

int64_t read_dense_layers(HfConfig& config) {
  const int64_t n_layers = config.count("num_hidden_layers");
  const int64_t n_first = config.count_or("first_k_dense_replace", 1, kCountOrNone);
  if (!config.has("mlp_layer_types")) return std::min(n_first, n_layers);
  const std::vector<std::string> types = config.texts("mlp_layer_types");
  const auto n_dense = std::ranges::find(types, "sparse") - types.begin();
  if (std::ssize(types) != n_layers || std::ranges::count(types, "sparse") != n_layers - n_dense ||
      std::ranges::count(types, "dense") != n_dense) {
    config.refuse("mlp_layer_types", "dense layers, then sparse ones are expected");
  }
  return n_dense;
}

void write_experts(HfConfig& config, HfKeys& keys) {
  config.expect("moe_router_activation_func", "sigmoid");
  if (config.count_or("moe_layer_freq", 1) != 1)
    config.refuse("moe_layer_freq", "only 1 (experts in every layer) is implemented");
  keys.set("leading_dense_block_count", read_dense_layers(config));
  keys.set("expert_count", config.count("num_experts"));
  keys.set("expert_used_count", config.count("num_experts_per_token"));
  keys.set("expert_shared_count", config.count("num_shared_experts"));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
  keys.set("expert_gating_func", int64_t{2});  // sigmoid
  keys.set("expert_weights_scale", config.real("routed_scaling_factor"));
  keys.set("expert_weights_norm", config.flag_or("moe_renormalize", true));
  const int64_t n_groups = config.count_or("num_expert_group", 1);
  const int64_t n_groups_used = config.count_or("topk_group", 1);
  config.find("use_grouped_topk");  // with one group it changes nothing, with more the class always groups
  if (n_groups == 1) return;
  keys.set("expert_group_count", n_groups);
  keys.set("expert_group_used_count", n_groups_used);
}

void write_kimi_linear(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  if (!config.flag_or("mla_use_nope", true))
    config.refuse("mla_use_nope", "attention that rotates is not implemented for this class");
  keys.set("block_count", config.count("num_hidden_layers", {1, 4096}));
  const bool is_usual = config.has("max_position_embeddings");  // transformers takes both
  keys.set("context_length",
           config.count(is_usual ? "max_position_embeddings" : "model_max_length", kPositions));
  config.find("model_max_length");
  keys.set("embedding_length", config.count("hidden_size"));
  keys.set("feed_forward_length", config.count("intermediate_size"));
  keys.set("vocab_size", config.count("vocab_size"));
  keys.set("attention.head_count", config.count("num_attention_heads"));
  keys.set("attention.layer_norm_rms_epsilon", config.real("rms_norm_eps", {0.0, 1.0}));
  for (const std::string_view key : {"num_key_value_heads", "attention_bias"})
    config.find(key);  // latents have no heads; the others show in the tensors
  write_latent_keys_of(config, keys);
  write_delta_keys(config, keys);
  write_experts(config, keys);
}

constexpr std::string_view kDefaults = R"({
  "rms_norm_eps": 1e-5, "model_max_length": 1048576, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
  "qk_nope_head_dim": 128, "v_head_dim": 128, "num_experts": 256, "num_experts_per_token": 8,
  "num_shared_experts": 1, "moe_intermediate_size": 1024, "routed_scaling_factor": 2.446,
  "linear_head_dim": 128, "linear_num_heads": 32, "linear_conv_kernel_dim": 4})";

constexpr HfModelClass kHfClasses[] = {
    {"kimi_linear", "kimi-linear", kDefaults, kTensors, write_kimi_linear},
};
constexpr std::string_view kArchitectures[] = {"kimi-linear"};

}  // namespace

Family kimi_linear_family() {
  return {.architectures = kArchitectures, .load = load_kimi_linear, .hf_classes = kHfClasses};
}

}  // namespace millrace
