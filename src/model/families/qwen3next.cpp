// Qwen3-Next (Qwen Team 2025) and Qwen3.5: three of four layers are gated delta nets (Yang et al. 2024), the
// fourth attends with a gate on its output and rotates a quarter of each head. Feed-forwards are mixtures of
// experts with a shared one, or dense.
#include <algorithm>
#include <array>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/attention.h"
#include "model/layers/delta_rule.h"
#include "model/layers/mlp.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Variant {
  std::string_view architecture;
  KeyHeads key_heads;  // how the file orders value heads
  bool has_fused_ba;   // beta and decay are one projection: for each key head first the one, then the other
};
constexpr Variant kVariants[] = {
    {.architecture = "qwen3next", .key_heads = KeyHeads::grouped, .has_fused_ba = true},
    {.architecture = "qwen35", .key_heads = KeyHeads::tiled, .has_fused_ba = false},
    {.architecture = "qwen35moe", .key_heads = KeyHeads::tiled, .has_fused_ba = false},
};

// A gated delta net. q, k and v are views into qkv, and so are their convolutions.
struct DeltaNet {
  DeltaRule rule;
  Tensor qkv;          // (2 * k_width + v_width, hidden)
  Tensor conv;         // (2 * k_width + v_width, n_taps)
  Tensor q, k, v;      // (k_width or v_width, hidden)
  Tensor gate;         // (v_width, hidden)
  Tensor beta, decay;  // (n_v_heads, hidden) each, or:
  Tensor ba;           // (2 * n_v_heads, hidden)
};

struct Layer {
  bool is_recurrent = false;
  Tensor attn_norm, ffn_norm;  // (hidden)
  Attention attention;         // one of the two
  DeltaNet net;
  FeedForward feed_forward;
};

class Qwen3Next final : public Model {
 public:
  Qwen3Next(const Checkpoint& checkpoint, const Variant& variant);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  Layer read_layer(Hparams& hparams, const Variant& variant) const;
  DeltaSizes read_delta_sizes(Hparams& hparams) const;
  WeightList weights(const Variant& variant);
  void list_net(WeightList& list, DeltaNet& net, const Variant& variant) const;
  void split_fused();
  void run_net(const Pass& pass, const DeltaNet& net, int64_t layer, const Tensor& x,
               const Tensor& out) const;

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  RopeTable rope_;
};

Qwen3Next::Qwen3Next(const Checkpoint& checkpoint, const Variant& variant) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  layers_.assign(static_cast<size_t>(shape_.n_layers), read_layer(hparams, variant));
  const int64_t period = hparams.count_or("full_attention_interval", 4, kCount);
  const std::vector<bool> is_recurrent =
      hparams.pattern_or("attention.recurrent_layers", shape_.n_layers, period);
  rope_ = read_head_rope(hparams, layers_[0].attention.sizes.head_dim, RopePairing::half_split);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    layer.is_recurrent = is_recurrent[i];
    layer.attention.rope = rope_.view();
    shape_.kv_layers.push_back(layer.is_recurrent ? KvLayer{} : layer.attention.sizes.kv_layer());
    shape_.state_layers.push_back(layer.is_recurrent ? layer.net.rule.sizes.state_layer() : StateLayer{});
  }
  weights(variant).bind(checkpoint);
  split_fused();
  hparams.refuse_rest();
}

Layer Qwen3Next::read_layer(Hparams& hparams, const Variant& variant) const {
  Layer layer;
  layer.attention = read_attention(hparams, shape_.hidden, ends_.norm_eps);
  Attention& attention = layer.attention;
  attention.has_gate = true;
  if (attention.sizes.v_head_dim != attention.sizes.head_dim) {
    hparams.refuse("attention.value_length", "values as wide as keys are expected: a gate has their width");
  }
  layer.net.rule.sizes = read_delta_sizes(hparams);
  layer.net.rule.norm_eps = ends_.norm_eps;
  // Ollama's converter orders heads as others do not, and says so.
  const bool is_tiled = hparams.flag_or("ssm.v_head_reordered", variant.key_heads == KeyHeads::tiled);
  if (is_tiled && variant.has_fused_ba) {
    hparams.refuse("ssm.v_head_reordered", "it is not implemented where beta and decay are one tensor");
  }
  layer.net.rule.key_heads = is_tiled ? KeyHeads::tiled : KeyHeads::grouped;
  auto& [mlp, moe] = layer.feed_forward;
  moe = read_shared_moe(hparams, shape_.hidden, {});
  if (moe.n_experts == 0) mlp = {.hidden = shape_.hidden, .n_ff = hparams.count("feed_forward_length")};
  return layer;
}

DeltaSizes Qwen3Next::read_delta_sizes(Hparams& hparams) const {
  DeltaSizes sizes{.hidden = shape_.hidden,
                   .n_k_heads = hparams.count("ssm.group_count"),
                   .n_v_heads = hparams.count("ssm.time_step_rank"),
                   .k_head_dim = hparams.count("ssm.state_size"),
                   .n_taps = read_n_taps(hparams)};
  const int64_t v_width = hparams.count("ssm.inner_size");
  if (sizes.n_v_heads % sizes.n_k_heads != 0 || v_width % sizes.n_v_heads != 0) {
    hparams.refuse("ssm.inner_size", fmt::format("{} does not divide among {} value heads, or they do not "
                                                 "among {} key heads",
                                                 v_width, sizes.n_v_heads, sizes.n_k_heads));
  }
  sizes.v_head_dim = v_width / sizes.n_v_heads;
  return sizes;
}

WeightList Qwen3Next::weights(const Variant& variant) {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    if (layer.is_recurrent) {
      list_net(list, layer.net, variant);
    } else {
      list_projections(list, layer.attention);
      list_head_norms(list, layer.attention);
    }
    list.add(layer.ffn_norm, "post_attention_norm.weight", {shape_.hidden});
    auto& [mlp, moe] = layer.feed_forward;
    if (moe.n_experts > 0) {
      list_moe(list, moe);
      list_shared_expert(list, moe);
      list_shared_gate(list, moe);
    } else {
      list_mlp(list, mlp);
    }
  }
  return list;
}

void Qwen3Next::list_net(WeightList& list, DeltaNet& net, const Variant& variant) const {
  const DeltaSizes& sizes = net.rule.sizes;
  const int64_t n_channels = 2 * sizes.k_width() + sizes.v_width();
  list.add(net.qkv, "attn_qkv.weight", {n_channels, sizes.hidden});
  list.add(net.gate, "attn_gate.weight", {sizes.v_width(), sizes.hidden});
  list.add_f32(net.conv, "ssm_conv1d.weight", {n_channels, sizes.n_taps});
  if (variant.has_fused_ba) {
    list.add(net.ba, "ssm_ba.weight", {2 * sizes.n_v_heads, sizes.hidden});
  } else {
    list.add(net.beta, "ssm_beta.weight", {sizes.n_v_heads, sizes.hidden});
    list.add(net.decay, "ssm_alpha.weight", {sizes.n_v_heads, sizes.hidden});
  }
  list.add(net.rule.rate, "ssm_a", {sizes.n_v_heads});
  list.add(net.rule.decay_bias, "ssm_dt.bias", {sizes.n_v_heads});
  list.add(net.rule.norm, "ssm_norm.weight", {sizes.v_head_dim});
  list.add(net.rule.out, "ssm_out.weight", {sizes.hidden, sizes.v_width()});
}

void Qwen3Next::split_fused() {
  for (Layer& layer : layers_) {
    if (!layer.is_recurrent) continue;
    DeltaNet& net = layer.net;
    const int64_t k_begin = net.rule.sizes.k_width(), v_begin = 2 * k_begin;
    net.q = net.qkv.slice(0, k_begin);
    net.k = net.qkv.slice(k_begin, v_begin);
    net.v = net.qkv.slice(v_begin, net.qkv.dim(0));
    net.rule.conv_q = net.conv.slice(0, k_begin);
    net.rule.conv_k = net.conv.slice(k_begin, v_begin);
    net.rule.conv_v = net.conv.slice(v_begin, net.conv.dim(0));
  }
}

Tensor Qwen3Next::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    if (layer.is_recurrent) {
      run_net(pass, layer.net, static_cast<int64_t>(i), stream.normed(), stream.branch());
    } else {
      run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    }
    stream.norm(layer.ffn_norm);
    run_feed_forward(pass, layer.feed_forward, stream.normed(), stream.branch());
  }
  return stream.logits();
}

void Qwen3Next::run_net(const Pass& pass, const DeltaNet& net, int64_t layer, const Tensor& x,
                        const Tensor& out) const {
  const ArenaScope scope(pass.arena);
  const DeltaSizes& sizes = net.rule.sizes;
  const int64_t n_rows = x.dim(0);
  const auto take = [&](int64_t width) { return pass.arena.take(Dtype::f32, {n_rows, width}); };
  const DeltaInputs inputs{.q = take(sizes.k_width()),
                           .k = take(sizes.k_width()),
                           .v = take(sizes.v_width()),
                           .beta = take(sizes.n_v_heads),
                           .decay = take(sizes.n_v_heads),
                           .gate = take(sizes.v_width())};
  pass.backend.run(Linear{.x = x,
                          .products = {{.weight = net.q, .out = inputs.q},
                                       {.weight = net.k, .out = inputs.k},
                                       {.weight = net.v, .out = inputs.v}},
                          .n_products = 3});
  if (net.ba) {
    const Tensor ba = take(2 * sizes.n_v_heads);
    pass.backend.run(
        Linear{.x = x,
               .products = {{.weight = net.gate, .out = inputs.gate}, {.weight = net.ba, .out = ba}},
               .n_products = 2});
    const int64_t n_groups = n_rows * sizes.n_k_heads, n_heads = sizes.n_v_heads / sizes.n_k_heads;
    pass.backend.run(Split{.x = ba.reshaped({n_groups, 2 * n_heads}),
                           .first = inputs.beta.reshaped({n_groups, n_heads}),
                           .second = inputs.decay.reshaped({n_groups, n_heads})});
  } else {
    pass.backend.run(Linear{.x = x,
                            .products = {{.weight = net.gate, .out = inputs.gate},
                                         {.weight = net.beta, .out = inputs.beta},
                                         {.weight = net.decay, .out = inputs.decay}},
                            .n_products = 3});
  }
  run_delta_rule(pass, net.rule, layer, inputs, out);
}

std::unique_ptr<Model> load_qwen3next(const Checkpoint& checkpoint) {
  const auto architecture = checkpoint.metadata().need<std::string_view>("general.architecture");
  return std::make_unique<Qwen3Next>(checkpoint,
                                     *std::ranges::find(kVariants, architecture, &Variant::architecture));
}

// --- Hugging Face --------------------------------------------------------------------------------------

// Heads of the delta nets, of the keys that write_qwen3next has written.
struct NetHeads {
  explicit NetHeads(const Metadata& metadata)
      : arch(metadata.need<std::string_view>("general.architecture")) {
    const auto count = [&](const char* key) { return metadata.need<int64_t>(arch + ".ssm." + key); };
    n_k = count("group_count");
    n_each = count("time_step_rank") / n_k;
    k_dim = count("state_size");
    v_dim = count("inner_size") / (n_k * n_each);
  }
  bool are_tiled() const {
    return std::ranges::find(kVariants, arch, &Variant::architecture)->key_heads == KeyHeads::tiled;
  }

  std::string arch;
  int64_t n_k, n_each;   // key heads, and value heads of each
  int64_t k_dim, v_dim;  // of a head
};

void append(HfOrder& order, int64_t begin, int64_t n) {
  for (int64_t i = 0; i < n; ++i) order.push_back(begin + i);
}

// in_proj_qkvz holds q, k, v and z of the first key head, then of the next. In the file stand q of all heads,
// then k, then v; and z by itself.
HfOrder qkv_of_groups(const Metadata& metadata) {
  const NetHeads heads(metadata);
  const int64_t v = heads.n_each * heads.v_dim, group = 2 * heads.k_dim + 2 * v;
  HfOrder order;
  for (int64_t h = 0; h < heads.n_k; ++h) append(order, h * group, heads.k_dim);
  for (int64_t h = 0; h < heads.n_k; ++h) append(order, h * group + heads.k_dim, heads.k_dim);
  for (int64_t h = 0; h < heads.n_k; ++h) append(order, h * group + 2 * heads.k_dim, v);
  return order;
}
HfOrder z_of_groups(const Metadata& metadata) {
  const NetHeads heads(metadata);
  const int64_t v = heads.n_each * heads.v_dim, group = 2 * heads.k_dim + 2 * v;
  HfOrder order;
  for (int64_t h = 0; h < heads.n_k; ++h) append(order, h * group + 2 * heads.k_dim + v, v);
  return order;
}

// Where the file has them tiled: the first value head of each key head, then the second of each. `width`
// entries a head, behind n_before that stay.
HfOrder tiled(const NetHeads& heads, int64_t n_before, int64_t width) {
  HfOrder order;
  if (!heads.are_tiled()) return order;
  append(order, 0, n_before);
  for (int64_t i = 0; i < heads.n_each; ++i) {
    for (int64_t h = 0; h < heads.n_k; ++h) append(order, n_before + (h * heads.n_each + i) * width, width);
  }
  return order;
}
HfOrder tiled_qkv(const Metadata& metadata) {
  const NetHeads heads(metadata);
  return tiled(heads, 2 * heads.n_k * heads.k_dim, heads.v_dim);
}
HfOrder tiled_values(const Metadata& metadata) {
  const NetHeads heads(metadata);
  return tiled(heads, 0, heads.v_dim);
}
HfOrder tiled_heads(const Metadata& metadata) { return tiled(NetHeads(metadata), 0, 1); }

constexpr HfTensorRule kTensors[] = {
    {"model.norm.weight", "output_norm.weight", HfChange::add_one},
    {"model.layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight", HfChange::add_one},
    {"model.layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight",
     HfChange::add_one},
    {"model.layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight", HfChange::add_one},
    {"model.layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight", HfChange::add_one},
    {"model.layers.{}.linear_attn.in_proj_qkvz.weight", "blk.{}.attn_qkv.weight", HfChange::rows,
     qkv_of_groups},
    {"model.layers.{}.linear_attn.in_proj_qkvz.weight", "blk.{}.attn_gate.weight", HfChange::rows,
     z_of_groups},
    {"model.layers.{}.linear_attn.in_proj_ba.weight", "blk.{}.ssm_ba.weight"},
    {"model.layers.{}.linear_attn.in_proj_qkv.weight", "blk.{}.attn_qkv.weight", HfChange::rows, tiled_qkv},
    {"model.layers.{}.linear_attn.in_proj_z.weight", "blk.{}.attn_gate.weight", HfChange::rows, tiled_values},
    {"model.layers.{}.linear_attn.in_proj_b.weight", "blk.{}.ssm_beta.weight", HfChange::rows, tiled_heads},
    {"model.layers.{}.linear_attn.in_proj_a.weight", "blk.{}.ssm_alpha.weight", HfChange::rows, tiled_heads},
    {"model.layers.{}.linear_attn.conv1d.weight", "blk.{}.ssm_conv1d.weight", HfChange::taps, tiled_qkv},
    {"model.layers.{}.linear_attn.A_log", "blk.{}.ssm_a", HfChange::negative_exp, tiled_heads},
    {"model.layers.{}.linear_attn.dt_bias", "blk.{}.ssm_dt.bias", HfChange::rows, tiled_heads},
    {"model.layers.{}.linear_attn.norm.weight", "blk.{}.ssm_norm.weight"},
    {"model.layers.{}.linear_attn.out_proj.weight", "blk.{}.ssm_out.weight", HfChange::columns, tiled_values},
    {"model.layers.{}.mlp.shared_expert_gate.weight", "blk.{}.ffn_gate_inp_shexp.weight"},
};

void write_net_keys(HfConfig& config, HfKeys& keys) {
  keys.set("ssm.conv_kernel", config.count("linear_conv_kernel_dim"));
  keys.set("ssm.state_size", config.count("linear_key_head_dim"));
  keys.set("ssm.group_count", config.count("linear_num_key_heads"));
  const int64_t n_v_heads = config.count("linear_num_value_heads");
  if (n_v_heads % config.count("linear_num_key_heads") != 0) {
    config.refuse("linear_num_value_heads", "value heads do not divide among the key heads");
  }
  keys.set("ssm.time_step_rank", n_v_heads);
  keys.set("ssm.inner_size", n_v_heads * config.count("linear_value_head_dim"));
  std::vector<bool> is_recurrent =
      periodic_pattern(config.count("num_hidden_layers"), config.count_or("full_attention_interval", 4));
  is_recurrent = read_layer_types(config, {.type = "linear_attention"}, std::move(is_recurrent));
  const int64_t period = std::ranges::find(is_recurrent, false) - is_recurrent.begin() + 1;
  keys.set("full_attention_interval", period);
  if (is_recurrent != periodic_pattern(std::ssize(is_recurrent), period))
    keys.set("attention.recurrent_layers", is_recurrent);
}

void write_qwen35(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  if (!config.flag_or("attn_output_gate", true)) {
    config.refuse("attn_output_gate", "attention without its gate is not implemented for this class");
  }
  config.find("mamba_ssm_dtype");        // states are float32 always
  config.find("mtp_num_hidden_layers");  // those layers are left out, as their tensors are
  config.find("mtp_use_dedicated_embeddings");
  write_decoder_keys(config, keys);
  write_rope_keys(config, keys);
  write_net_keys(config, keys);
}

void write_qwen35_moe(HfConfig& config, HfKeys& keys) {
  write_qwen35(config, keys);
  keys.set("expert_count", config.count("num_experts"));
  keys.set("expert_used_count", config.count("num_experts_per_tok"));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
  keys.set("expert_shared_feed_forward_length", config.count("shared_expert_intermediate_size"));
}

void write_qwen3next(HfConfig& config, HfKeys& keys) {
  if (config.count_or("decoder_sparse_step", 1) != 1) {
    config.refuse("decoder_sparse_step", "only 1 (experts in every layer) is implemented");
  }
  write_qwen35_moe(config, keys);
  keys.set("expert_weights_norm", config.flag_or("norm_topk_prob", true));
}

// A class reads the counts of experts only where it has some.
constexpr std::string_view kDefaults = R"({
  "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "partial_rotary_factor": 0.25, "head_dim": 256,
  "max_position_embeddings": 32768, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
  "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
  "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512})";

constexpr HfModelClass kHfClasses[] = {
    {"qwen3_next", "qwen3next", kDefaults, kTensors, write_qwen3next},
    {"qwen3_5_text", "qwen35", kDefaults, kTensors, write_qwen35},
    {"qwen3_5_moe_text", "qwen35moe", kDefaults, kTensors, write_qwen35_moe},
};

constexpr auto kArchitectures = architectures_of(kVariants);

}  // namespace

Family qwen3next_family() {
  return {.architectures = kArchitectures, .load = load_qwen3next, .hf_classes = kHfClasses};
}

}  // namespace millrace
