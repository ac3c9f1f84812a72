// BERT (Devlin et al. 2019) and RoBERTa: encoders whose positions are learned, with norms after each sum.
// They give embeddings, and with a classification head the scores of a reranker.
#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/bidirectional_attention.h"
#include "model/layers/embedding_end.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct LayerNorm {
  Tensor weight, bias;  // (hidden)
};

struct Layer {
  Attention attention;
  LayerNorm attn_norm;
  Mlp mlp;
  LayerNorm ffn_norm;
};

class Bert final : public Model {
 public:
  explicit Bert(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams) const;
  WeightList weights(const Checkpoint& checkpoint);
  void embed(const Pass& pass, const Tensor& x, const Tensor& part) const;
  void norm_sum(const Pass& pass, const LayerNorm& norm, Tensor& x, const Tensor& branch, Tensor& out) const;

  ModelShape shape_;
  float norm_eps_ = 0.0f;
  Tensor token_embd_;     // (n_vocab, hidden)
  Tensor position_embd_;  // (n_ctx_train, hidden)
  Tensor token_types_;    // (n_token_types, hidden)
  LayerNorm embd_norm_;
  std::vector<Layer> layers_;
  EmbeddingEnd end_;
};

Bert::Bert(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  read_encoder(hparams, shape_);
  norm_eps_ = static_cast<float>(hparams.real("attention.layer_norm_epsilon", {0.0, 1.0}));
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  shape_.n_token_types = std::max<int64_t>(1, n_rows_of(checkpoint, "token_types.weight"));
  weights(checkpoint).bind(checkpoint);
  hparams.refuse_rest();
}

Layer Bert::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.attention = read_attention(hparams, shape_.hidden, norm_eps_);
  layer.mlp = {.hidden = shape_.hidden,
               .n_ff = hparams.count("feed_forward_length"),
               .is_gated = false,
               .activation = Activation::gelu_erf};
  return layer;
}

WeightList Bert::weights(const Checkpoint& checkpoint) {
  const int64_t hidden = shape_.hidden;
  WeightList list;
  const auto add_norm = [&](LayerNorm& norm, const std::string& name) {
    list.add(norm.weight, name + ".weight", {hidden});
    list.add(norm.bias, name + ".bias", {hidden});
  };
  list.add(token_embd_, "token_embd.weight", {shape_.n_vocab, hidden});
  list.add(position_embd_, "position_embd.weight", {shape_.n_ctx_train, hidden});
  list.add(token_types_, "token_types.weight", {shape_.n_token_types, hidden});
  add_norm(embd_norm_, "token_embd_norm");
  list_classifier(list, end_, checkpoint, shape_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list_projections(list, layer.attention);
    list_qkv_bias(list, layer.attention, Presence::needed);
    list.add(layer.attention.out_bias, "attn_output.bias", {hidden});
    add_norm(layer.attn_norm, "attn_output_norm");
    list_mlp(list, layer.mlp);
    list_mlp_bias(list, layer.mlp);
    add_norm(layer.ffn_norm, "layer_output_norm");
  }
  return list;
}

// x = token + position + segment; `part` is scratch.
void Bert::embed(const Pass& pass, const Tensor& x, const Tensor& part) const {
  pass.backend.run(Embed{.tokens = pass.batch.tokens, .table = token_embd_, .out = x});
  pass.backend.run(Embed{.tokens = pass.batch.positions, .table = position_embd_, .out = part});
  pass.backend.run(Add{.x = x, .y = part});
  pass.backend.run(Embed{.tokens = pass.batch.token_types, .table = token_types_, .out = part});
}

// x = norm(x + branch): what goes on is the normed sum. `out` is the buffer that x leaves.
void Bert::norm_sum(const Pass& pass, const LayerNorm& norm, Tensor& x, const Tensor& branch,
                    Tensor& out) const {
  pass.backend.run(Norm{.x = x,
                        .add = branch,
                        .weight = norm.weight,
                        .bias = norm.bias,
                        .out = out,
                        .kind = NormKind::layer,
                        .eps = norm_eps_});
  std::swap(x, out);
}

Tensor Bert::forward(const Pass& pass) const {
  const auto take = [&] { return pass.arena.take(Dtype::f32, {pass.batch.n_rows(), shape_.hidden}); };
  Tensor x = take(), other = take();
  const Tensor branch = take();
  embed(pass, x, branch);
  norm_sum(pass, embd_norm_, x, branch, other);
  for (const Layer& layer : layers_) {
    run_bidirectional_attention(pass, layer.attention, x, branch);
    norm_sum(pass, layer.attn_norm, x, branch, other);
    run_mlp(pass, layer.mlp, x, branch);
    norm_sum(pass, layer.ffn_norm, x, branch, other);
  }
  return run_embedding_end(pass, end_, x);
}

std::unique_ptr<Model> load_bert(const Checkpoint& checkpoint) { return std::make_unique<Bert>(checkpoint); }

// An empty name: a head that guesses masked words, which no embedding needs.
constexpr HfTensorRule kTensors[] = {
    {"model.embeddings.position_embeddings.weight", "position_embd.weight"},
    {"model.embeddings.word_embeddings.weight", "token_embd.weight"},
    {"model.embeddings.token_type_embeddings.weight", "token_types.weight"},
    {"model.embeddings.LayerNorm.weight", "token_embd_norm.weight"},
    {"model.embeddings.LayerNorm.bias", "token_embd_norm.bias"},
    {"model.encoder.layer.{}.attention.self.query.weight", "blk.{}.attn_q.weight"},
    {"model.encoder.layer.{}.attention.self.query.bias", "blk.{}.attn_q.bias"},
    {"model.encoder.layer.{}.attention.self.key.weight", "blk.{}.attn_k.weight"},
    {"model.encoder.layer.{}.attention.self.key.bias", "blk.{}.attn_k.bias"},
    {"model.encoder.layer.{}.attention.self.value.weight", "blk.{}.attn_v.weight"},
    {"model.encoder.layer.{}.attention.self.value.bias", "blk.{}.attn_v.bias"},
    {"model.encoder.layer.{}.attention.output.dense.weight", "blk.{}.attn_output.weight"},
    {"model.encoder.layer.{}.attention.output.dense.bias", "blk.{}.attn_output.bias"},
    {"model.encoder.layer.{}.attention.output.LayerNorm.weight", "blk.{}.attn_output_norm.weight"},
    {"model.encoder.layer.{}.attention.output.LayerNorm.bias", "blk.{}.attn_output_norm.bias"},
    {"model.encoder.layer.{}.intermediate.dense.weight", "blk.{}.ffn_up.weight"},
    {"model.encoder.layer.{}.intermediate.dense.bias", "blk.{}.ffn_up.bias"},
    {"model.encoder.layer.{}.output.dense.weight", "blk.{}.ffn_down.weight"},
    {"model.encoder.layer.{}.output.dense.bias", "blk.{}.ffn_down.bias"},
    {"model.encoder.layer.{}.output.LayerNorm.weight", "blk.{}.layer_output_norm.weight"},
    {"model.encoder.layer.{}.output.LayerNorm.bias", "blk.{}.layer_output_norm.bias"},
    {"model.pooler.dense.weight", "cls.weight"},
    {"model.pooler.dense.bias", "cls.bias"},
    {"classifier.weight", "cls.output.weight"},
    {"classifier.bias", "cls.output.bias"},
    {"classifier.dense.weight", "cls.weight"},
    {"classifier.dense.bias", "cls.bias"},
    {"classifier.out_proj.weight", "cls.output.weight"},
    {"classifier.out_proj.bias", "cls.output.bias"},
    {"cls.predictions.bias", ""},
    {"cls.predictions.decoder.weight", ""},
    {"cls.predictions.decoder.bias", ""},
    {"cls.predictions.transform.dense.weight", ""},
    {"cls.predictions.transform.dense.bias", ""},
    {"cls.predictions.transform.LayerNorm.weight", ""},
    {"cls.predictions.transform.LayerNorm.bias", ""},
    {"cls.seq_relationship.weight", ""},
    {"cls.seq_relationship.bias", ""},
    {"lm_head.bias", ""},
    {"lm_head.dense.weight", ""},
    {"lm_head.dense.bias", ""},
    {"lm_head.decoder.weight", ""},
    {"lm_head.decoder.bias", ""},
    {"lm_head.layer_norm.weight", ""},
    {"lm_head.layer_norm.bias", ""},
};
constexpr int64_t kRobertaFirstPosition = 2;  // the rows before it belong to its padding, token 1

HfOrder roberta_positions(const Metadata& metadata) {
  HfOrder rows(static_cast<size_t>(metadata.need<int64_t>("bert.context_length")));
  std::iota(rows.begin(), rows.end(), kRobertaFirstPosition);
  return rows;
}

constexpr auto kRobertaTensors = [] {
  auto rules = std::to_array(kTensors);
  rules[0].change = HfChange::rows;
  rules[0].order = roberta_positions;
  return rules;
}();

void write_keys(HfConfig& config, HfKeys& keys, int64_t first_position) {
  config.expect("hidden_act", "gelu");
  config.expect("position_embedding_type", "absolute");
  write_encoder_keys(config, keys, "layer_norm_eps");
  const Range range{static_cast<double>(first_position + 1), kCount.max};
  keys.set("context_length", config.count("max_position_embeddings", range) - first_position);
  config.find("type_vocab_size");  // the rows of token_types.weight say it
}

void write_bert(HfConfig& config, HfKeys& keys) { write_keys(config, keys, 0); }

void write_roberta(HfConfig& config, HfKeys& keys) {
  if (config.count("pad_token_id", kCountOrNone) + 1 != kRobertaFirstPosition) {
    config.refuse("pad_token_id", "positions are implemented for a padding token 1 only");
  }
  write_keys(config, keys, kRobertaFirstPosition);
}

constexpr std::string_view kDefaults = R"({"layer_norm_eps": 1e-12, "hidden_act": "gelu"})";
constexpr std::string_view kRobertaDefaults =
    R"({"layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": 1})";
constexpr HfModelClass kHfClasses[] = {
    {"bert", "bert", kDefaults, kTensors, write_bert, "bert"},
    {"roberta", "bert", kRobertaDefaults, kRobertaTensors, write_roberta, "roberta"},
    {"xlm-roberta", "bert", kRobertaDefaults, kRobertaTensors, write_roberta, "roberta"},
};
constexpr std::string_view kArchitectures[] = {"bert"};

}  // namespace

Family bert_family() {
  return {.architectures = kArchitectures, .load = load_bert, .hf_classes = kHfClasses};
}

}  // namespace millrace
