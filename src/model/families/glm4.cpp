// GLM-4 of April 2025 (9B, 32B; GLM-Z1): norms before and after each branch, half of each head rotated in
// adjacent pairs, gate and up in one tensor.
#include <cmath>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Layer {
  Tensor attn_norm, post_attention_norm, ffn_norm, post_ffw_norm;  // (hidden)
  Tensor gate_up;                                                  // (2 * n_ff, hidden)
  Attention attention;
  Mlp mlp;  // gate and up are views into gate_up
};

class Glm4 final : public Model {
 public:
  explicit Glm4(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams) const;
  WeightList weights();
  void read_positions(Hparams& hparams);

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

Glm4::Glm4(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  shape_.kv_layers.assign(layers_.size(), layers_[0].attention.sizes.kv_layer());
  weights().bind(checkpoint);
  for (Layer& layer : layers_) {
    layer.mlp.gate = layer.gate_up.slice(0, layer.mlp.n_ff);
    layer.mlp.up = layer.gate_up.slice(layer.mlp.n_ff, layer.gate_up.dim(0));
  }
  read_positions(hparams);
  hparams.refuse_rest();
}

Layer Glm4::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.attention.sizes = read_attention_sizes(hparams, shape_.hidden);
  const double head_dim = static_cast<double>(layer.attention.sizes.head_dim);
  layer.attention.scale = static_cast<float>(1.0 / std::sqrt(head_dim));
  layer.mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")};
  return layer;
}

void Glm4::read_positions(Hparams& hparams) {
  const RopeKind kind{.n_rotary = read_n_rotary(hparams, layers_[0].attention.sizes.head_dim),
                      .base = hparams.real_or("rope.freq_base", 10000.0, kRopeBase),
                      .pairing = RopePairing::adjacent};
  rope_ = read_rope(hparams, kind, Tensor());
  for (Layer& layer : layers_) layer.attention.rope = rope_.view();
}

WeightList Glm4::weights() {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_projections(list, layer.attention);
    list_qkv_bias(list, layer.attention, Presence::optional);
    list.add(layer.post_attention_norm, "post_attention_norm.weight", {shape_.hidden});
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    list.add(layer.gate_up, "ffn_up.weight", {2 * layer.mlp.n_ff, shape_.hidden}, Shard::outputs);
    list.add(layer.mlp.down, "ffn_down.weight", {shape_.hidden, layer.mlp.n_ff}, Shard::inputs);
    list.add(layer.post_ffw_norm, "post_ffw_norm.weight", {shape_.hidden});
  }
  return list;
}

Tensor Glm4::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    stream.norm_branch(layer.post_attention_norm);
    stream.norm(layer.ffn_norm);
    run_mlp(pass, layer.mlp, stream.normed(), stream.branch());
    stream.norm_branch(layer.post_ffw_norm);
  }
  return stream.logits();
}

std::unique_ptr<Model> load_glm4(const Checkpoint& checkpoint) { return std::make_unique<Glm4>(checkpoint); }

// Hugging Face rotates adjacent pairs too: nothing is reordered.
constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.post_self_attn_layernorm.weight", "blk.{}.post_attention_norm.weight"},
    {"model.layers.{}.post_mlp_layernorm.weight", "blk.{}.post_ffw_norm.weight"},
    {"model.layers.{}.mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight"},
};

void write_glm4(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
}

constexpr HfModelClass kHfClasses[] = {
    {"glm4", "glm4",
     R"({"rms_norm_eps": 1.5625e-7, "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "head_dim": 128,
         "max_position_embeddings": 131072})",
     kTensors, write_glm4},
};
constexpr std::string_view kArchitectures[] = {"glm4"};

}  // namespace

Family glm4_family() {
  return {.architectures = kArchitectures, .load = load_glm4, .hf_classes = kHfClasses};
}

}  // namespace millrace
