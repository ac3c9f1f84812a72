// Phi-3 and Phi-4 (Abdin et al. 2024): the Llama block with q, k, v in one tensor and gate, up in another,
// part of each head rotated, and longrope: two tables of frequencies, for short and for long sequences.
#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Layer {
  Tensor attn_norm, ffn_norm;  // (hidden)
  Attention attention;
  Mlp mlp;
};

class Phi3 final : public Model {
 public:
  explicit Phi3(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  WeightList weights();
  void read_positions(Hparams& hparams);
  RopeTable read_longrope(Hparams& hparams, double base);

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  int64_t n_rotary_ = 0;
  Tensor long_factors_, short_factors_;  // optional (n_rotary / 2): divisors of the frequencies
  RopeTable rope_;
};

Phi3::Phi3(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers),
                 {.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps),
                  .mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")}});
  n_rotary_ = read_n_rotary(hparams, layers_[0].attention.sizes.head_dim);
  shape_.kv_layers.assign(layers_.size(), layers_[0].attention.sizes.kv_layer());
  weights().bind(checkpoint);
  for (Layer& layer : layers_) {
    split_qkv(layer.attention);
    split_gate_up(layer.mlp);
  }
  read_positions(hparams);
  hparams.refuse_rest();
}

WeightList Phi3::weights() {
  WeightList list;
  list_ends(list, ends_);
  list.add_optional(long_factors_, "rope_factors_long.weight", {n_rotary_ / 2});
  list.add_optional(short_factors_, "rope_factors_short.weight", {n_rotary_ / 2});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_fused_projections(list, layer.attention);
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    list_fused_mlp(list, layer.mlp);
  }
  return list;
}

void Phi3::read_positions(Hparams& hparams) {
  const double base = hparams.real_or("rope.freq_base", 10000.0, kRopeBase);
  rope_ =
      long_factors_ || short_factors_
          ? read_longrope(hparams, base)
          : read_rope(hparams, {.n_rotary = n_rotary_, .base = base, .pairing = RopePairing::half_split}, {});
  const std::vector<int64_t> windows = read_windows(hparams, shape_.n_layers, 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].attention.rope = rope_.view();
    layers_[i].attention.window = shape_.kv_layers[i].window = windows[i];
  }
}

RopeTable Phi3::read_longrope(Hparams& hparams, double base) {
  const std::string kind = hparams.text_or("rope.scaling.type", "longrope");
  if (kind != "longrope" && kind != "none") {
    hparams.refuse("rope.scaling.type",
                   "it contradicts the tensors rope_factors_long and rope_factors_short");
  }
  if (!long_factors_ || !short_factors_) {
    fail(ErrorKind::bad_model,
         "of rope_factors_long.weight and rope_factors_short.weight the model has only one");
  }
  shape_.long_rope_from = hparams.count("rope.scaling.original_context_length", {2, INT32_MAX});
  const double usual =
      longrope_magnitude(static_cast<double>(shape_.n_ctx_train), static_cast<double>(shape_.long_rope_from));
  const double magnitude = hparams.real_or("rope.scaling.attn_factor", usual);
  std::vector<double> short_frequencies = rope_frequencies(n_rotary_, base);
  std::vector<double> long_frequencies = short_frequencies;
  divide_frequencies(short_frequencies, short_factors_, "rope_factors_short.weight");
  divide_frequencies(long_frequencies, long_factors_, "rope_factors_long.weight");
  RopeTable table(short_frequencies, magnitude, RopePairing::half_split);
  table.add_second(long_frequencies, magnitude);
  return table;
}

Tensor Phi3::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    stream.norm(layer.ffn_norm);
    run_mlp(pass, layer.mlp, stream.normed(), stream.branch());
  }
  return stream.logits();
}

std::unique_ptr<Model> load_phi3(const Checkpoint& checkpoint) { return std::make_unique<Phi3>(checkpoint); }

constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.self_attn.qkv_proj.weight", "blk.{}.attn_qkv.weight"},
    {"model.layers.{}.mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight"},
};

void write_phi3(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
  write_window_keys(config, keys, periodic_pattern(config.count("num_hidden_layers"), 0), 0);
}

constexpr HfModelClass kHfClasses[] = {
    {"phi3", "phi3",
     R"({"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096,
         "original_max_position_embeddings": 4096})",
     kTensors, write_phi3},
};
constexpr std::string_view kArchitectures[] = {"phi3"};

}  // namespace

Family phi3_family() {
  return {.architectures = kArchitectures, .load = load_phi3, .hf_classes = kHfClasses};
}

}  // namespace millrace
