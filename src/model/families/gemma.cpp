// Gemma 2 and 3 (Gemma Team 2024, 2025): norms before and after each branch, layers that alternate between a
// sliding window and the whole context, scaled embeddings, GeGLU. Gemma 2 caps scores and logits; Gemma 3
// norms heads instead, and rotates its two kinds of layers by two bases. EmbeddingGemma (Vera et al. 2025) is
// Gemma 3 as an encoder.
#include <algorithm>
#include <array>
#include <cmath>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/bidirectional_attention.h"
#include "model/layers/embedding_end.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Variant {
  std::string_view architecture;
  int64_t window_period;  // of this many layers the last one sees everything
  bool has_head_norms;
  double score_softcap;  // where the file names none; 0: no cap
  double logit_softcap;
  double sliding_base;  // rope base of sliding layers where the file names none; 0: that of the others
  bool is_encoder;
  int64_t n_layers_27b;  // the size whose scores are scaled by the width of a head of the stream
};

constexpr Variant kVariants[] = {
    {.architecture = "gemma2",
     .window_period = 2,
     .has_head_norms = false,
     .score_softcap = 50.0,
     .logit_softcap = 30.0,
     .sliding_base = 0.0,
     .is_encoder = false,
     .n_layers_27b = 46},
    {.architecture = "gemma3",
     .window_period = 6,
     .has_head_norms = true,
     .score_softcap = 0.0,
     .logit_softcap = 0.0,
     .sliding_base = 10000.0,
     .is_encoder = false,
     .n_layers_27b = 62},
    {.architecture = "gemma-embedding",
     .window_period = 6,
     .has_head_norms = true,
     .score_softcap = 0.0,
     .logit_softcap = 0.0,
     .sliding_base = 10000.0,
     .is_encoder = true,
     .n_layers_27b = 0},
};

struct Layer {
  Tensor attn_norm, post_attention_norm, ffn_norm, post_ffw_norm;  // (hidden)
  Attention attention;
  Mlp mlp;
};

class Gemma final : public Model {
 public:
  Gemma(const Checkpoint& checkpoint, const Variant& variant);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams, const Variant& variant) const;
  WeightList weights(const Variant& variant, const Checkpoint& checkpoint);
  void read_positions(Hparams& hparams, const Variant& variant);

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable global_rope_, sliding_rope_;
  EmbeddingEnd end_;
};

Gemma::Gemma(const Checkpoint& checkpoint, const Variant& variant) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  if (variant.is_encoder) read_encoder(hparams, shape_);
  ends_ = read_ends(hparams, shape_);
  ends_.embd_scale = std::sqrt(static_cast<float>(shape_.hidden));
  ends_.logit_softcap =
      static_cast<float>(hparams.real_or("final_logit_softcapping", variant.logit_softcap, {0.0, 1e6}));
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams, variant));
  if (shape_.is_causal) shape_.kv_layers.assign(layers_.size(), layers_[0].attention.sizes.kv_layer());
  weights(variant, checkpoint).bind(checkpoint);
  read_positions(hparams, variant);
  hparams.refuse_rest();
}

Layer Gemma::read_layer(Hparams& hparams, const Variant& variant) const {
  Layer layer;
  Attention& attention = layer.attention;
  attention.sizes = read_attention_sizes(hparams, shape_.hidden);
  attention.norm_eps = ends_.norm_eps;
  // Published files do not say query_pre_attn_scalar: it is the head size but for the largest model.
  const bool is_27b = shape_.n_layers == variant.n_layers_27b;
  const int64_t width = is_27b ? shape_.hidden / attention.sizes.n_heads : attention.sizes.head_dim;
  const double scale = 1.0 / std::sqrt(static_cast<double>(width));
  attention.scale = static_cast<float>(hparams.real_or("attention.scale", scale));
  attention.softcap =
      static_cast<float>(hparams.real_or("attn_logit_softcapping", variant.score_softcap, {0.0, 1e6}));
  layer.mlp = {.hidden = shape_.hidden,
               .n_ff = hparams.count("feed_forward_length"),
               .activation = Activation::gelu_tanh};
  return layer;
}

// Rotation and window of each layer. A scaling belongs to the layers that see everything.
void Gemma::read_positions(Hparams& hparams, const Variant& variant) {
  const double base = hparams.real_or("rope.freq_base", 10000.0, kRopeBase);
  const double sliding_base = hparams.real_or(
      "rope.freq_base_swa", variant.sliding_base > 0.0 ? variant.sliding_base : base, kRopeBase);
  const int64_t n_rotary = read_n_rotary(hparams, layers_[0].attention.sizes.head_dim);
  global_rope_ =
      read_rope(hparams, {.n_rotary = n_rotary, .base = base, .pairing = RopePairing::half_split}, Tensor());
  sliding_rope_ = RopeTable(rope_frequencies(n_rotary, sliding_base), 1.0, RopePairing::half_split);
  const std::vector<int64_t> windows = read_windows(hparams, shape_.n_layers, variant.window_period);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].attention.window = windows[i];
    if (shape_.is_causal) shape_.kv_layers[i].window = windows[i];
    layers_[i].attention.rope = windows[i] > 0 ? sliding_rope_.view() : global_rope_.view();
  }
}

WeightList Gemma::weights(const Variant& variant, const Checkpoint& checkpoint) {
  WeightList list;
  list_ends(list, ends_);
  if (variant.is_encoder) list_dense(list, end_, checkpoint, shape_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_projections(list, layer.attention);
    if (variant.has_head_norms) list_head_norms(list, layer.attention);
    list.add(layer.post_attention_norm, "post_attention_norm.weight", {shape_.hidden});
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    list_mlp(list, layer.mlp);
    list.add(layer.post_ffw_norm, "post_ffw_norm.weight", {shape_.hidden});
  }
  return list;
}

Tensor Gemma::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    if (shape_.is_causal) {
      run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    } else {
      run_bidirectional_attention(pass, layer.attention, stream.normed(), stream.branch());
    }
    stream.norm_branch(layer.post_attention_norm);
    stream.norm(layer.ffn_norm);
    run_mlp(pass, layer.mlp, stream.normed(), stream.branch());
    stream.norm_branch(layer.post_ffw_norm);
  }
  return shape_.gives_embeddings() ? run_embedding_end(pass, end_, stream.rows()) : stream.logits();
}

std::unique_ptr<Model> load_gemma(const Checkpoint& checkpoint) {
  const auto architecture = checkpoint.metadata().need<std::string_view>("general.architecture");
  return std::make_unique<Gemma>(checkpoint,
                                 *std::ranges::find(kVariants, architecture, &Variant::architecture));
}

// Hugging Face stores w of norms that multiply by 1 + w.
constexpr HfTensorRule kTensors[] = {
    {"model.norm.weight", "output_norm.weight", HfChange::add_one},
    {"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", HfChange::add_one},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight",
     HfChange::add_one},
    {"model.layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight", HfChange::add_one},
    {"model.layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight", HfChange::add_one},
    {"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", HfChange::add_one},
    {"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", HfChange::add_one},
};

void write_gemma(HfConfig& config, HfKeys& keys, int64_t window_period) {
  // Where both are there, transformers obeys hidden_activation.
  config.expect(config.has("hidden_activation") ? "hidden_activation" : "hidden_act", "gelu_pytorch_tanh");
  config.find("hidden_act");
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
  keys.set("attention.scale", 1.0 / std::sqrt(config.real("query_pre_attn_scalar")));
  keys.set("attn_logit_softcapping", config.real_or("attn_logit_softcapping", 0.0));
  keys.set("final_logit_softcapping", config.real_or("final_logit_softcapping", 0.0));
  const int64_t newer = config.count_or("_sliding_window_pattern", window_period);
  const int64_t period = config.count_or("sliding_window_pattern", newer);
  write_window_keys(config, keys, periodic_pattern(config.count("num_hidden_layers"), period), window_period);
}

void write_gemma2(HfConfig& config, HfKeys& keys) { write_gemma(config, keys, 2); }

void write_gemma3(HfConfig& config, HfKeys& keys) {
  write_gemma(config, keys, 6);
  const double local_base = config.real_or("rope_local_base_freq", 10000.0, kRopeBase);
  keys.set("rope.freq_base_swa", config.has("rope_parameters")
                                     ? read_plain_rope_base(config, "sliding_attention", local_base)
                                     : local_base);
}

void write_embedding_gemma(HfConfig& config, HfKeys& keys) {
  write_gemma3(config, keys);
  config.find("use_bidirectional_attention");  // it is the reason why this is called
  keys.set("attention.causal", false);
}

constexpr std::string_view kGemma2Defaults = R"({
  "head_dim": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 8192,
  "query_pre_attn_scalar": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0,
  "final_logit_softcapping": 30.0, "tie_word_embeddings": true, "hidden_activation": "gelu_pytorch_tanh"})";
constexpr std::string_view kGemma3Defaults = R"({
  "vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
  "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 131072,
  "query_pre_attn_scalar": 256, "sliding_window": 4096, "tie_word_embeddings": true,
  "hidden_activation": "gelu_pytorch_tanh"})";

constexpr HfModelClass kHfClasses[] = {
    {"gemma2", "gemma2", kGemma2Defaults, kTensors, write_gemma2},
    {"gemma3_text", "gemma-embedding", kGemma3Defaults, kTensors, write_embedding_gemma, "model",
     "use_bidirectional_attention"},
    {"gemma3_text", "gemma3", kGemma3Defaults, kTensors, write_gemma3},
};
constexpr std::string_view kArchitectures[] = {kVariants[0].architecture, kVariants[1].architecture,
                                               kVariants[2].architecture};

}  // namespace

Family gemma_family() {
  return {.architectures = kArchitectures, .load = load_gemma, .hf_classes = kHfClasses};
}

}  // namespace millrace
