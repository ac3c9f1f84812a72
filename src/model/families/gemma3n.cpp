// Gemma 3n (Gemma Team 2025): Gemma 3's attention and feed-forward on one of several streams, which AltUp
// predicts before a layer and corrects after it; Laurel beside the attention, an embedding for each layer,
// gates of which a share is cut, and last layers that read the keys of earlier ones.
#include <array>
#include <cmath>
#include <numbers>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/per_layer_input.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

// In deviations; -infinity: none.
constexpr Range kCutoff{-std::numeric_limits<double>::infinity(), 1e3};

using Streams = std::array<Tensor, MixStreams::kMaxStreams>;  // (n_rows, hidden) each; the first n_streams

struct AltUp {
  Tensor router, router_norm;  // (n_streams, hidden), (hidden)
  Tensor predict;              // (n_streams * n_streams, n_streams)
  Tensor correct;              // (n_streams, n_streams)
  Tensor correct_scale;        // (hidden)
};

struct Laurel {
  Tensor left, right, norm;  // (rank, hidden), (hidden, rank), (hidden)
};

struct Layer {
  Tensor attn_norm, post_attention_norm, ffn_norm, post_ffw_norm;  // (hidden)
  Attention attention;
  Mlp mlp;
  AltUp altup;
  Laurel laurel;
  PerLayerGate input_gate;
};

class Gemma3n final : public Model {
 public:
  explicit Gemma3n(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  void read_layers(Hparams& hparams);
  void read_positions(Hparams& hparams);
  WeightList weights(const Checkpoint& checkpoint);
  void list_altup(WeightList& list, Layer& layer) const;

  Tensor take(const Pass& pass, int64_t width) const;
  Tensor normed(const Pass& pass, const Tensor& x, const Tensor& weight) const;
  Streams begin(const Pass& pass, const Tensor& embedded) const;
  Tensor modalities(const Pass& pass, const AltUp& altup, const Tensor& x) const;
  void predict(const Pass& pass, const AltUp& altup, const Streams& streams, const Streams& out) const;
  void correct(const Pass& pass, const AltUp& altup, const Streams& predicted, const Tensor& active,
               const Streams& out) const;
  void run_block(const Pass& pass, int64_t i, const Tensor& x, const Tensor& out) const;
  Tensor logits(const Pass& pass, const Streams& streams) const;

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  PerLayerInput input_;
  int64_t n_streams_ = 0;
  int64_t laurel_rank_ = 0;
  Tensor altup_proj_, altup_unembd_proj_;  // (n_streams - 1, hidden, hidden)
  RopeTable global_rope_, sliding_rope_;
};

Gemma3n::Gemma3n(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  ends_.embd_scale = std::sqrt(static_cast<float>(shape_.hidden));
  ends_.logit_softcap = static_cast<float>(hparams.real_or("final_logit_softcapping", 30.0, {0.0, 1e6}));
  input_ = read_per_layer_input(hparams, shape_);
  input_.norm_eps = ends_.norm_eps;
  if (input_.width == 0) hparams.refuse("embedding_length_per_layer_input", "it is missing");
  n_streams_ = hparams.count("altup.num_inputs", {1, MixStreams::kMaxStreams});
  if (hparams.count_or("altup.active_idx", 0) != 0) {
    hparams.refuse("altup.active_idx", "only the first stream is implemented as the active one");
  }
  read_layers(hparams);
  read_positions(hparams);
  weights(checkpoint).bind(checkpoint);
  check_per_layer_input(input_);
  hparams.refuse_rest();
}

void Gemma3n::read_layers(Hparams& hparams) {
  const AttentionSizes sizes = read_attention_sizes(hparams, shape_.hidden);
  const std::vector<int64_t> n_ff = hparams.counts("feed_forward_length", shape_.n_layers, kCount);
  const std::vector<double> cutoffs = hparams.reals("activation_sparsity_scale", shape_.n_layers, kCutoff);
  for (size_t i = 0; i < n_ff.size(); ++i) {
    Layer& layer = layers_.emplace_back();
    layer.attention.sizes = sizes;
    layer.attention.norm_eps = ends_.norm_eps;
    layer.attention.norms_values = true;
    layer.mlp = {.hidden = shape_.hidden,
                 .n_ff = n_ff[i],
                 .activation = Activation::gelu_tanh,
                 .cutoff = static_cast<float>(cutoffs[i])};
  }
}

void Gemma3n::read_positions(Hparams& hparams) {
  const AttentionSizes& sizes = layers_[0].attention.sizes;
  const int64_t n_rotary = read_n_rotary(hparams, sizes.head_dim);
  const RopeKind kind{.n_rotary = n_rotary,
                      .base = hparams.real_or("rope.freq_base", 1e6, kRopeBase),
                      .pairing = RopePairing::half_split};
  const double sliding_base = hparams.real_or("rope.freq_base_swa", 10000.0, kRopeBase);
  global_rope_ = read_rope(hparams, kind, Tensor());
  sliding_rope_ = RopeTable(rope_frequencies(n_rotary, sliding_base), 1.0, RopePairing::half_split);
  const std::vector<int64_t> windows = read_windows(hparams, shape_.n_layers, 5);
  const int64_t n_readers = hparams.count_or("attention.shared_kv_layers", 0, {0, shape_.n_layers - 1.0});
  const std::vector<int64_t> sources = kv_sources(windows, n_readers);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Attention& attention = layers_[i].attention;
    attention.window = windows[i];
    attention.rope = windows[i] > 0 ? sliding_rope_.view() : global_rope_.view();
    attention.kv_source = sources[i];
    shape_.kv_layers.push_back(attention.kv_layer());
  }
}

WeightList Gemma3n::weights(const Checkpoint& checkpoint) {
  // No key says the rank.
  const Tensor* laurel = checkpoint.find("blk.0.laurel_l.weight");
  laurel_rank_ = laurel == nullptr ? 1 : laurel->dim(0);
  WeightList list;
  list_ends(list, ends_);
  list_per_layer_input(list, input_, checkpoint);
  list.add(altup_proj_, "altup_proj.weight", {n_streams_ - 1, shape_.hidden, shape_.hidden});
  list.add(altup_unembd_proj_, "altup_unembd_proj.weight", {n_streams_ - 1, shape_.hidden, shape_.hidden});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    if (layer.attention.reads_other()) {
      list_reader(list, layer.attention);
    } else {
      list_projections(list, layer.attention);
      list_head_norms(list, layer.attention);
    }
    list.add(layer.post_attention_norm, "post_attention_norm.weight", {shape_.hidden});
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    list_mlp(list, layer.mlp);
    list.add(layer.post_ffw_norm, "post_ffw_norm.weight", {shape_.hidden});
    list_altup(list, layer);
    list_per_layer_gate(list, input_, layer.input_gate);
  }
  return list;
}

void Gemma3n::list_altup(WeightList& list, Layer& layer) const {
  AltUp& altup = layer.altup;
  list.add(altup.router, "altup_router.weight", {n_streams_, shape_.hidden});
  list.add(altup.router_norm, "altup_router_norm.weight", {shape_.hidden});
  list.add(altup.predict, "altup_predict_coef.weight", {n_streams_ * n_streams_, n_streams_});
  list.add(altup.correct, "altup_correct_coef.weight", {n_streams_, n_streams_});
  list.add(altup.correct_scale, "altup_correct_scale.weight", {shape_.hidden});
  list.add(layer.laurel.left, "laurel_l.weight", {laurel_rank_, shape_.hidden});
  list.add(layer.laurel.right, "laurel_r.weight", {shape_.hidden, laurel_rank_});
  list.add(layer.laurel.norm, "laurel_post_norm.weight", {shape_.hidden});
}

Tensor Gemma3n::take(const Pass& pass, int64_t width) const {
  return pass.arena.take(Dtype::f32, {pass.batch.n_rows(), width});
}

Tensor Gemma3n::normed(const Pass& pass, const Tensor& x, const Tensor& weight) const {
  const Tensor out = take(pass, shape_.hidden);
  pass.backend.run(Norm{.x = x, .weight = weight, .out = out, .eps = ends_.norm_eps});
  return out;
}

// The streams: the embedding, and projections of it that are as long.
Streams Gemma3n::begin(const Pass& pass, const Tensor& embedded) const {
  Streams streams{take(pass, shape_.hidden)};
  pass.backend.run(Embed{
      .tokens = pass.batch.tokens, .table = ends_.token_embd, .out = streams[0], .scale = ends_.embd_scale});
  for (int64_t i = 1; i < n_streams_; ++i) {
    Tensor& stream = streams[static_cast<size_t>(i)] = take(pass, shape_.hidden);
    pass.backend.run(Linear{.x = embedded, .products = {{.weight = altup_proj_.at(i - 1), .out = stream}}});
    pass.backend.run(MatchRms{.x = stream, .like = embedded, .out = stream});
  }
  return streams;
}

// tanh(router(norm(x)) / hidden): (n_rows, n_streams)
Tensor Gemma3n::modalities(const Pass& pass, const AltUp& altup, const Tensor& x) const {
  const Tensor out = take(pass, n_streams_);
  const Tensor input = normed(pass, x, altup.router_norm);
  pass.backend.run(Linear{.x = input,
                          .products = {{.weight = altup.router, .out = out}},
                          .scale = 1.0f / static_cast<float>(shape_.hidden),
                          .softcap = 1.0f});
  return out;
}

void Gemma3n::predict(const Pass& pass, const AltUp& altup, const Streams& streams,
                      const Streams& out) const {
  const ArenaScope scope(pass.arena);
  const Tensor weights = take(pass, n_streams_ * n_streams_);
  const Tensor modes = modalities(pass, altup, streams[0]);
  pass.backend.run(Linear{.x = modes, .products = {{.weight = altup.predict, .out = weights}}});
  MixStreams mix{.weights = weights,
                 .n_streams = static_cast<int>(n_streams_),
                 .n_inputs = static_cast<int>(n_streams_)};
  std::ranges::copy(streams, mix.x);
  std::ranges::copy(streams, mix.y);
  std::ranges::copy(out, mix.out);
  pass.backend.run(mix);
}

// out = predicted + (1 + weights) * (active - predicted[0])
void Gemma3n::correct(const Pass& pass, const AltUp& altup, const Streams& predicted, const Tensor& active,
                      const Streams& out) const {
  const ArenaScope scope(pass.arena);
  const Tensor weights = take(pass, n_streams_);
  const Tensor modes = modalities(pass, altup, active);
  pass.backend.run(Linear{.x = modes, .products = {{.weight = altup.correct, .out = weights}}});
  pass.backend.run(Add{.x = active, .y = predicted[0], .y_scale = -1.0f});
  MixStreams mix{.weights = weights, .n_streams = static_cast<int>(n_streams_), .offset = 1.0f};
  std::ranges::copy(predicted, mix.x);
  mix.y[0] = active;
  std::ranges::copy(out, mix.out);
  pass.backend.run(mix);
}

// What a layer makes of the active stream x: attention and Laurel, then the feed-forward.
void Gemma3n::run_block(const Pass& pass, int64_t i, const Tensor& x, const Tensor& out) const {
  const ArenaScope scope(pass.arena);
  const Layer& layer = layers_[static_cast<size_t>(i)];
  const Tensor input = normed(pass, x, layer.attn_norm);

  const Tensor low = take(pass, laurel_rank_);
  const Tensor laurel = take(pass, shape_.hidden);
  pass.backend.run(Linear{.x = input, .products = {{.weight = layer.laurel.left, .out = low}}});
  pass.backend.run(Linear{.x = low, .products = {{.weight = layer.laurel.right, .out = laurel}}});
  pass.backend.run(Norm{.x = laurel, .weight = layer.laurel.norm, .out = laurel, .eps = ends_.norm_eps});
  pass.backend.run(Add{.x = laurel, .y = input});

  const Tensor mixed = take(pass, shape_.hidden);
  run_attention(pass, layer.attention, i, input, mixed);
  pass.backend.run(
      Norm{.x = mixed, .weight = layer.post_attention_norm, .out = mixed, .eps = ends_.norm_eps});
  pass.backend.run(Add{.x = mixed, .y = x});
  constexpr float kHalfPower = 1.0f / std::numbers::sqrt2_v<float>;
  pass.backend.run(Add{.x = mixed, .y = laurel, .x_scale = kHalfPower, .y_scale = kHalfPower});

  run_mlp(pass, layer.mlp, normed(pass, mixed, layer.ffn_norm), out);
  pass.backend.run(Norm{.x = out, .weight = layer.post_ffw_norm, .out = out, .eps = ends_.norm_eps});
  pass.backend.run(Add{.x = out, .y = mixed});
}

Tensor Gemma3n::forward(const Pass& pass) const {
  const Tensor embedded = take(pass, shape_.hidden);
  pass.backend.run(Embed{
      .tokens = pass.batch.tokens, .table = ends_.token_embd, .out = embedded, .scale = ends_.embd_scale});
  const Streams streams = begin(pass, embedded);
  Streams predicted;
  for (int64_t s = 0; s < n_streams_; ++s) predicted[static_cast<size_t>(s)] = take(pass, shape_.hidden);
  const Tensor active = take(pass, shape_.hidden);
  for (int64_t i = 0; i < shape_.n_layers; ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    predict(pass, layer.altup, streams, predicted);
    run_block(pass, i, predicted[0], active);
    correct(pass, layer.altup, predicted, active, streams);

    const ArenaScope scope(pass.arena);
    const Tensor scaled = take(pass, shape_.hidden);
    pass.backend.run(Gate{
        .gate = layer.altup.correct_scale, .x = streams[0], .out = scaled, .activation = Activation::none});
    run_per_layer_gate(pass, input_, layer.input_gate,
                       {.layer = i, .x = scaled, .embedded = embedded, .out = active});
    for (int64_t s = 1; s < n_streams_; ++s)
      pass.backend.run(Add{.x = streams[static_cast<size_t>(s)], .y = active});
  }
  return logits(pass, streams);
}

// The mean of the streams, each brought back to the first one's space and length.
Tensor Gemma3n::logits(const Pass& pass, const Streams& streams) const {
  const int64_t n_rows = pass.batch.logit_rows.dim(0);
  const Tensor logits = pass.arena.take(Dtype::f32, {n_rows, ends_.n_vocab});
  if (n_rows == 0) return logits;
  const ArenaScope scope(pass.arena);
  const Tensor first = gather_logit_rows(pass, streams[0]);
  const Tensor sum = gather_logit_rows(pass, streams[0]);
  const Tensor projected = pass.arena.take(Dtype::f32, {n_rows, shape_.hidden});
  const float share = 1.0f / static_cast<float>(n_streams_);
  for (int64_t i = 1; i < n_streams_; ++i) {
    const Tensor stream = gather_logit_rows(pass, streams[static_cast<size_t>(i)]);
    pass.backend.run(
        Linear{.x = stream, .products = {{.weight = altup_unembd_proj_.at(i - 1), .out = projected}}});
    pass.backend.run(MatchRms{.x = projected, .like = first, .out = projected});
    const float scale = i + 1 == n_streams_ ? share : 1.0f;
    pass.backend.run(Add{.x = sum, .y = projected, .x_scale = scale, .y_scale = scale});
  }
  pass.backend.run(Norm{.x = sum, .weight = ends_.output_norm, .out = sum, .eps = ends_.norm_eps});
  run_head(pass, ends_, sum, logits);
  return logits;
}

std::unique_ptr<Model> load_gemma3n(const Checkpoint& checkpoint) {
  return std::make_unique<Gemma3n>(checkpoint);
}

constexpr HfTensorRule kTensors[] = {
    {"model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"},
    {"model.per_layer_model_projection.weight", "per_layer_model_proj.weight"},
    {"model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"},
    {"model.altup_projections.{e}.weight", "altup_proj.weight"},
    {"model.altup_unembed_projections.{e}.weight", "altup_unembd_proj.weight"},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"},
    {"model.layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight"},
    {"model.layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight"},
    {"model.layers.{}.altup.correct_output_scale", "blk.{}.altup_correct_scale.weight"},
    {"model.layers.{}.altup.correction_coefs.weight", "blk.{}.altup_correct_coef.weight"},
    {"model.layers.{}.altup.prediction_coefs.weight", "blk.{}.altup_predict_coef.weight"},
    {"model.layers.{}.altup.modality_router.weight", "blk.{}.altup_router.weight"},
    {"model.layers.{}.altup.router_norm.weight", "blk.{}.altup_router_norm.weight"},
    {"model.layers.{}.laurel.linear_left.weight", "blk.{}.laurel_l.weight"},
    {"model.layers.{}.laurel.linear_right.weight", "blk.{}.laurel_r.weight"},
    {"model.layers.{}.laurel.post_laurel_norm.weight", "blk.{}.laurel_post_norm.weight"},
    {"model.layers.{}.per_layer_input_gate.weight", "blk.{}.inp_gate.weight"},
    {"model.layers.{}.per_layer_projection.weight", "blk.{}.proj.weight"},
    {"model.layers.{}.post_per_layer_input_norm.weight", "blk.{}.post_norm.weight"},
};

// How many deviations above the mean a normal variable is with the probability 1 - share; -infinity for 0.
double normal_quantile(double share) {
  if (share <= 0.0) return -std::numeric_limits<double>::infinity();
  double low = -40.0, high = 40.0;
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2.0;
    const double below = std::erfc(-middle / std::numbers::sqrt2) / 2.0;
    (below < share ? low : high) = middle;
  }
  return low;
}

void write_sparsity(HfConfig& config, HfKeys& keys, size_t n_layers) {
  std::vector<double> shares(n_layers, 0.0);
  if (config.has("activation_sparsity_pattern")) {
    shares = config.reals("activation_sparsity_pattern");
  } else if (n_layers > 10) {
    std::fill_n(shares.begin(), 10, 0.95);
  }
  for (double& share : shares) {
    if (!(share >= 0.0 && share < 1.0))
      config.refuse("activation_sparsity_pattern", "expected shares below 1");
    share = normal_quantile(share);
  }
  keys.set("activation_sparsity_scale", std::move(shares));
}

void write_gemma3n(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_activation", "gelu_pytorch_tanh");
  if (!config.flag_or("altup_correct_scale", true)) {
    config.refuse("altup_correct_scale", "only true is implemented");
  }
  // The clip is of training, scores are not scaled, and the tensors say the rest.
  for (const std::string_view key :
       {"altup_coef_clip", "query_pre_attn_scalar", "laurel_rank", "vocab_size_per_layer_input"}) {
    config.find(key);
  }
  const int64_t n_layers = config.count("num_hidden_layers");
  const int64_t head_dim = config.count("head_dim");
  const Json* n_ff = config.find("intermediate_size");
  write_body_keys(config, keys);
  if (n_ff != nullptr && n_ff->is_array()) {
    const std::vector<double> each = config.reals("intermediate_size");
    if (each.empty()) config.refuse("intermediate_size", "it is empty");
    set_counts(keys, "feed_forward_length", {each.begin(), each.end()});
  } else {
    keys.set("feed_forward_length", config.count("intermediate_size"));
  }
  keys.set("attention.head_count_kv", config.count("num_key_value_heads"));
  keys.set("attention.key_length", head_dim);
  keys.set("attention.value_length", head_dim);
  keys.set("attention.shared_kv_layers", config.count_or("num_kv_shared_layers", 0, kCountOrNone));
  keys.set("embedding_length_per_layer_input", config.count("hidden_size_per_layer_input"));
  keys.set("altup.num_inputs", config.count("altup_num_inputs"));
  keys.set("altup.active_idx", config.count_or("altup_active_idx", 0, kCountOrNone));
  keys.set("final_logit_softcapping", config.real_or("final_logit_softcapping", 0.0));
  write_sparsity(config, keys, static_cast<size_t>(n_layers));
  write_rope_keys(config, keys);
  const double local_base = config.real_or("rope_local_base_freq", 10000.0, kRopeBase);
  keys.set("rope.freq_base_swa", config.has("rope_parameters")
                                     ? read_plain_rope_base(config, "sliding_attention", local_base)
                                     : local_base);
  write_window_keys(config, keys, periodic_pattern(n_layers, 5), 5);
}

constexpr std::string_view kDefaults = R"({
  "vocab_size": 262400, "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 35,
  "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "rms_norm_eps": 1e-6,
  "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 32768, "rope_theta": 1000000.0,
  "sliding_window": 512, "final_logit_softcapping": 30.0, "hidden_size_per_layer_input": 256,
  "altup_num_inputs": 4, "num_kv_shared_layers": 15, "tie_word_embeddings": true})";

constexpr HfModelClass kHfClasses[] = {{"gemma3n_text", "gemma3n", kDefaults, kTensors, write_gemma3n}};
constexpr std::string_view kArchitectures[] = {"gemma3n"};

}  // namespace

Family gemma3n_family() {
  return {.architectures = kArchitectures, .load = load_gemma3n, .hf_classes = kHfClasses};
}

}  // namespace millrace
