// StarCoder 2 (Lozhkov et al. 2024): LayerNorm before attention and before a feed-forward without a gate, a
// bias everywhere, a sliding window in every layer.
#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Layer {
  Tensor attn_norm, attn_norm_bias, ffn_norm, ffn_norm_bias;  // (hidden)
  Attention attention;
  Mlp mlp;
};

class Starcoder2 final : public Model {
 public:
  explicit Starcoder2(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  WeightList weights();

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

Starcoder2::Starcoder2(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_, NormKind::layer);
  layers_.assign(static_cast<size_t>(shape_.n_layers),
                 {.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps),
                  .mlp = {.hidden = shape_.hidden,
                          .n_ff = hparams.count("feed_forward_length"),
                          .is_gated = false,
                          .activation = Activation::gelu_tanh}});
  const AttentionSizes& sizes = layers_[0].attention.sizes;
  shape_.kv_layers.assign(layers_.size(), sizes.kv_layer());
  weights().bind(checkpoint);
  rope_ = read_head_rope(hparams, sizes.head_dim, RopePairing::half_split);
  const std::vector<int64_t> windows = read_windows(hparams, shape_.n_layers, 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].attention.rope = rope_.view();
    layers_[i].attention.window = shape_.kv_layers[i].window = windows[i];
  }
  hparams.refuse_rest();
}

WeightList Starcoder2::weights() {
  WeightList list;
  list_ends(list, ends_);
  list.add(ends_.output_norm_bias, "output_norm.bias", {shape_.hidden});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list.add(layer.attn_norm_bias, "attn_norm.bias", {shape_.hidden});
    list_projections(list, layer.attention);
    list_qkv_bias(list, layer.attention, Presence::optional);
    list.add_optional(layer.attention.out_bias, "attn_output.bias", {shape_.hidden});
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    list.add(layer.ffn_norm_bias, "ffn_norm.bias", {shape_.hidden});
    list_mlp(list, layer.mlp);
    list_mlp_bias(list, layer.mlp);
  }
  return list;
}

Tensor Starcoder2::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm, layer.attn_norm_bias);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    stream.norm(layer.ffn_norm, layer.ffn_norm_bias);
    run_mlp(pass, layer.mlp, stream.normed(), stream.branch());
  }
  return stream.logits();
}

std::unique_ptr<Model> load_starcoder2(const Checkpoint& checkpoint) {
  return std::make_unique<Starcoder2>(checkpoint);
}

constexpr HfTensorRule kTensors[] = {
    {"model.norm.bias", "output_norm.bias"},
    {"model.layers.{}.input_layernorm.bias", "blk.{}.attn_norm.bias"},
    {"model.layers.{}.post_attention_layernorm.bias", "blk.{}.ffn_norm.bias"},
    {"model.layers.{}.mlp.c_fc.weight", "blk.{}.ffn_up.weight"},
    {"model.layers.{}.mlp.c_fc.bias", "blk.{}.ffn_up.bias"},
    {"model.layers.{}.mlp.c_proj.weight", "blk.{}.ffn_down.weight"},
    {"model.layers.{}.mlp.c_proj.bias", "blk.{}.ffn_down.bias"},
};

void write_starcoder2(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "gelu_pytorch_tanh");
  config.expect("norm_type", "layer_norm");
  config.expect("mlp_type", "default");
  // The tensors say whether there are biases; dropout is of training.
  for (const std::string_view key : {"use_bias", "embedding_dropout", "residual_dropout"}) config.find(key);
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
  write_window_keys(config, keys, periodic_pattern(config.count("num_hidden_layers"), 0), 0);
}

constexpr HfModelClass kHfClasses[] = {
    {"starcoder2", "starcoder2",
     R"({"norm_epsilon": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096,
         "tie_word_embeddings": true, "hidden_act": "gelu_pytorch_tanh"})",
     kTensors, write_starcoder2},
};
constexpr std::string_view kArchitectures[] = {"starcoder2"};

}  // namespace

Family starcoder2_family() {
  return {.architectures = kArchitectures, .load = load_starcoder2, .hf_classes = kHfClasses};
}

}  // namespace millrace
