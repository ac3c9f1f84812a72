// The Llama body (Touvron et al. 2023): pre-norm blocks of attention and a gated feed-forward, dense or a
// mixture of experts (Mixtral), with RMSNorm and rotary positions. Most open models are variants of it.
#include <algorithm>
#include <array>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/hf/params.h"
#include "model/layers/attention.h"
#include "model/layers/embedding_end.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Variant {
  std::string_view architecture;
  RopePairing pairing;
  Presence qkv_bias = Presence::optional;
  bool has_head_norms = false;
  int64_t window_period = 0;   // the sliding pattern where the file has a window and no pattern; 0: all slide
  int64_t no_rope_period = 0;  // every such layer does not rotate; 0: all rotate
  bool has_scales = false;     // Granite's multipliers of embeddings, branches and logits
};

constexpr Variant kVariants[] = {
    {.architecture = "llama", .pairing = RopePairing::adjacent},
    {.architecture = "mistral3", .pairing = RopePairing::adjacent},
    {.architecture = "granite", .pairing = RopePairing::adjacent, .has_scales = true},
    {.architecture = "smollm3", .pairing = RopePairing::adjacent, .no_rope_period = 4},
    {.architecture = "qwen2",
     .pairing = RopePairing::half_split,
     .qkv_bias = Presence::needed,
     .window_period = 1},
    {.architecture = "qwen2vl",
     .pairing = RopePairing::half_split,
     .qkv_bias = Presence::needed,
     .window_period = 1},
    {.architecture = "qwen3", .pairing = RopePairing::half_split, .has_head_norms = true, .window_period = 1},
    {.architecture = "qwen3moe",
     .pairing = RopePairing::half_split,
     .has_head_norms = true,
     .window_period = 1},
    {.architecture = "qwen3vlmoe",
     .pairing = RopePairing::half_split,
     .has_head_norms = true,
     .window_period = 1},
    {.architecture = "qwen3vl",
     .pairing = RopePairing::half_split,
     .has_head_norms = true,
     .window_period = 1},
};

struct Layer {
  Tensor attn_norm, ffn_norm;  // (hidden)
  Attention attention;
  FeedForward feed_forward;
};

class Llama final : public Model {
 public:
  Llama(const Checkpoint& checkpoint, const Variant& variant);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  void read_scales(Hparams& hparams);
  Layer read_layer(Hparams& hparams) const;
  WeightList weights(const Variant& variant);
  void read_positions(Hparams& hparams, const Variant& variant);

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  Tensor rope_freqs_;  // optional (n_rotary / 2): divisors of the frequencies
  int64_t n_rotary_ = 0;
  RopeTable rope_;
};

Llama::Llama(const Checkpoint& checkpoint, const Variant& variant) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  read_pooling(hparams, shape_);
  if (shape_.pooling == Pooling::rank) {
    hparams.refuse("pooling_type", "rank (4) is not implemented for this architecture");
  }
  ends_ = read_ends(hparams, shape_);
  if (variant.has_scales) read_scales(hparams);
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  n_rotary_ = read_n_rotary(hparams, layers_[0].attention.sizes.head_dim);
  shape_.kv_layers.assign(layers_.size(), layers_[0].attention.sizes.kv_layer());
  weights(variant).bind(checkpoint);
  read_positions(hparams, variant);
  hparams.refuse_rest();
}

// 0 stands for "none" as 1 does.
void Llama::read_scales(Hparams& hparams) {
  const auto scale = [&](std::string_view key) {
    const double value = hparams.real_or(key, 1.0, {0.0, 1e6});
    return value > 0.0 ? static_cast<float>(value) : 1.0f;
  };
  ends_.embd_scale = scale("embedding_scale");
  ends_.branch_scale = scale("residual_scale");
  ends_.logit_scale = 1.0f / scale("logit_scale");
}

Layer Llama::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps);
  auto& [mlp, moe] = layer.feed_forward;
  moe = read_moe(hparams, shape_.hidden);
  if (moe.n_experts == 0) mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")};
  return layer;
}

// Rotation, windows and query scale of each layer.
void Llama::read_positions(Hparams& hparams, const Variant& variant) {
  rope_ = read_head_rope(hparams, layers_[0].attention.sizes.head_dim, variant.pairing, rope_freqs_);
  const std::vector<int64_t> windows = read_windows(hparams, shape_.n_layers, variant.window_period);
  const std::vector<bool> rotates =
      hparams.pattern_or("millrace.rope.rotated_layers", shape_.n_layers, variant.no_rope_period);
  const double q_scale_beta = hparams.real_or("attention.temperature_scale", 0.0, {0.0, 1e3});
  double q_scale_length = 1.0;
  if (q_scale_beta > 0.0) {
    q_scale_length = hparams.has("attention.temperature_length")
                         ? hparams.real("attention.temperature_length")
                         : hparams.real("rope.scaling.original_context_length");
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    Attention& attention = layers_[i].attention;
    if (rotates[i]) attention.rope = rope_.view();
    attention.window = shape_.kv_layers[i].window = windows[i];
    attention.q_scale_beta = static_cast<float>(q_scale_beta);
    attention.q_scale_length = static_cast<float>(q_scale_length);
  }
}

WeightList Llama::weights(const Variant& variant) {
  WeightList list;
  list_ends(list, ends_);
  list.add_optional(rope_freqs_, "rope_freqs.weight", {n_rotary_ / 2});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_projections(list, layer.attention);
    list_qkv_bias(list, layer.attention, variant.qkv_bias);
    list.add_optional(layer.attention.out_bias, "attn_output.bias", {shape_.hidden});
    if (variant.has_head_norms) list_head_norms(list, layer.attention);
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    auto& [mlp, moe] = layer.feed_forward;
    if (moe.n_experts > 0) {
      list_moe(list, moe);
    } else {
      list_mlp(list, mlp);
      list_mlp_bias(list, mlp);
    }
  }
  return list;
}

Tensor Llama::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    stream.norm(layer.ffn_norm);
    run_feed_forward(pass, layer.feed_forward, stream.normed(), stream.branch());
  }
  return shape_.gives_embeddings() ? run_embedding_end(pass, {}, stream.rows()) : stream.logits();
}

std::unique_ptr<Model> load_llama(const Checkpoint& checkpoint) {
  const auto architecture = checkpoint.metadata().need<std::string_view>("general.architecture");
  return std::make_unique<Llama>(checkpoint,
                                 *std::ranges::find(kVariants, architecture, &Variant::architecture));
}

// GGUF files of these architectures rotate adjacent pairs, Hugging Face rotates halves.
constexpr HfTensorRule kPairedHeads[] = {
    {"model.layers.{}.self_attn.q_proj.weight", "blk.{}.attn_q.weight", HfChange::pair_q_heads},
    {"model.layers.{}.self_attn.q_proj.bias", "blk.{}.attn_q.bias", HfChange::pair_q_heads},
    {"model.layers.{}.self_attn.k_proj.weight", "blk.{}.attn_k.weight", HfChange::pair_k_heads},
    {"model.layers.{}.self_attn.k_proj.bias", "blk.{}.attn_k.bias", HfChange::pair_k_heads},
    {"model.layers.{}.block_sparse_moe.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.block_sparse_moe.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
};

// Qwen3-VL stores experts by inputs: (experts, hidden, 2 * width) and (experts, width, hidden).
constexpr HfTensorRule kVlExperts[] = {
    {"model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_gate_exps.weight",
     HfChange::first_half_transposed},
    {"model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_up_exps.weight",
     HfChange::second_half_transposed},
    {"model.layers.{}.mlp.experts.down_proj", "blk.{}.ffn_down_exps.weight", HfChange::transposed},
};

int64_t period_of(std::string_view architecture) {
  return std::ranges::find(kVariants, architecture, &Variant::architecture)->window_period;
}

void write_llama(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
}

void write_granite(HfConfig& config, HfKeys& keys) {
  write_llama(config, keys);
  keys.set("attention.scale", config.real("attention_multiplier"));
  keys.set("embedding_scale", config.real("embedding_multiplier"));
  keys.set("residual_scale", config.real("residual_multiplier"));
  keys.set("logit_scale", config.real("logits_scaling"));
}

// Every layer slides where there is a window.
void write_mistral(HfConfig& config, HfKeys& keys) {
  write_llama(config, keys);
  const int64_t n_layers = config.count("num_hidden_layers");
  write_window_keys(config, keys, periodic_pattern(n_layers, 0), period_of("llama"));
}

void write_mixtral(HfConfig& config, HfKeys& keys) {
  write_mistral(config, keys);
  keys.set("expert_count", config.count("num_local_experts"));
  keys.set("expert_used_count", config.count("num_experts_per_tok"));
}

// Layers from max_window_layers on slide, where use_sliding_window says so.
void write_qwen(HfConfig& config, HfKeys& keys) {
  write_llama(config, keys);
  const int64_t n_layers = config.count("num_hidden_layers");
  const int64_t first = config.count_or("max_window_layers", n_layers, kCountOrNone);
  std::vector<bool> slides(static_cast<size_t>(n_layers), false);
  for (int64_t i = first; i < n_layers; ++i) slides[static_cast<size_t>(i)] = true;
  config.find("sliding_window");
  if (config.flag_or("use_sliding_window", false)) {
    write_window_keys(config, keys, std::move(slides), period_of("qwen2"));
  } else {
    read_layer_types(config, {}, std::move(slides));  // which slide is nothing without a window
  }
}

void write_qwen3_moe(HfConfig& config, HfKeys& keys) {
  if (config.flag_or("use_sliding_window", false)) {
    config.refuse("use_sliding_window", "sliding windows are not implemented for this class");
  }
  if (config.count_or("decoder_sparse_step", 1) != 1) {
    config.refuse("decoder_sparse_step", "only 1 (experts in every layer) is implemented");
  }
  write_qwen(config, keys);
  keys.set("expert_count",
           config.has("num_experts") ? config.count("num_experts") : config.count("num_local_experts"));
  config.find("num_local_experts");
  keys.set("expert_used_count", config.count("num_experts_per_tok"));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
  keys.set("expert_weights_norm", config.flag_or("norm_topk_prob", false));
}

void write_smollm3(HfConfig& config, HfKeys& keys) {
  write_qwen(config, keys);
  const int64_t n_layers = config.count("num_hidden_layers");
  std::vector<bool> rotates = periodic_pattern(n_layers, config.count_or("no_rope_layer_interval", 4));
  if (config.has("no_rope_layers")) {
    const std::vector<double> flags = config.reals("no_rope_layers");  // 1 where the layer does rotate
    if (std::ssize(flags) != n_layers) {
      config.refuse("no_rope_layers", fmt::format("{} entries for {} layers", flags.size(), n_layers));
    }
    for (size_t i = 0; i < rotates.size(); ++i) rotates[i] = flags[i] != 0.0;
  }
  if (rotates != periodic_pattern(n_layers, 4)) keys.set("millrace.rope.rotated_layers", std::move(rotates));
}

// The text of Qwen2-VL and 2.5-VL, whose older configs mix it with the settings of the tower.
void write_qwen2_vl(HfConfig& config, HfKeys& keys) {
  write_qwen(config, keys);
  for (const std::string_view key : {"vision_config", "image_token_id", "video_token_id", "vision_token_id",
                                     "vision_start_token_id", "vision_end_token_id"}) {
    config.find(key);
  }
}

constexpr std::string_view kQwen2VlDefaults = R"({
  "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": 4096, "max_window_layers": 80})";
constexpr HfModelClass kHfClasses[] = {
    {"llama", "llama", R"({"rms_norm_eps": 1e-6, "rope_theta": 10000.0})", kPairedHeads, write_llama},
    {"granite", "granite",
     R"({"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 2048,
         "attention_multiplier": 1.0, "embedding_multiplier": 1.0, "residual_multiplier": 1.0,
         "logits_scaling": 1.0})",
     kPairedHeads, write_granite},
    {"mistral", "llama", R"({"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096})",
     kPairedHeads, write_mistral},
    {"ministral", "llama", R"({"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096})",
     kPairedHeads, write_mistral},
    {"ministral3", "mistral3", R"({"rms_norm_eps": 1e-5, "rope_theta": 1000000.0})", kPairedHeads,
     write_mistral},
    {"mixtral", "llama", R"({"rms_norm_eps": 1e-5, "rope_theta": 1000000.0})", kPairedHeads, write_mixtral},
    {kParamsDense, "llama", "{}", kParamsTensors, write_mistral},
    {kParamsScaledQueries, "mistral3", "{}", kParamsTensors, write_mistral},
    {kParamsExperts, "llama", "{}", kParamsTensors, write_mixtral},
    {"qwen2",
     "qwen2",
     R"({"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096, "max_window_layers": 28})",
     {},
     write_qwen},
    {"qwen3",
     "qwen3",
     R"({"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "head_dim": 128, "sliding_window": 4096,
         "max_window_layers": 28})",
     {},
     write_qwen},
    {"qwen3_moe",
     "qwen3moe",
     R"({"rms_norm_eps": 1e-6, "rope_theta": 10000.0, "num_experts_per_tok": 8, "moe_intermediate_size": 768})",
     {},
     write_qwen3_moe},
    {"qwen2_vl", "qwen2vl", kQwen2VlDefaults, {}, write_qwen2_vl},
    {"qwen2_vl_text", "qwen2vl", kQwen2VlDefaults, {}, write_qwen2_vl},
    {"qwen2_5_vl", "qwen2vl", kQwen2VlDefaults, {}, write_qwen2_vl},
    {"qwen2_5_vl_text", "qwen2vl", kQwen2VlDefaults, {}, write_qwen2_vl},
    {"qwen3_vl_text",
     "qwen3vl",
     R"({"rms_norm_eps": 1e-6, "rope_theta": 5000000.0, "head_dim": 128})",
     {},
     write_qwen},
    {"qwen3_vl_moe_text", "qwen3vlmoe",
     R"({"rms_norm_eps": 1e-6, "rope_theta": 5000000.0, "norm_topk_prob": true})", kVlExperts,
     write_qwen3_moe},
    {"smollm3", "smollm3", R"({"rms_norm_eps": 1e-6, "rope_theta": 2000000.0})", kPairedHeads, write_smollm3},
};

constexpr auto kArchitectures = architectures_of(kVariants);

constexpr std::string_view kSharedValuesAt80Layers[] = {"llama", "qwen2", "qwen2vl"};

}  // namespace

Family llama_family() {
  return {.architectures = kArchitectures,
          .load = load_llama,
          .hf_classes = kHfClasses,
          .shared_values_at_80_layers = kSharedValuesAt80Layers};
}

}  // namespace millrace
