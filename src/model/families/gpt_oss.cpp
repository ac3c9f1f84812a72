// gpt-oss (OpenAI 2025): layers that alternate between a sliding window and everything, with a sink in the
// sum of each head; a mixture of experts in every layer, whose gate and up are cut at a limit; biases
// everywhere.
#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

constexpr int64_t kGlobalPeriod = 2;  // of so many layers the last one sees everything
constexpr double kLimit = 7.0;

struct Layer {
  Tensor attn_norm, ffn_norm;  // (hidden)
  Attention attention;
  Moe moe;
};

class GptOss final : public Model {
 public:
  explicit GptOss(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams) const;
  WeightList weights();

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
  std::vector<Buffer> made_;  // of biases that the file has in another form
};

GptOss::GptOss(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  const AttentionSizes& sizes = layers_[0].attention.sizes;
  shape_.kv_layers.assign(layers_.size(), sizes.kv_layer());
  weights().bind(checkpoint);
  for (Layer& layer : layers_) made_.push_back(split_moe_bias(layer.moe));

  const double base = hparams.real_or("rope.freq_base", 150000.0, kRopeBase);
  rope_ = read_rope(hparams,
                    {.n_rotary = read_n_rotary(hparams, sizes.head_dim),
                     .base = base,
                     .pairing = RopePairing::half_split,
                     .rounds_yarn = false},
                    Tensor());
  const std::vector<int64_t> windows = read_windows(hparams, shape_.n_layers, kGlobalPeriod);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].attention.window = shape_.kv_layers[i].window = windows[i];
    layers_[i].attention.rope = rope_.view();
  }
  hparams.refuse_rest();
}

Layer GptOss::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps);
  layer.moe = read_moe(
      hparams, shape_.hidden,
      {.activation = Activation::quick_gelu, .limit = static_cast<float>(kLimit), .up_offset = 1.0f});
  if (layer.moe.n_experts == 0) hparams.refuse("expert_count", "this architecture has experts");
  return layer;
}

WeightList GptOss::weights() {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_projections(list, layer.attention);
    list_qkv_bias(list, layer.attention, Presence::needed);
    list.add(layer.attention.out_bias, "attn_output.bias", {shape_.hidden});
    list.add(layer.attention.sinks, "attn_sinks.weight", {layer.attention.sizes.n_heads});
    list.add(layer.ffn_norm, "post_attention_norm.weight", {shape_.hidden});
    list_moe(list, layer.moe);
    list_moe_bias(list, layer.moe);
  }
  return list;
}

Tensor GptOss::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    stream.norm(layer.ffn_norm);
    run_moe(pass, layer.moe, stream.normed(), stream.branch());
  }
  return stream.logits();
}

std::unique_ptr<Model> load_gpt_oss(const Checkpoint& checkpoint) {
  return std::make_unique<GptOss>(checkpoint);
}

// Gate and up alternate. Plain experts are stored (experts, inputs, outputs), blocks of MXFP4 along the
// inputs.
constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"},
    {"model.layers.{}.self_attn.sinks", "blk.{}.attn_sinks.weight"},
    {"model.layers.{}.mlp.router.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.mlp.router.bias", "blk.{}.ffn_gate_inp.bias"},
    {"model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_gate_exps.weight", HfChange::even_transposed},
    {"model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_up_exps.weight", HfChange::odd_transposed},
    {"model.layers.{}.mlp.experts.gate_up_proj_blocks", "blk.{}.ffn_gate_exps.weight", HfChange::even},
    {"model.layers.{}.mlp.experts.gate_up_proj_blocks", "blk.{}.ffn_up_exps.weight", HfChange::odd},
    {"model.layers.{}.mlp.experts.gate_up_proj_bias", "blk.{}.ffn_gate_exps.bias", HfChange::even},
    {"model.layers.{}.mlp.experts.gate_up_proj_bias", "blk.{}.ffn_up_exps.bias", HfChange::odd},
    {"model.layers.{}.mlp.experts.down_proj", "blk.{}.ffn_down_exps.weight", HfChange::transposed},
    {"model.layers.{}.mlp.experts.down_proj_blocks", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.mlp.experts.down_proj_bias", "blk.{}.ffn_down_exps.bias"},
};

void write_gpt_oss(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
  const int64_t n_layers = config.count("num_hidden_layers");
  write_window_keys(config, keys, periodic_pattern(n_layers, kGlobalPeriod), kGlobalPeriod);
  keys.set("expert_count", config.count("num_local_experts"));
  keys.set("expert_used_count", config.count("num_experts_per_tok"));
  keys.set("expert_feed_forward_length", config.count("intermediate_size"));
  if (config.real_or("swiglu_limit", kLimit) != kLimit)
    config.refuse("swiglu_limit", fmt::format("only {} is implemented", kLimit));
  // Said again of the rotation, and of the experts.
  config.find("initial_context_length");
  config.find("experts_per_token");
}

constexpr HfModelClass kHfClasses[] = {
    {"gpt_oss", "gpt-oss",
     R"({"rms_norm_eps": 1e-5, "rope_theta": 150000.0, "head_dim": 64, "sliding_window": 128,
         "num_local_experts": 128, "num_experts_per_tok": 4})",
     kTensors, write_gpt_oss},
};

constexpr std::string_view kArchitectures[] = {"gpt-oss"};

}  // namespace

Family gpt_oss_family() {
  return {.architectures = kArchitectures, .load = load_gpt_oss, .hf_classes = kHfClasses};
}

}  // namespace millrace
