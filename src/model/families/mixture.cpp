// Mixtures of experts over the Llama block: some layers dense, many small experts in the others, perhaps
// beside a shared one. Qwen2-MoE (Qwen Team 2024), GLM-4.5 to 4.7 (Zhipu 2025), MiniMax-M2 (2025).
#include <algorithm>
#include <array>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

enum class HeadNorms {
  none,
  optional,
  whole_rows
};  // of queries and keys; whole_rows: over all heads at once
enum class Shared { none, plain, gated };

struct Variant {
  std::string_view architecture;
  HeadNorms head_norms = HeadNorms::none;
  Shared shared = Shared::none;
  bool has_select_bias = false;
  std::string_view ffn_norm = "ffn_norm.weight";
  Moe usual;  // where the file is silent
};

constexpr Variant kVariants[] = {
    {.architecture = "qwen2moe", .shared = Shared::gated, .usual = {.is_renormalised = false}},
    {.architecture = "glm4moe",
     .head_norms = HeadNorms::optional,
     .shared = Shared::plain,
     .has_select_bias = true,
     .ffn_norm = "post_attention_norm.weight",
     .usual = {.score = RouteScore::sigmoid}},
    {.architecture = "minimax-m2",
     .head_norms = HeadNorms::whole_rows,
     .has_select_bias = true,
     .usual = {.score = RouteScore::sigmoid}},
};

struct Layer {
  Tensor attn_norm, ffn_norm;  // (hidden)
  Attention attention;
  FeedForward feed_forward;
};

class Mixture final : public Model {
 public:
  Mixture(const Checkpoint& checkpoint, const Variant& variant);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams) const;
  void read_dense_layers(Hparams& hparams);
  WeightList weights();
  void list_layer(WeightList& list, Layer& layer) const;

  const Variant& variant_;
  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

Mixture::Mixture(const Checkpoint& checkpoint, const Variant& variant) : variant_(variant) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  read_dense_layers(hparams);
  const AttentionSizes& sizes = layers_[0].attention.sizes;
  shape_.kv_layers.assign(layers_.size(), sizes.kv_layer());
  weights().bind(checkpoint);

  rope_ = read_head_rope(hparams, sizes.head_dim, RopePairing::half_split);
  for (Layer& layer : layers_) layer.attention.rope = rope_.view();
  hparams.refuse_rest();
}

Layer Mixture::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps);
  const auto read = variant_.shared == Shared::none ? read_moe : read_shared_moe;
  auto& [mlp, moe] = layer.feed_forward;
  moe = read(hparams, shape_.hidden, variant_.usual);
  if (moe.n_experts == 0) hparams.refuse("expert_count", "this architecture has experts");
  mlp = {.hidden = shape_.hidden, .n_ff = hparams.count_or("feed_forward_length", moe.n_ff, kCount)};
  return layer;
}

void Mixture::read_dense_layers(Hparams& hparams) {
  const std::vector<bool> is_dense = hparams.pattern_or("millrace.dense_layers", shape_.n_layers, 1);
  const int64_t n_leading = hparams.count_or("leading_dense_block_count", 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (is_dense[i] || static_cast<int64_t>(i) < n_leading) layers_[i].feed_forward.moe = {};
  }
}

WeightList Mixture::weights() {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    list.begin_layer(static_cast<int64_t>(i));
    list_layer(list, layers_[i]);
  }
  return list;
}

void Mixture::list_layer(WeightList& list, Layer& layer) const {
  list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
  list_projections(list, layer.attention);
  list_qkv_bias(list, layer.attention, Presence::optional);
  if (variant_.head_norms == HeadNorms::optional) list_head_norms(list, layer.attention, Presence::optional);
  if (variant_.head_norms == HeadNorms::whole_rows) list_row_norms(list, layer.attention);
  list.add(layer.ffn_norm, variant_.ffn_norm, {shape_.hidden});
  auto& [mlp, moe] = layer.feed_forward;
  if (moe.n_experts == 0) return list_mlp(list, mlp);
  list_moe(list, moe);
  if (variant_.has_select_bias) list_select_bias(list, moe);
  list_shared_expert(list, moe);
  if (variant_.shared == Shared::gated) list_shared_gate(list, moe);
}

Tensor Mixture::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    stream.norm(layer.ffn_norm);
    run_feed_forward(pass, layer.feed_forward, stream.normed(), stream.branch());
  }
  return stream.logits();
}

std::unique_ptr<Model> load_mixture(const Checkpoint& checkpoint) {
  const auto architecture = checkpoint.metadata().need<std::string_view>("general.architecture");
  return std::make_unique<Mixture>(checkpoint,
                                   *std::ranges::find(kVariants, architecture, &Variant::architecture));
}

constexpr HfTensorRule kGlm4[] = {
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"},
};
constexpr HfTensorRule kMiniMax[] = {
    {"model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.block_sparse_moe.e_score_correction_bias", "blk.{}.exp_probs_b.bias"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
};

void write_body(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
  keys.set("expert_used_count", config.count("num_experts_per_tok"));
}

// Layers of mlp_only_layers are dense, and all but every decoder_sparse_step-th.
void write_qwen2_moe(HfConfig& config, HfKeys& keys) {
  if (config.flag_or("use_sliding_window", false))
    config.refuse("use_sliding_window", "sliding windows are not implemented for this class");
  for (const std::string_view key : {"sliding_window", "max_window_layers", "qkv_bias"}) config.find(key);
  const int64_t n_layers = config.count("num_hidden_layers");
  read_layer_types(config, {}, std::vector<bool>(static_cast<size_t>(n_layers)));
  write_body(config, keys);
  keys.set("expert_count", config.count("num_experts"));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
  keys.set("expert_shared_feed_forward_length", config.count("shared_expert_intermediate_size"));
  keys.set("expert_weights_norm", config.flag_or("norm_topk_prob", false));
  std::vector<bool> is_dense = periodic_pattern(n_layers, config.count_or("decoder_sparse_step", 1));
  if (config.has("mlp_only_layers")) {
    for (const double layer : config.reals("mlp_only_layers")) {
      if (layer >= 0 && layer < static_cast<double>(n_layers)) is_dense[static_cast<size_t>(layer)] = true;
    }
  }
  if (is_dense != periodic_pattern(n_layers, 1)) keys.set("millrace.dense_layers", std::move(is_dense));
}

void write_glm4_moe(HfConfig& config, HfKeys& keys) {
  write_body(config, keys);
  keys.set("expert_count", config.count("n_routed_experts"));
  keys.set("expert_shared_count", config.count("n_shared_experts"));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
  keys.set("expert_gating_func", int64_t{2});
  keys.set("expert_weights_norm", config.flag_or("norm_topk_prob", true));
  keys.set("expert_weights_scale", config.real_or("routed_scaling_factor", 1.0));
  keys.set("leading_dense_block_count", config.count_or("first_k_dense_replace", 1, kCountOrNone));
  if (config.count_or("n_group", 1) != 1 || config.count_or("topk_group", 1) != 1)
    config.refuse("n_group", "only one group of experts is implemented for this class");
  config.expect("scoring_func", "sigmoid");
  config.expect("topk_method", "noaux_tc");
  config.find("use_qk_norm");  // the tensors say it
}

void write_minimax_m2(HfConfig& config, HfKeys& keys) {
  write_body(config, keys);
  keys.set("expert_count", config.count("num_local_experts"));
  keys.set("expert_feed_forward_length", config.count("intermediate_size"));
  keys.set("expert_gating_func", int64_t{2});
  // What the files of the authors say besides: attention in every layer, and the routing of this class.
  config.expect("scoring_func", "sigmoid");
  config.expect("qk_norm_type", "per_layer");
  for (const std::string_view key : {"use_qk_norm", "use_routing_bias"}) {
    if (!config.flag_or(key, true)) config.refuse(key, "only true is implemented");
  }
  keys.set("expert_weights_scale", config.real_or("routed_scaling_factor", 1.0));
  for (const std::string_view key :
       {"layernorm_full_attention_beta", "layernorm_linear_attention_beta", "layernorm_mlp_beta"}) {
    if (config.real_or(key, 1.0) != 1.0) config.refuse(key, "only 1 is implemented");
  }
  if (config.count_or("num_expert_group", 1) != 1 || config.count_or("topk_group", 1) != 1)
    config.refuse("num_expert_group", "only one group of experts is implemented for this class");
  if (config.count_or("shared_intermediate_size", 0, kCountOrNone) != 0)
    config.refuse("shared_intermediate_size", "a shared expert is not implemented for this class");
  if (config.has("attn_type_list")) {
    const std::vector<double> types = config.reals("attn_type_list");
    if (std::ranges::any_of(types, [](double type) { return type != 1.0; }))
      config.refuse("attn_type_list", "only 1 (attention) is implemented");
  }
  // Of layers that draft, whose weights are not published; of windows, shared experts and dense layers, which
  // there are none of; of a limit of the server.
  for (const std::string_view key :
       {"use_mtp", "num_mtp_modules", "mtp_transformer_layers", "swa_rope_theta", "shared_moe_mode",
        "mlp_intermediate_size", "use_grouped_topk", "max_model_len"}) {
    config.find(key);
  }
}

constexpr HfModelClass kHfClasses[] = {
    {"qwen2_moe", "qwen2moe", R"({"rms_norm_eps": 1e-6, "rope_theta": 10000.0})", {}, write_qwen2_moe},
    {"glm4_moe", "glm4moe", R"({"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "partial_rotary_factor": 0.5})",
     kGlm4, write_glm4_moe},
    {"minimax_m2", "minimax-m2", R"({"rms_norm_eps": 1e-6, "rope_theta": 5000000.0})", kMiniMax,
     write_minimax_m2},
    // So the first files of MiniMax-M2 say. Those of MiniMax-Text-01 say it too, and are refused: their
    // layers are of other types.
    {"minimax", "minimax-m2", R"({"rms_norm_eps": 1e-6, "rope_theta": 5000000.0})", kMiniMax,
     write_minimax_m2},
};

constexpr auto kArchitectures = architectures_of(kVariants);

}  // namespace

Family mixture_family() {
  return {.architectures = kArchitectures, .load = load_mixture, .hf_classes = kHfClasses};
}

}  // namespace millrace
