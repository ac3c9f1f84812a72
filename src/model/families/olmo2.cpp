// OLMo 2 (OLMo Team 2024): the Llama block with its norms after attention and feed-forward instead of before
// them, and one norm over all heads of the queries, one over all heads of the keys.
#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Layer {
  Tensor post_attention_norm, post_ffw_norm;  // (hidden)
  Attention attention;
  Mlp mlp;
};

class Olmo2 final : public Model {
 public:
  explicit Olmo2(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  WeightList weights();

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

Olmo2::Olmo2(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers),
                 {.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps),
                  .mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")}});
  const AttentionSizes& sizes = layers_[0].attention.sizes;
  shape_.kv_layers.assign(layers_.size(), sizes.kv_layer());
  weights().bind(checkpoint);
  rope_ = read_head_rope(hparams, sizes.head_dim, RopePairing::half_split);
  for (Layer& layer : layers_) layer.attention.rope = rope_.view();
  hparams.refuse_rest();
}

WeightList Olmo2::weights() {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list_projections(list, layer.attention);
    list_row_norms(list, layer.attention);
    list.add(layer.post_attention_norm, "post_attention_norm.weight", {shape_.hidden});
    list_mlp(list, layer.mlp);
    list.add(layer.post_ffw_norm, "post_ffw_norm.weight", {shape_.hidden});
  }
  return list;
}

Tensor Olmo2::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.summed(), stream.branch());
    stream.norm_branch(layer.post_attention_norm);
    run_mlp(pass, layer.mlp, stream.summed(), stream.branch());
    stream.norm_branch(layer.post_ffw_norm);
  }
  return stream.logits();
}

std::unique_ptr<Model> load_olmo2(const Checkpoint& checkpoint) {
  return std::make_unique<Olmo2>(checkpoint);
}

constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"},
    {"model.layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight"},
};

void write_olmo2(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
}

constexpr HfModelClass kHfClasses[] = {
    {"olmo2", "olmo2", R"({"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 2048})",
     kTensors, write_olmo2},
};
constexpr std::string_view kArchitectures[] = {"olmo2"};

}  // namespace

Family olmo2_family() {
  return {.architectures = kArchitectures, .load = load_olmo2, .hf_classes = kHfClasses};
}

}  // namespace millrace
