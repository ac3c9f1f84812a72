// Gemma 4 (Gemma Team 2026): Gemma 3's block with wider heads in the layers that see everything, of which
// only a share turns; values normed, or made of the keys; last layers that read the keys of earlier ones; an
// embedding for each layer (E2B, E4B); a mixture of experts beside the feed-forward (26B); what a layer hands
// on scaled.
#include <cmath>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/mlp.h"
#include "model/layers/per_layer_input.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

constexpr int64_t kWindowPeriod = 6;  // where the config names no layers

struct Experts {
  Tensor pre_norm, post_mlp_norm, post_norm;  // (hidden): before them, after the mlp beside them, after them
  Tensor router;                              // (n_experts, hidden)
  Tensor router_scale;                        // (hidden)
  Tensor expert_scale;                        // (n_experts)
  Tensor gate, up;                   // (n_experts, n_ff, hidden), or both in gate, one after the other
  Tensor down;                       // (n_experts, hidden, n_ff)
  std::vector<float> router_weight;  // router_scale / sqrt(hidden)
};

struct Layer {
  Tensor attn_norm, post_attention_norm, ffn_norm, post_ffw_norm;  // (hidden)
  Tensor out_scale;                                                // optional (1)
  float scale = 1.0f;                                              // what it holds
  Attention attention;
  Mlp mlp;
  Experts experts;
  PerLayerGate input_gate;
};

class Gemma4 final : public Model {
 public:
  explicit Gemma4(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  void read_layers(Hparams& hparams);
  void read_attention(Hparams& hparams);
  void read_experts(Hparams& hparams);
  void read_rotation(Hparams& hparams);
  WeightList weights(const Checkpoint& checkpoint);
  void list_attention(WeightList& list, Layer& layer) const;
  void list_experts(WeightList& list, Experts& experts) const;
  void read_scales();
  void run_experts(const Pass& pass, const Experts& experts, const Tensor& x, const Tensor& branch) const;

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  PerLayerInput input_;
  int64_t n_experts_ = 0, n_used_ = 0, n_expert_ff_ = 0;
  Tensor rope_freqs_;  // (head_dim / 2): divisors of the frequencies of layers that see everything
  RopeTable global_rope_, sliding_rope_;
};

Gemma4::Gemma4(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  ends_.embd_scale = std::sqrt(static_cast<float>(shape_.hidden));
  ends_.logit_softcap = static_cast<float>(hparams.real_or("final_logit_softcapping", 30.0, {0.0, 1e6}));
  input_ = read_per_layer_input(hparams, shape_);
  input_.norm_eps = ends_.norm_eps;
  read_layers(hparams);
  read_attention(hparams);
  read_experts(hparams);
  weights(checkpoint).bind(checkpoint);
  check_per_layer_input(input_);
  read_scales();
  read_rotation(hparams);
  hparams.refuse_rest();
}

void Gemma4::read_layers(Hparams& hparams) {
  for (const int64_t n_ff : hparams.counts("feed_forward_length", shape_.n_layers, kCount)) {
    Layer& layer = layers_.emplace_back();
    layer.mlp = {.hidden = shape_.hidden, .n_ff = n_ff, .activation = Activation::gelu_tanh};
  }
}

// Heads are of one size in layers that slide and of another in those that do not.
void Gemma4::read_attention(Hparams& hparams) {
  const int64_t n_heads = hparams.count("attention.head_count");
  const std::vector<int64_t> n_kv_heads = hparams.counts("attention.head_count_kv", shape_.n_layers, kCount);
  const int64_t global_dim = hparams.count("attention.key_length");
  const int64_t sliding_dim = hparams.count_or("attention.key_length_swa", global_dim, kCount);
  if (hparams.count_or("attention.value_length", global_dim) != global_dim ||
      hparams.count_or("attention.value_length_swa", sliding_dim) != sliding_dim) {
    hparams.refuse("attention.value_length", "values are as long as keys in this architecture");
  }
  const std::vector<int64_t> windows = read_windows(hparams, shape_.n_layers, kWindowPeriod);
  const int64_t n_readers = hparams.count_or("attention.shared_kv_layers", 0, {0, shape_.n_layers - 1.0});
  const std::vector<int64_t> sources = kv_sources(windows, n_readers);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Attention& attention = layers_[i].attention;
    const int64_t head_dim = windows[i] > 0 ? sliding_dim : global_dim;
    attention.sizes = {.hidden = shape_.hidden,
                       .n_heads = n_heads,
                       .n_kv_heads = n_kv_heads[i],
                       .head_dim = head_dim,
                       .v_head_dim = head_dim};
    if (n_heads % n_kv_heads[i] != 0) {
      hparams.refuse("attention.head_count_kv",
                     fmt::format("{} do not divide {} heads", n_kv_heads[i], n_heads));
    }
    if (sources[i] >= 0 && n_kv_heads[static_cast<size_t>(sources[i])] != n_kv_heads[i]) {
      hparams.refuse("attention.head_count_kv", "a layer reads keys of another number of heads");
    }
    attention.norm_eps = ends_.norm_eps;
    attention.norms_values = true;
    attention.window = windows[i];
    attention.kv_source = sources[i];
    shape_.kv_layers.push_back(attention.kv_layer());
  }
}

void Gemma4::read_experts(Hparams& hparams) {
  n_experts_ = hparams.count_or("expert_count", 0, {0, 4096});
  if (n_experts_ == 0) return;
  n_used_ = hparams.count("expert_used_count", {1, static_cast<double>(n_experts_)});
  n_expert_ff_ = hparams.count("expert_feed_forward_length");
}

void Gemma4::read_rotation(Hparams& hparams) {
  const int64_t global_dim = hparams.count("attention.key_length");
  const int64_t sliding_dim = hparams.count_or("attention.key_length_swa", global_dim, kCount);
  const RopeKind kind{.n_rotary = read_n_rotary(hparams, global_dim),
                      .base = hparams.real_or("rope.freq_base", 1e6, kRopeBase),
                      .pairing = RopePairing::half_split};
  if (kind.n_rotary != global_dim) {
    hparams.refuse("rope.dimension_count", "rope_freqs.weight says what turns, of whole heads");
  }
  const int64_t n_sliding = hparams.count_or("rope.dimension_count_swa", sliding_dim, kCount);
  if (n_sliding % 2 != 0 || n_sliding > sliding_dim) {
    hparams.refuse("rope.dimension_count_swa", "it is no even number up to the head size");
  }
  global_rope_ = read_rope(hparams, kind, rope_freqs_);
  const double sliding_base = hparams.real_or("rope.freq_base_swa", 10000.0, kRopeBase);
  sliding_rope_ = RopeTable(rope_frequencies(n_sliding, sliding_base), 1.0, RopePairing::half_split);
  for (Layer& layer : layers_) {
    layer.attention.rope = layer.attention.window > 0 ? sliding_rope_.view() : global_rope_.view();
  }
}

WeightList Gemma4::weights(const Checkpoint& checkpoint) {
  WeightList list;
  list_ends(list, ends_);
  list_per_layer_input(list, input_, checkpoint);
  int64_t global_dim = 0;
  for (const Layer& layer : layers_) {
    if (layer.attention.window == 0) global_dim = layer.attention.sizes.head_dim;
  }
  if (global_dim > 0) list.add(rope_freqs_, "rope_freqs.weight", {global_dim / 2});
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_attention(list, layer);
    list.add(layer.post_attention_norm, "post_attention_norm.weight", {shape_.hidden});
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    list_mlp(list, layer.mlp);
    if (n_experts_ > 0) list_experts(list, layer.experts);
    list.add(layer.post_ffw_norm, "post_ffw_norm.weight", {shape_.hidden});
    list_per_layer_gate(list, input_, layer.input_gate);
    list.add_optional(layer.out_scale, "layer_output_scale.weight", {1});
  }
  return list;
}

void Gemma4::list_attention(WeightList& list, Layer& layer) const {
  Attention& attention = layer.attention;
  const AttentionSizes& sizes = attention.sizes;
  if (attention.reads_other()) return list_reader(list, attention);
  // Layers that see everything may do without a projection of values.
  const auto add_v = attention.window > 0 ? &WeightList::add : &WeightList::add_optional;
  list.add(attention.q, "attn_q.weight", {sizes.q_width(), sizes.hidden});
  list.add(attention.k, "attn_k.weight", {sizes.k_width(), sizes.hidden});
  (list.*add_v)(attention.v, "attn_v.weight", {sizes.v_width(), sizes.hidden});
  list.add(attention.out, "attn_output.weight", {sizes.hidden, sizes.out_width()});
  list_head_norms(list, attention);
}

void Gemma4::list_experts(WeightList& list, Experts& experts) const {
  list.add(experts.pre_norm, "pre_ffw_norm_2.weight", {shape_.hidden});
  list.add(experts.post_mlp_norm, "post_ffw_norm_1.weight", {shape_.hidden});
  list.add(experts.post_norm, "post_ffw_norm_2.weight", {shape_.hidden});
  list.add(experts.router, "ffn_gate_inp.weight", {n_experts_, shape_.hidden});
  list.add(experts.router_scale, "ffn_gate_inp.scale", {shape_.hidden});
  list.add_optional(experts.expert_scale, "ffn_down_exps.scale", {n_experts_});
  list_gate_and_up(list, experts.gate, experts.up, {n_experts_, n_expert_ff_, shape_.hidden});
  list.add(experts.down, "ffn_down_exps.weight", {n_experts_, shape_.hidden, n_expert_ff_});
}

// The router reads norm(x) * scale / sqrt(hidden): one norm with a weight.
void Gemma4::read_scales() {
  const float factor = 1.0f / std::sqrt(static_cast<float>(shape_.hidden));
  for (Layer& layer : layers_) {
    if (layer.out_scale) layer.scale = layer.out_scale.f32()[0];
    if (n_experts_ == 0) continue;
    const float* scale = layer.experts.router_scale.f32();
    for (int64_t i = 0; i < shape_.hidden; ++i) layer.experts.router_weight.push_back(scale[i] * factor);
  }
}

// branch = norm(branch) + norm(experts(norm(x))), where branch holds what the mlp beside them gives.
void Gemma4::run_experts(const Pass& pass, const Experts& experts, const Tensor& x,
                         const Tensor& branch) const {
  const ArenaScope scope(pass.arena);
  const int64_t n_rows = x.dim(0);
  const auto norm = [&](const Tensor& from, const Tensor& weight, const Tensor& to) {
    pass.backend.run(Norm{.x = from, .weight = weight, .out = to, .eps = ends_.norm_eps});
  };
  const Tensor input = pass.arena.take(Dtype::f32, {n_rows, shape_.hidden});
  auto* router_weight = const_cast<float*>(experts.router_weight.data());  // ops only read it
  norm(x, Tensor(router_weight, Dtype::f32, {shape_.hidden}), input);
  const Tensor chosen = pass.arena.take(Dtype::i32, {n_rows, n_used_});
  const Tensor shares = pass.arena.take(Dtype::f32, {n_rows, n_used_});
  pass.backend.run(Route{.x = input,
                         .weight = experts.router,
                         .expert_scale = experts.expert_scale,
                         .experts = chosen,
                         .weights = shares});
  norm(x, experts.pre_norm, input);
  const Tensor inner = pass.arena.take(Dtype::f32, {n_rows, n_used_, n_expert_ff_});
  pass.backend.run(MoeGated{.x = input,
                            .experts = chosen,
                            .gate = experts.gate,
                            .up = experts.up,
                            .out = inner,
                            .activation = Activation::gelu_tanh});
  pass.backend.run(
      MoeDown{.x = inner, .experts = chosen, .weights = shares, .down = experts.down, .out = input});
  norm(input, experts.post_norm, input);
  norm(branch, experts.post_mlp_norm, branch);
  pass.backend.run(Add{.x = branch, .y = input});
}

Tensor Gemma4::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  const Tensor embedded = pass.arena.take(Dtype::f32, {pass.batch.n_rows(), shape_.hidden});
  pass.backend.run(Embed{
      .tokens = pass.batch.tokens, .table = ends_.token_embd, .out = embedded, .scale = ends_.embd_scale});
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const auto index = static_cast<int64_t>(i);
    stream.norm(layer.attn_norm);
    run_attention(pass, layer.attention, index, stream.normed(), stream.branch());
    stream.norm_branch(layer.post_attention_norm);
    stream.norm(layer.ffn_norm);
    run_mlp(pass, layer.mlp, stream.normed(), stream.branch());
    if (n_experts_ > 0) run_experts(pass, layer.experts, stream.x(), stream.branch());
    stream.norm_branch(layer.post_ffw_norm);
    if (input_.width > 0) {
      run_per_layer_gate(
          pass, input_, layer.input_gate,
          {.layer = index, .x = stream.summed(), .embedded = embedded, .out = stream.branch()});
    }
    stream.settle(layer.scale);
  }
  return stream.logits();
}

std::unique_ptr<Model> load_gemma4(const Checkpoint& checkpoint) {
  return std::make_unique<Gemma4>(checkpoint);
}

constexpr HfTensorRule kTensors[] = {
    {"model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight"},
    {"model.per_layer_model_projection.weight", "per_layer_model_proj.weight"},
    {"model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight"},
    {"model.layers.{}.layer_scalar", "blk.{}.layer_output_scale.weight"},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"},
    {"model.layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight"},
    {"model.layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight"},
    {"model.layers.{}.pre_feedforward_layernorm_2.weight", "blk.{}.pre_ffw_norm_2.weight"},
    {"model.layers.{}.post_feedforward_layernorm_1.weight", "blk.{}.post_ffw_norm_1.weight"},
    {"model.layers.{}.post_feedforward_layernorm_2.weight", "blk.{}.post_ffw_norm_2.weight"},
    {"model.layers.{}.router.proj.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.router.scale", "blk.{}.ffn_gate_inp.scale"},
    {"model.layers.{}.router.per_expert_scale", "blk.{}.ffn_down_exps.scale"},
    {"model.layers.{}.experts.gate_up_proj", "blk.{}.ffn_gate_exps.weight", HfChange::first_half},
    {"model.layers.{}.experts.gate_up_proj", "blk.{}.ffn_up_exps.weight", HfChange::second_half},
    {"model.layers.{}.experts.down_proj", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.per_layer_input_gate.weight", "blk.{}.inp_gate.weight"},
    {"model.layers.{}.per_layer_projection.weight", "blk.{}.proj.weight"},
    {"model.layers.{}.post_per_layer_input_norm.weight", "blk.{}.post_norm.weight"},
};

// Of the layers that see everything: the size of a head and the number of key-value heads.
struct GlobalHeads {
  int64_t head_dim;
  int64_t n_kv_heads;
};

// transformers 5 writes them layer by layer, published configs as two settings of their own.
GlobalHeads read_global_heads(HfConfig& config, const std::vector<bool>& slides) {
  GlobalHeads heads{.head_dim = config.count_or("global_head_dim", 512),
                    .n_kv_heads = config.count("num_key_value_heads")};
  const int64_t n_global = config.count_or("num_global_key_value_heads", heads.n_kv_heads);
  if (config.flag_or("attention_k_eq_v", false)) heads.n_kv_heads = n_global;
  static const Json kNone{Json::Object()};
  const Json* layers = config.find("per_layer_config");
  if (layers == nullptr) return heads;
  heads.head_dim = config.count("head_dim");
  bool is_first = true;
  for (size_t i = 0; i < slides.size(); ++i) {
    const Json* one = layers->find(std::to_string(i));
    if (slides[i] && one != nullptr)
      config.refuse("per_layer_config", "only layers that do not slide differ");
    if (slides[i]) continue;
    HfConfig layer = config.within(one == nullptr ? kNone : *one, "per_layer_config");
    const GlobalHeads found{.head_dim = layer.count("head_dim"),
                            .n_kv_heads = layer.count("num_key_value_heads")};
    layer.refuse_rest();
    if (!is_first && (found.head_dim != heads.head_dim || found.n_kv_heads != heads.n_kv_heads)) {
      config.refuse("per_layer_config", "the layers that do not slide differ");
    }
    heads = found;
    is_first = false;
  }
  return heads;
}

void write_experts(HfConfig& config, HfKeys& keys) {
  if (!config.flag_or("enable_moe_block", false)) {
    for (const std::string_view key : {"num_experts", "top_k_experts", "moe_intermediate_size"})
      config.find(key);
    return;
  }
  keys.set("expert_count", config.count("num_experts"));
  keys.set("expert_used_count", config.count("top_k_experts"));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
}

void write_feed_forward(HfConfig& config, HfKeys& keys, int64_t n_layers, int64_t n_readers) {
  std::vector<int64_t> n_ff(static_cast<size_t>(n_layers), config.count("intermediate_size"));
  if (config.flag_or("use_double_wide_mlp", false)) {
    for (int64_t i = n_layers - n_readers; i < n_layers; ++i) n_ff[static_cast<size_t>(i)] *= 2;
  }
  set_counts(keys, "feed_forward_length", std::move(n_ff));
}

void write_heads(HfConfig& config, HfKeys& keys, const std::vector<bool>& slides) {
  const GlobalHeads global = read_global_heads(config, slides);
  const int64_t head_dim = config.count("head_dim");
  std::vector<int64_t> n_kv_heads;
  for (const bool is_sliding : slides)
    n_kv_heads.push_back(is_sliding ? config.count("num_key_value_heads") : global.n_kv_heads);
  set_counts(keys, "attention.head_count_kv", std::move(n_kv_heads));
  keys.set("attention.key_length", global.head_dim);
  keys.set("attention.value_length", global.head_dim);
  keys.set("attention.key_length_swa", head_dim);
  keys.set("attention.value_length_swa", head_dim);
  keys.set("rope.dimension_count", global.head_dim);
  keys.set("rope.dimension_count_swa", head_dim);
  write_proportional_rope_keys(config, keys, global.head_dim);
  keys.set("rope.freq_base_swa", read_plain_rope_base(config, "sliding_attention", 10000.0));
}

void write_gemma4(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_activation", "gelu_pytorch_tanh");
  if (config.text_or("use_bidirectional_attention", "vision") != "vision") {
    config.refuse("use_bidirectional_attention", "only attention to the past is implemented");
  }
  config.find("vocab_size_per_layer_input");  // the tensor says it
  const int64_t n_layers = config.count("num_hidden_layers");
  const int64_t n_readers =
      config.count_or("num_kv_shared_layers", 0, {0, static_cast<double>(n_layers - 1)});
  const std::vector<bool> slides = read_layer_types(config, {}, periodic_pattern(n_layers, kWindowPeriod));
  write_body_keys(config, keys);
  write_feed_forward(config, keys, n_layers, n_readers);
  write_heads(config, keys, slides);
  write_experts(config, keys);
  keys.set("attention.shared_kv_layers", n_readers);
  keys.set("embedding_length_per_layer_input",
           config.count_or("hidden_size_per_layer_input", 0, kCountOrNone));
  keys.set("final_logit_softcapping", config.real_or("final_logit_softcapping", 0.0));
  write_window_keys(config, keys, slides, kWindowPeriod);
}

constexpr std::string_view kDefaults = R"({
  "vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 30,
  "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "rms_norm_eps": 1e-6,
  "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 131072, "sliding_window": 512,
  "hidden_size_per_layer_input": 256, "tie_word_embeddings": true,
  "rope_parameters": {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000000.0}}})";

constexpr HfModelClass kHfClasses[] = {{"gemma4_text", "gemma4", kDefaults, kTensors, write_gemma4}};
constexpr std::string_view kArchitectures[] = {"gemma4"};

}  // namespace

Family gemma4_family() {
  return {.architectures = kArchitectures, .load = load_gemma4, .hf_classes = kHfClasses};
}

}  // namespace millrace
