// Llama 4 (Meta 2025): three layers of four rotate and see their chunk of positions only; every fourth does
// not rotate, sees everything, and sharpens its queries as positions grow. Layers have a dense feed-forward,
// or one chosen expert (which reads its input times the sigmoid of the router) beside a shared one.
#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

constexpr int64_t kGlobalPeriod = 4;  // of so many layers the last one is global
constexpr int64_t kChunk = 8192;
constexpr double kTemperatureScale = 0.1;
constexpr int64_t kTemperatureLength = 8192;
constexpr int64_t kExpertsWithoutHeadNorms = 128;  // Maverick; published files do not say it

struct Layer {
  Tensor attn_norm, ffn_norm;  // (hidden)
  Attention attention;
  FeedForward feed_forward;
};

class Llama4 final : public Model {
 public:
  explicit Llama4(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams) const;
  WeightList weights();
  void read_positions(Hparams& hparams);

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  Tensor rope_freqs_;  // optional (n_rotary / 2): divisors of the frequencies
  int64_t n_rotary_ = 0;
  RopeTable rope_;
  std::vector<float> ones_;  // (head_dim): the weight of norms without one
};

Llama4::Llama4(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams));
  const AttentionSizes& sizes = layers_[0].attention.sizes;
  n_rotary_ = read_n_rotary(hparams, sizes.head_dim);
  ones_.assign(static_cast<size_t>(sizes.head_dim), 1.0f);
  shape_.kv_layers.assign(layers_.size(), sizes.kv_layer());

  const int64_t moe_period = hparams.count_or("interleave_moe_layer_step", 1);
  const bool has_experts = layers_[0].feed_forward.moe.n_experts > 0;
  const std::vector<bool> is_dense =
      hparams.pattern_or("millrace.dense_layers", shape_.n_layers, has_experts ? moe_period : 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (is_dense[i]) layers_[i].feed_forward.moe = {};
  }
  weights().bind(checkpoint);
  read_positions(hparams);
  hparams.refuse_rest();
}

Layer Llama4::read_layer(Hparams& hparams) const {
  Layer layer;
  layer.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps);
  auto& [mlp, moe] = layer.feed_forward;
  mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")};
  moe = read_moe(hparams, shape_.hidden,
                 {.score = RouteScore::sigmoid, .is_renormalised = false, .weighs_input = true});
  moe.shared = {.hidden = shape_.hidden, .n_ff = moe.n_ff};
  hparams.count_or("expert_shared_count", 1, {1, 1});
  return layer;
}

void Llama4::read_positions(Hparams& hparams) {
  const double base = hparams.real_or("rope.freq_base", 500000.0, kRopeBase);
  rope_ = read_rope(hparams, {.n_rotary = n_rotary_, .base = base, .pairing = RopePairing::adjacent},
                    rope_freqs_);
  // A window of 0 is how files say that no layer is special (MobileLLM).
  const bool is_plain = hparams.has("attention.sliding_window");
  hparams.count_or("attention.sliding_window", 0, {0, 0});
  const std::vector<bool> rotates =
      hparams.pattern_or("millrace.rope.rotated_layers", shape_.n_layers, is_plain ? 0 : kGlobalPeriod);
  const int64_t chunk =
      hparams.count_or("millrace.attention.chunk_size", is_plain ? 0 : kChunk, {0, INT32_MAX});
  const bool has_head_norms = hparams.flag_or(
      "millrace.attention.has_head_norms", hparams.count_or("expert_count", 0) != kExpertsWithoutHeadNorms);
  const double beta =
      hparams.real_or("attention.temperature_scale", is_plain ? 0.0 : kTemperatureScale, {0.0, 1e3});
  const double length = hparams.real_or("attention.temperature_length", kTemperatureLength);
  const Tensor ones(ones_.data(), Dtype::f32, {std::ssize(ones_)});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Attention& attention = layers_[i].attention;
    if (rotates[i]) {
      attention.rope = rope_.view();
      attention.chunk = chunk;
      shape_.kv_layers[i].window = chunk;  // a row sees as much at most
      // The paper norms after the rotation; without weights that is the same, for a rotation keeps lengths.
      if (has_head_norms) attention.q_norm = attention.k_norm = ones;
    } else {
      attention.q_scale_beta = static_cast<float>(beta);
      attention.q_scale_length = static_cast<float>(length);
      attention.q_scale_offset = 1.0f;
    }
  }
}

WeightList Llama4::weights() {
  WeightList list;
  list_ends(list, ends_);
  list.add_optional(rope_freqs_, "rope_freqs.weight", {n_rotary_ / 2});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_projections(list, layer.attention);
    list_qkv_bias(list, layer.attention, Presence::optional);
    list.add_optional(layer.attention.out_bias, "attn_output.bias", {shape_.hidden});
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    auto& [mlp, moe] = layer.feed_forward;
    if (moe.n_experts == 0) {
      list_mlp(list, mlp);
    } else {
      list_moe(list, moe);
      list_shared_expert(list, moe);
    }
  }
  return list;
}

Tensor Llama4::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    stream.norm(layer.ffn_norm);
    run_feed_forward(pass, layer.feed_forward, stream.normed(), stream.branch());
  }
  return stream.logits();
}

std::unique_ptr<Model> load_llama4(const Checkpoint& checkpoint) {
  return std::make_unique<Llama4>(checkpoint);
}

// Stacked experts lie as (experts, in, out).
constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.feed_forward.gate_proj.weight", "blk.{}.ffn_gate.weight"},
    {"model.layers.{}.feed_forward.up_proj.weight", "blk.{}.ffn_up.weight"},
    {"model.layers.{}.feed_forward.down_proj.weight", "blk.{}.ffn_down.weight"},
    {"model.layers.{}.feed_forward.router.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.feed_forward.experts.gate_up_proj", "blk.{}.ffn_gate_exps.weight",
     HfChange::first_half_transposed},
    {"model.layers.{}.feed_forward.experts.gate_up_proj", "blk.{}.ffn_up_exps.weight",
     HfChange::second_half_transposed},
    {"model.layers.{}.feed_forward.experts.down_proj", "blk.{}.ffn_down_exps.weight", HfChange::transposed},
    {"model.layers.{}.feed_forward.experts.{e}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.feed_forward.experts.{e}.up_proj.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.feed_forward.experts.{e}.down_proj.weight", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.feed_forward.shared_expert.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.feed_forward.shared_expert.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.feed_forward.shared_expert.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
};

// Flags of the layers that rotate: no_rope_layers has 1 for them.
std::vector<bool> read_rotated_layers(HfConfig& config) {
  const int64_t n_layers = config.count("num_hidden_layers");
  std::vector<bool> rotates =
      periodic_pattern(n_layers, config.count_or("no_rope_layer_interval", kGlobalPeriod));
  if (!config.has("no_rope_layers")) return rotates;
  const std::vector<double> flags = config.reals("no_rope_layers");
  if (flags.empty()) return rotates;
  if (std::ssize(flags) != n_layers)
    config.refuse("no_rope_layers", fmt::format("{} entries for {} layers", flags.size(), n_layers));
  for (size_t i = 0; i < flags.size(); ++i) rotates[i] = flags[i] != 0.0;
  return rotates;
}

// 0 where every layer sees everything. Layers in chunks are those that rotate.
int64_t read_chunk(HfConfig& config, const std::vector<bool>& rotates) {
  const int64_t chunk = config.count_or("attention_chunk_size", 0, kPositions);
  if (!config.has("layer_types")) return chunk;
  const std::vector<std::string> types = config.texts("layer_types");
  std::vector<bool> has_chunks;
  for (const std::string& type : types) {
    has_chunks.push_back(type == "chunked_attention");
    if (type != "chunked_attention" && type != "full_attention")
      config.refuse("layer_types", fmt::format("{} is not implemented", printable(type)));
  }
  if (has_chunks == std::vector<bool>(rotates.size(), false)) return 0;
  if (has_chunks != rotates)
    config.refuse("layer_types", "only layers that rotate may have chunks, and all of them");
  return chunk;
}

void write_dense_layers(HfConfig& config, HfKeys& keys) {
  const int64_t n_layers = config.count("num_hidden_layers");
  const int64_t period = config.count_or("interleave_moe_layer_step", 1);
  keys.set("interleave_moe_layer_step", period);
  if (!config.has("moe_layers")) return;
  std::vector<bool> is_dense(static_cast<size_t>(n_layers), true);
  for (const double layer : config.reals("moe_layers")) {
    if (!(layer >= 0 && layer < static_cast<double>(n_layers)))
      config.refuse("moe_layers", fmt::format("there is no layer {}", layer));
    is_dense[static_cast<size_t>(layer)] = false;
  }
  if (is_dense != periodic_pattern(n_layers, period)) keys.set("millrace.dense_layers", std::move(is_dense));
}

// A number, of old, where it is a flag now; true where nothing is said.
bool has_temperature(HfConfig& config) {
  const Json* tuning = config.find("attn_temperature_tuning");
  if (tuning != nullptr && tuning->is_int()) return tuning->as_int() != 0;
  return config.flag_or("attn_temperature_tuning", true);
}

void write_llama4(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  write_decoder_keys(config, keys, "intermediate_size_mlp");
  write_rope_keys(config, keys);
  const std::vector<bool> rotates = read_rotated_layers(config);
  keys.set("millrace.attention.chunk_size", read_chunk(config, rotates));
  if (rotates != periodic_pattern(std::ssize(rotates), kGlobalPeriod))
    keys.set("millrace.rope.rotated_layers", rotates);
  keys.set("millrace.attention.has_head_norms", config.flag_or("use_qk_norm", true));
  const double beta = config.real_or("attn_scale", kTemperatureScale);
  const int64_t length = config.count_or("floor_scale", kTemperatureLength, kPositions);
  keys.set("attention.temperature_scale", has_temperature(config) ? beta : 0.0);
  keys.set("attention.temperature_length", length);
  write_dense_layers(config, keys);
  keys.set("expert_count", config.count("num_local_experts"));
  keys.set("expert_used_count", config.count("num_experts_per_tok"));
  keys.set("expert_feed_forward_length", config.count("intermediate_size"));
  config.find("for_llm_compressor");  // how a tool wrote the experts, which the tensors show
}

constexpr HfModelClass kHfClasses[] = {
    {"llama4_text", "llama4",
     R"({"rms_norm_eps": 1e-5, "rope_theta": 500000.0, "head_dim": 128, "attention_chunk_size": 8192,
         "num_local_experts": 16, "num_experts_per_tok": 1, "intermediate_size": 8192,
         "intermediate_size_mlp": 16384})",
     kTensors, write_llama4},
};

constexpr std::string_view kArchitectures[] = {"llama4"};

}  // namespace

Family llama4_family() {
  return {.architectures = kArchitectures, .load = load_llama4, .hf_classes = kHfClasses};
}

}  // namespace millrace
