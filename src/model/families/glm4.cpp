// GLM-4 of April 2025 (9B, 32B; GLM-Z1): norms before and after each branch, half of each head rotated in
// adjacent pairs, gate and up in one tensor.
#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Layer {
  Tensor attn_norm, post_attention_norm, ffn_norm, post_ffw_norm;  // (hidden)
  Attention attention;
  Mlp mlp;
};

class Glm4 final : public Model {
 public:
  explicit Glm4(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  WeightList weights();

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

Glm4::Glm4(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers),
                 {.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps),
                  .mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")}});
  const AttentionSizes& sizes = layers_[0].attention.sizes;
  shape_.kv_layers.assign(layers_.size(), sizes.kv_layer());
  weights().bind(checkpoint);
  rope_ = read_head_rope(hparams, sizes.head_dim, RopePairing::adjacent);
  for (Layer& layer : layers_) {
    layer.attention.rope = rope_.view();
    split_gate_up(layer.mlp);
  }
  hparams.refuse_rest();
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
    list_fused_mlp(list, layer.mlp);
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
