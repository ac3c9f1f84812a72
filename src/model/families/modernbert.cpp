// ModernBERT (Warner et al. 2024): an encoder with rotary positions, norms before each branch, GeGLU, and
// layers that see a window around a row, every third one the whole text. No biases.
#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/bidirectional_attention.h"
#include "model/layers/embedding_end.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

constexpr int64_t kGlobalPeriod = 3;  // the first of so many layers is global

struct Layer {
  Tensor attn_norm;  // (hidden); empty in the first layer, whose input is normed already
  Attention attention;
  Tensor ffn_norm;  // (hidden)
  Mlp mlp;
};

class ModernBert final : public Model {
 public:
  explicit ModernBert(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams) const;
  WeightList weights();
  void read_positions(Hparams& hparams);

  ModelShape shape_;
  Ends ends_;
  Tensor embd_norm_;  // (hidden)
  std::vector<Layer> layers_;
  RopeTable global_rope_, local_rope_;
};

ModernBert::ModernBert(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  read_encoder(hparams, shape_);
  ends_ = read_ends(hparams, shape_, NormKind::layer);
  if (hparams.text_or("hidden_activation", "gelu") != "gelu") {
    hparams.refuse("hidden_activation", "only gelu is implemented");
  }
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  weights().bind(checkpoint);
  for (Layer& layer : layers_) {
    split_qkv(layer.attention);
    split_gate_up(layer.mlp);
  }
  read_positions(hparams);
  hparams.refuse_rest();
}

Layer ModernBert::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps);
  layer.mlp = {.hidden = shape_.hidden,
               .n_ff = hparams.count("feed_forward_length"),
               .activation = Activation::gelu_erf};
  return layer;
}

WeightList ModernBert::weights() {
  const int64_t hidden = shape_.hidden;
  WeightList list;
  list.add(ends_.token_embd, "token_embd.weight", {shape_.n_vocab, hidden});
  list.add(embd_norm_, "token_embd_norm.weight", {hidden});
  list.add(ends_.output_norm, "output_norm.weight", {hidden});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    if (i > 0) list.add(layer.attn_norm, "attn_norm.weight", {hidden});
    list_fused_projections(list, layer.attention);
    list.add(layer.ffn_norm, "ffn_norm.weight", {hidden});
    list_fused_mlp(list, layer.mlp);
  }
  return list;
}

void ModernBert::read_positions(Hparams& hparams) {
  const int64_t n_rotary = read_n_rotary(hparams, layers_[0].attention.sizes.head_dim);
  const double global_base = hparams.real_or("rope.freq_base", 160000.0, kRopeBase);
  const double local_base = hparams.real_or("rope.freq_base_swa", 10000.0, kRopeBase);
  if (hparams.text_or("rope.scaling.type", "none") != "none") {
    hparams.refuse("rope.scaling.type", "only none is implemented");
  }
  global_rope_ = RopeTable(rope_frequencies(n_rotary, global_base), 1.0, RopePairing::half_split);
  local_rope_ = RopeTable(rope_frequencies(n_rotary, local_base), 1.0, RopePairing::half_split);
  const int64_t window = hparams.count("attention.sliding_window", {2, INT32_MAX});
  const std::vector<bool> is_local =
      hparams.pattern_or("attention.sliding_window_pattern", shape_.n_layers, kGlobalPeriod, Odd::first);
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i].attention.window = is_local[i] ? window : 0;
    layers_[i].attention.rope = is_local[i] ? local_rope_.view() : global_rope_.view();
  }
}

Tensor ModernBert::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  stream.norm_embeddings(embd_norm_);
  for (const Layer& layer : layers_) {
    if (layer.attn_norm) stream.norm(layer.attn_norm);
    run_bidirectional_attention(pass, layer.attention, stream.normed(), stream.branch());
    stream.norm(layer.ffn_norm);
    run_mlp(pass, layer.mlp, stream.normed(), stream.branch());
  }
  return run_embedding_end(pass, {}, stream.rows());
}

std::unique_ptr<Model> load_modernbert(const Checkpoint& checkpoint) {
  return std::make_unique<ModernBert>(checkpoint);
}

// An empty name: the head that guesses masked words, which no embedding needs.
constexpr HfTensorRule kTensors[] = {
    {"model.embeddings.tok_embeddings.weight", "token_embd.weight"},
    {"model.embeddings.norm.weight", "token_embd_norm.weight"},
    {"model.final_norm.weight", "output_norm.weight"},
    {"model.layers.{}.attn_norm.weight", "blk.{}.attn_norm.weight"},
    {"model.layers.{}.attn.Wqkv.weight", "blk.{}.attn_qkv.weight"},
    {"model.layers.{}.attn.Wo.weight", "blk.{}.attn_output.weight"},
    {"model.layers.{}.mlp_norm.weight", "blk.{}.ffn_norm.weight"},
    {"model.layers.{}.mlp.Wi.weight", "blk.{}.ffn_up.weight"},
    {"model.layers.{}.mlp.Wo.weight", "blk.{}.ffn_down.weight"},
    {"head.dense.weight", ""},
    {"head.norm.weight", ""},
    {"decoder.weight", ""},
    {"decoder.bias", ""},
};

void write_modernbert(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_activation", "gelu");
  write_encoder_keys(config, keys, "norm_eps");
  keys.set("context_length", config.count("max_position_embeddings"));
  const double global_base = config.real_or("global_rope_theta", 160000.0, kRopeBase);
  const double local_base = config.real_or("local_rope_theta", 10000.0, kRopeBase);
  keys.set("rope.freq_base", read_plain_rope_base(config, "full_attention", global_base));
  keys.set("rope.freq_base_swa", read_plain_rope_base(config, "sliding_attention", local_base));
  const int64_t period = config.count_or("global_attn_every_n_layers", kGlobalPeriod);
  const std::vector<bool> is_local =
      read_layer_types(config, {}, periodic_pattern(config.count("num_hidden_layers"), period, Odd::first));
  keys.set("attention.sliding_window", config.count("local_attention", {2, INT32_MAX}));
  keys.set("attention.sliding_window_pattern", is_local);
  // Of the heads that guess words and classify, and of training.
  for (const std::string_view key :
       {"classifier_activation", "classifier_bias", "classifier_pooling", "decoder_bias", "embedding_dropout",
        "initializer_cutoff_factor", "mlp_dropout", "sparse_pred_ignore_index", "sparse_prediction",
        "reference_compile", "repad_logits_with_grad", "deterministic_flash_attn", "cls_token_id",
        "sep_token_id"}) {
    config.find(key);
  }
}

constexpr std::string_view kDefaults =
    R"({"norm_eps": 1e-5, "hidden_activation": "gelu", "local_attention": 128})";
constexpr HfModelClass kHfClasses[] = {
    {"modernbert", "modern-bert", kDefaults, kTensors, write_modernbert},
};
constexpr std::string_view kArchitectures[] = {"modern-bert"};

}  // namespace

Family modernbert_family() {
  return {.architectures = kArchitectures, .load = load_modernbert, .hf_classes = kHfClasses};
}

}  // namespace millrace
