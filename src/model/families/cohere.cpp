// Command R, R7B and A (Cohere 2024, 2025): attention and feed-forward read the same LayerNorm and are added
// together. Of Command R7B's and A's layers three in four slide and rotate, the fourth sees everything and
// knows no positions.
#include <algorithm>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Variant {
  std::string_view architecture;
  bool has_windows;     // and layers without positions
  bool has_head_norms;  // where the file has them: a LayerNorm of each head of q and k
};

constexpr Variant kVariants[] = {
    {.architecture = "command-r", .has_windows = false, .has_head_norms = true},
    {.architecture = "cohere2", .has_windows = true, .has_head_norms = false},
};
constexpr int64_t kWindowPeriod = 4;  // where the file names none

struct Layer {
  Tensor norm;  // (hidden)
  Attention attention;
  Mlp mlp;
};

class Cohere final : public Model {
 public:
  Cohere(const Checkpoint& checkpoint, const Variant& variant);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams) const;
  WeightList weights(const Variant& variant);
  void read_positions(Hparams& hparams, const Variant& variant);

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

Cohere::Cohere(const Checkpoint& checkpoint, const Variant& variant) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_, NormKind::layer);
  ends_.logit_scale = static_cast<float>(hparams.real("logit_scale"));
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  shape_.kv_layers.assign(layers_.size(), layers_[0].attention.sizes.kv_layer());
  weights(variant).bind(checkpoint);
  read_positions(hparams, variant);
  hparams.refuse_rest();
}

Layer Cohere::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps);
  layer.attention.norm_kind = NormKind::layer;
  layer.mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")};
  return layer;
}

void Cohere::read_positions(Hparams& hparams, const Variant& variant) {
  rope_ = read_head_rope(hparams, layers_[0].attention.sizes.head_dim, RopePairing::adjacent);
  std::vector<int64_t> windows(layers_.size(), 0);
  if (variant.has_windows) windows = read_windows(hparams, shape_.n_layers, kWindowPeriod);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].attention.window = shape_.kv_layers[i].window = windows[i];
    if (!variant.has_windows || windows[i] > 0) layers_[i].attention.rope = rope_.view();
  }
}

WeightList Cohere::weights(const Variant& variant) {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    Attention& attention = layer.attention;
    const AttentionSizes& sizes = attention.sizes;
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.norm, "attn_norm.weight", {shape_.hidden});
    list_projections(list, attention);
    list_qkv_bias(list, attention, Presence::optional);
    list.add_optional(attention.out_bias, "attn_output.bias", {shape_.hidden});
    if (variant.has_head_norms) {
      list.add_optional(attention.q_norm, "attn_q_norm.weight", {sizes.n_heads, sizes.head_dim});
      list.add_optional(attention.k_norm, "attn_k_norm.weight", {sizes.n_kv_heads, sizes.head_dim});
    }
    list_mlp(list, layer.mlp);
  }
  return list;
}

Tensor Cohere::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.norm);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    const ArenaScope scope(pass.arena);
    const Tensor mlp_out = pass.arena.take(Dtype::f32, {pass.batch.n_rows(), shape_.hidden});
    run_mlp(pass, layer.mlp, stream.normed(), mlp_out);
    pass.backend.run(Add{.x = stream.branch(), .y = mlp_out});
  }
  return stream.logits();
}

std::unique_ptr<Model> load_cohere(const Checkpoint& checkpoint) {
  const auto architecture = checkpoint.metadata().need<std::string_view>("general.architecture");
  return std::make_unique<Cohere>(checkpoint,
                                  *std::ranges::find(kVariants, architecture, &Variant::architecture));
}

constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", HfChange::as_f32},
    {"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", HfChange::as_f32},
};

void write_cohere(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  // The tensors say whether heads are normed; model_max_length is for the tokenizer.
  for (const std::string_view key : {"use_qk_norm", "model_max_length"}) config.find(key);
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
  keys.set("logit_scale", config.real("logit_scale"));
}

void write_cohere2(HfConfig& config, HfKeys& keys) {
  config.expect("position_embedding_type", "rope_gptj");
  config.expect("order_of_interleaved_layers", "local_attn_first");
  for (const std::string_view key : {"use_parallel_block", "use_gated_activation", "use_embedding_sharing"}) {
    if (!config.flag_or(key, true)) config.refuse(key, "only true is implemented");
  }
  if (config.real_or("rotary_pct", 1.0) != 1.0) config.refuse("rotary_pct", "only 1 is implemented");
  if (config.flag_or("use_qk_norm", false)) config.refuse("use_qk_norm", "only false is implemented");
  write_cohere(config, keys);
  const int64_t older = config.count_or("layer_switch", kWindowPeriod);
  const int64_t period = config.count_or("sliding_window_pattern", older);
  const int64_t n_layers = config.count("num_hidden_layers");
  write_window_keys(config, keys, periodic_pattern(n_layers, period), kWindowPeriod);
}

constexpr std::string_view kDefaults = R"({
  "vocab_size": 256000, "layer_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 8192,
  "logit_scale": 0.0625, "tie_word_embeddings": true, "hidden_act": "silu"})";
constexpr std::string_view kDefaults2 = R"({
  "vocab_size": 256000, "layer_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 8192,
  "logit_scale": 0.0625, "tie_word_embeddings": true, "hidden_act": "silu", "sliding_window": 4096})";

constexpr HfModelClass kHfClasses[] = {
    {"cohere", "command-r", kDefaults, kTensors, write_cohere},
    {"cohere2", "cohere2", kDefaults2, {}, write_cohere2},
};
constexpr std::string_view kArchitectures[] = {kVariants[0].architecture, kVariants[1].architecture};

}  // namespace

Family cohere_family() {
  return {.architectures = kArchitectures, .load = load_cohere, .hf_classes = kHfClasses};
}

}  // namespace millrace
