// DeepSeek (V2 to V3.2) and who followed: pre-norm blocks of latent attention, and experts beside one that
// every row uses. Some read only the positions that an indexer selects.
#include <algorithm>
#include <array>
#include <cmath>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/hf/params.h"
#include "model/layers/latent_attention.h"
#include "model/layers/mlp.h"
#include "model/layers/rope.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

struct Variant {
  std::string_view architecture;
  bool has_indexer = false;
  RopePairing index_pairing = RopePairing::half_split;
};

constexpr Variant kVariants[] = {
    {.architecture = "deepseek2"},
    {.architecture = "mistral4"},
    {.architecture = "deepseek32", .has_indexer = true},
    {.architecture = "glm-dsa", .has_indexer = true, .index_pairing = RopePairing::adjacent},
};

struct Layer {
  Tensor attn_norm, ffn_norm;  // (hidden)
  LatentAttention attention;
  Mlp mlp;  // one of the two
  Moe moe;
};

class Deepseek final : public Model {
 public:
  Deepseek(const Checkpoint& checkpoint, const Variant& variant);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  void read_layers(Hparams& hparams, const Checkpoint& checkpoint);
  void read_indexers(Hparams& hparams, const Checkpoint& checkpoint);
  void read_positions(Hparams& hparams, const Variant& variant);
  WeightList weights();

  ModelShape shape_;
  Ends ends_;
  std::vector<Layer> layers_;
  int64_t n_selected_ = 0;  // by an indexer; 0: there is none
  RopeTable rope_, index_rope_;
  std::vector<Buffer> made_;  // of weights that the file has in another form
};

Deepseek::Deepseek(const Checkpoint& checkpoint, const Variant& variant) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  read_layers(hparams, checkpoint);
  if (variant.has_indexer) read_indexers(hparams, checkpoint);
  read_positions(hparams, variant);
  for (const Layer& layer : layers_) shape_.kv_layers.push_back(layer.attention.kv_layer());
  weights().bind(checkpoint);
  for (size_t i = 0; i < layers_.size(); ++i)
    made_.push_back(split_kv_b(layers_[i].attention, static_cast<int64_t>(i)));
  hparams.refuse_rest();
}

void Deepseek::read_layers(Hparams& hparams, const Checkpoint& checkpoint) {
  Layer layer;
  // Old files do not say how experts score; those with a bias of the choice are V3's.
  const std::string bias = fmt::format("blk.{}.exp_probs_b.bias", shape_.n_layers - 1);
  const RouteScore otherwise = checkpoint.find(bias) != nullptr ? RouteScore::sigmoid : RouteScore::softmax;
  layer.attention.sizes = read_latent_sizes(hparams, shape_.hidden);
  layer.moe = read_shared_moe(hparams, shape_.hidden, {.score = otherwise, .is_renormalised = false});
  layers_.assign(static_cast<size_t>(shape_.n_layers), layer);
  const int64_t n_dense =
      layer.moe.n_experts > 0 ? hparams.count_or("leading_dense_block_count", 0) : shape_.n_layers;
  for (int64_t i = 0; i < std::min(n_dense, shape_.n_layers); ++i) {
    layers_[static_cast<size_t>(i)].moe = {};
    layers_[static_cast<size_t>(i)].mlp = {.hidden = shape_.hidden,
                                           .n_ff = hparams.count("feed_forward_length")};
  }
  hparams.count_or("feed_forward_length", 0);
}

// Which layers select positions; the others take the selection of the last one that does. A file that does
// not say has an indexer wherever it has the weights of one.
void Deepseek::read_indexers(Hparams& hparams, const Checkpoint& checkpoint) {
  const LatentSizes& sizes = layers_[0].attention.sizes;
  if (sizes.q_rank == 0)
    hparams.refuse("attention.q_lora_rank", "an indexer reads the latent of the queries");
  const Indexer indexer = read_indexer(hparams, sizes.hidden, sizes.q_rank);
  n_selected_ = indexer.n_selected;
  std::vector<bool> selects = hparams.pattern_or("attention.indexer.types", shape_.n_layers, 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!hparams.has("attention.indexer.types"))
      selects[i] = checkpoint.find(fmt::format("blk.{}.indexer.attn_q_b.weight", i)) != nullptr;
    if (selects[i]) layers_[i].attention.indexer = indexer;
  }
  if (!selects[0]) hparams.refuse("attention.indexer.types", "the first layer has no selection to share");
}

// Rotation, scale of the scores and of the queries.
void Deepseek::read_positions(Hparams& hparams, const Variant& variant) {
  const LatentSizes& sizes = layers_[0].attention.sizes;
  RopeKind kind{.n_rotary = sizes.rope_dim,
                .base = hparams.real_or("rope.freq_base", 10000.0, kRopeBase),
                .pairing = RopePairing::adjacent,
                .grows_scores = true};
  rope_ = read_rope(hparams, kind, Tensor());
  kind.pairing = variant.index_pairing;
  index_rope_ = read_rope(hparams, kind, Tensor());
  const double growth = read_score_growth(hparams);
  const double scale = growth * growth / std::sqrt(static_cast<double>(sizes.head_dim()));
  const double q_scale_beta = hparams.real_or("attention.temperature_scale", 0.0, {0.0, 1e3});
  double q_scale_length = 1.0;
  if (q_scale_beta > 0.0) {
    q_scale_length = hparams.has("attention.temperature_length")
                         ? hparams.real("attention.temperature_length")
                         : hparams.real("rope.scaling.original_context_length");
  }
  for (Layer& layer : layers_) {
    layer.attention.rope = rope_.view();
    layer.attention.indexer.rope = index_rope_.view();
    layer.attention.scale = static_cast<float>(scale);
    layer.attention.q_scale_beta = static_cast<float>(q_scale_beta);
    layer.attention.q_scale_length = static_cast<float>(q_scale_length);
  }
}

WeightList Deepseek::weights() {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_latent_attention(list, layer.attention);
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    if (layer.moe.n_experts > 0) {
      list_shared_moe(list, layer.moe);
    } else {
      list_mlp(list, layer.mlp);
    }
  }
  return list;
}

Tensor Deepseek::forward(const Pass& pass) const {
  Stream stream(pass, ends_);
  Tensor selected;  // (n_rows, n_selected)
  if (n_selected_ > 0) selected = pass.arena.take(Dtype::i32, {pass.batch.n_rows(), n_selected_});
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.norm(layer.attn_norm);
    run_latent_attention(pass, layer.attention,
                         {.layer = static_cast<int64_t>(i),
                          .x = stream.normed(),
                          .out = stream.branch(),
                          .selected = selected});
    stream.norm(layer.ffn_norm);
    if (layer.moe.n_experts > 0) {
      run_moe(pass, layer.moe, stream.normed(), stream.branch());
    } else {
      run_mlp(pass, layer.mlp, stream.normed(), stream.branch());
    }
  }
  return stream.logits();
}

std::unique_ptr<Model> load_deepseek(const Checkpoint& checkpoint) {
  const auto architecture = checkpoint.metadata().need<std::string_view>("general.architecture");
  return std::make_unique<Deepseek>(checkpoint,
                                    *std::ranges::find(kVariants, architecture, &Variant::architecture));
}

constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.self_attn.q_a_proj.weight", "blk.{}.attn_q_a.weight"},
    {"model.layers.{}.self_attn.q_a_layernorm.weight", "blk.{}.attn_q_a_norm.weight"},
    {"model.layers.{}.self_attn.q_b_proj.weight", "blk.{}.attn_q_b.weight"},
    {"model.layers.{}.self_attn.kv_a_proj_with_mqa.weight", "blk.{}.attn_kv_a_mqa.weight"},
    {"model.layers.{}.self_attn.kv_a_layernorm.weight", "blk.{}.attn_kv_a_norm.weight"},
    {"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_k_b.weight", HfChange::latent_keys},
    {"model.layers.{}.self_attn.kv_b_proj.weight", "blk.{}.attn_v_b.weight", HfChange::latent_values},
    {"model.layers.{}.self_attn.indexer.wq_b.weight", "blk.{}.indexer.attn_q_b.weight"},
    {"model.layers.{}.self_attn.indexer.wk.weight", "blk.{}.indexer.attn_k.weight"},
    {"model.layers.{}.self_attn.indexer.k_norm.weight", "blk.{}.indexer.k_norm.weight"},
    {"model.layers.{}.self_attn.indexer.k_norm.bias", "blk.{}.indexer.k_norm.bias"},
    {"model.layers.{}.self_attn.indexer.weights_proj.weight", "blk.{}.indexer.proj.weight"},
    {"model.layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"model.layers.{}.mlp.gate.e_score_correction_bias", "blk.{}.exp_probs_b.bias"},
    {"model.layers.{}.mlp.experts.{e}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.up_proj.weight", "blk.{}.ffn_up_exps.weight"},
    {"model.layers.{}.mlp.experts.{e}.down_proj.weight", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_gate_exps.weight", HfChange::first_half},
    {"model.layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_up_exps.weight", HfChange::second_half},
    {"model.layers.{}.mlp.experts.down_proj", "blk.{}.ffn_down_exps.weight"},
    {"model.layers.{}.mlp.shared_experts.gate_proj.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"model.layers.{}.mlp.shared_experts.up_proj.weight", "blk.{}.ffn_up_shexp.weight"},
    {"model.layers.{}.mlp.shared_experts.down_proj.weight", "blk.{}.ffn_down_shexp.weight"},
};

// The leading layers without experts, in either spelling.
int64_t count_dense_layers(HfConfig& config) {
  const int64_t n_layers = config.count("num_hidden_layers");
  const int64_t n_first = config.count_or("first_k_dense_replace", 0, kCountOrNone);
  if (!config.has("mlp_layer_types")) return std::min(n_first, n_layers);
  const std::vector<std::string> types = config.texts("mlp_layer_types");
  const auto first_sparse = std::ranges::find(types, "sparse");
  const bool is_led = std::all_of(types.begin(), first_sparse, [](const auto& t) { return t == "dense"; }) &&
                      std::all_of(first_sparse, types.end(), [](const auto& t) { return t == "sparse"; });
  if (!is_led || std::ssize(types) != n_layers)
    config.refuse("mlp_layer_types", "only dense layers before sparse ones are implemented");
  return first_sparse - types.begin();
}

enum class Gating { softmax = 1, sigmoid = 2 };  // the values of expert_gating_func

void write_experts(HfConfig& config, HfKeys& keys, Gating gating) {
  config.expect("scoring_func", gating == Gating::softmax ? "softmax" : "sigmoid");
  if (config.count_or("moe_layer_freq", 1) != 1)
    config.refuse("moe_layer_freq", "only 1 (experts in every layer) is implemented");
  keys.set("leading_dense_block_count", count_dense_layers(config));
  keys.set("expert_count", config.count("n_routed_experts"));
  keys.set("expert_used_count", config.count("num_experts_per_tok"));
  keys.set("expert_shared_count", config.count_or("n_shared_experts", 0, kCountOrNone));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
  keys.set("expert_gating_func", static_cast<int64_t>(gating));
  keys.set("expert_weights_scale", config.real_or("routed_scaling_factor", 1.0));
  keys.set("expert_weights_norm", config.flag_or("norm_topk_prob", gating == Gating::sigmoid));
  const int64_t n_groups = config.count_or("n_group", 1);
  const int64_t n_groups_used = config.count_or("topk_group", 1);
  if (n_groups > 1 && config.text_or("topk_method", "") != "greedy") {
    keys.set("expert_group_count", n_groups);
    keys.set("expert_group_used_count", n_groups_used);
  }
}

void write_latent(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  if (!config.flag_or("rope_interleave", true))
    config.refuse("rope_interleave", "only true (adjacent pairs) is implemented");
  write_latent_keys(config, keys);
}

void write_v2(HfConfig& config, HfKeys& keys) {
  write_latent(config, keys);
  const std::string method = config.text_or("topk_method", "greedy");
  if (method != "greedy" && method != "group_limited_greedy")
    config.refuse("topk_method", fmt::format("{} is not implemented for this class", printable(method)));
  if (config.flag_or("norm_topk_prob", false))
    config.refuse("norm_topk_prob", "only false is implemented for this class");
  write_experts(config, keys, Gating::softmax);
}

void write_v3(HfConfig& config, HfKeys& keys) {
  write_latent(config, keys);
  config.expect("topk_method", "noaux_tc");
  write_experts(config, keys, Gating::sigmoid);
}

void write_mistral4(HfConfig& config, HfKeys& keys) {
  write_latent(config, keys);
  if (config.count_or("n_group", 1) != 1) config.refuse("n_group", "only 1 is implemented for this class");
  write_experts(config, keys, Gating::softmax);
}

void write_v32(HfConfig& config, HfKeys& keys) {
  write_v3(config, keys);
  keys.set("attention.indexer.head_count", config.count("index_n_heads"));
  keys.set("attention.indexer.key_length", config.count("index_head_dim"));
  keys.set("attention.indexer.top_k", config.count("index_topk"));
  if (!config.has("layer_types")) return;
  for (const std::string& type : config.texts("layer_types")) {
    if (type != "deepseek_sparse_attention")
      config.refuse("layer_types", fmt::format("{} is not implemented", printable(type)));
  }
}

// Which layers have an indexer: a list, a pattern of letters, or one in every index_topk_freq after the
// first.
std::vector<bool> indexed_layers(HfConfig& config) {
  const int64_t n_layers = config.count("num_hidden_layers");
  std::vector<std::string> types;
  const int64_t period = config.count_or("index_topk_freq", 1);
  const int64_t n_first = config.count_or("index_skip_topk_offset", 2, kCountOrNone);
  const Json* pattern = config.find("index_topk_pattern");
  if (config.has("indexer_types")) {
    types = config.texts("indexer_types");
  } else if (pattern != nullptr && pattern->is_string()) {
    for (const char letter : pattern->as_string())
      types.push_back(letter == 'F' ? "full" : letter == 'S' ? "shared" : "");
  } else {
    for (int64_t i = 0; i < n_layers; ++i)
      types.push_back(std::max<int64_t>(i - n_first + 1, 0) % period == 0 ? "full" : "shared");
  }
  std::vector<bool> has_indexer;
  for (const std::string& type : types) {
    if (type != "full" && type != "shared")
      config.refuse("indexer_types", fmt::format("{} is not implemented", printable(type)));
    has_indexer.push_back(type == "full");
  }
  if (std::ssize(types) != n_layers)
    config.refuse("indexer_types", fmt::format("{} entries for {} layers", types.size(), n_layers));
  return has_indexer;
}

void write_glm_dsa(HfConfig& config, HfKeys& keys) {
  if (config.has("indexer_rope_interleave") && !config.flag_or("indexer_rope_interleave", true))
    config.refuse("indexer_rope_interleave", "only true is implemented");
  write_v32(config, keys);
  keys.set("attention.indexer.types", indexed_layers(config));
}

constexpr std::string_view kV2Defaults = R"({
  "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "topk_method": "greedy", "norm_topk_prob": false,
  "first_k_dense_replace": 0, "kv_lora_rank": 512, "q_lora_rank": 1536, "n_routed_experts": 64,
  "n_shared_experts": 2, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
  "num_experts_per_tok": 2, "moe_intermediate_size": 1407, "routed_scaling_factor": 1.0})";
constexpr std::string_view kV3Defaults = R"({
  "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "first_k_dense_replace": 3, "kv_lora_rank": 512,
  "q_lora_rank": 1536, "n_routed_experts": 256, "n_shared_experts": 1, "qk_nope_head_dim": 128,
  "qk_rope_head_dim": 64, "v_head_dim": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
  "routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4, "norm_topk_prob": true})";
constexpr std::string_view kGlmLiteDefaults = R"({
  "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "first_k_dense_replace": 1, "kv_lora_rank": 512,
  "q_lora_rank": 768, "n_routed_experts": 64, "n_shared_experts": 1, "qk_nope_head_dim": 192,
  "qk_rope_head_dim": 64, "v_head_dim": 256, "num_experts_per_tok": 4, "moe_intermediate_size": 1536,
  "routed_scaling_factor": 1.8, "norm_topk_prob": true})";
constexpr std::string_view kMistral4Defaults = R"({
  "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "kv_lora_rank": 256, "q_lora_rank": 1024,
  "n_routed_experts": 128, "n_shared_experts": 1, "qk_nope_head_dim": 64, "qk_rope_head_dim": 64,
  "v_head_dim": 128, "num_experts_per_tok": 4, "moe_intermediate_size": 2048,
  "routed_scaling_factor": 1.0, "norm_topk_prob": true})";
constexpr std::string_view kGlmDsaDefaults = R"({
  "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "first_k_dense_replace": 3, "kv_lora_rank": 512,
  "q_lora_rank": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "qk_nope_head_dim": 192,
  "qk_rope_head_dim": 64, "v_head_dim": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
  "routed_scaling_factor": 2.5, "norm_topk_prob": true, "index_topk": 2048, "index_head_dim": 128,
  "index_n_heads": 32})";
constexpr std::string_view kV32Defaults = R"({
  "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "first_k_dense_replace": 3, "kv_lora_rank": 512,
  "q_lora_rank": 1536, "n_routed_experts": 256, "n_shared_experts": 1, "qk_nope_head_dim": 128,
  "qk_rope_head_dim": 64, "v_head_dim": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
  "routed_scaling_factor": 2.5, "n_group": 8, "topk_group": 4, "norm_topk_prob": true,
  "index_topk": 2048, "index_head_dim": 128, "index_n_heads": 64})";

constexpr HfModelClass kHfClasses[] = {
    {"deepseek_v2", "deepseek2", kV2Defaults, kTensors, write_v2},
    {"deepseek_v3", "deepseek2", kV3Defaults, kTensors, write_v3},
    {"kimi_k2", "deepseek2", kV3Defaults, kTensors, write_v3},
    {"glm4_moe_lite", "deepseek2", kGlmLiteDefaults, kTensors, write_v3},
    {"mistral4", "mistral4", kMistral4Defaults, kTensors, write_mistral4},
    {kParamsLatent, "mistral4", R"({"norm_topk_prob": true})", kParamsTensors, write_mistral4},
    {"deepseek_v32", "deepseek32", kV32Defaults, kTensors, write_v32},
    {"glm_moe_dsa", "glm-dsa", kGlmDsaDefaults, kTensors, write_glm_dsa},
};

constexpr auto kArchitectures = architectures_of(kVariants);

}  // namespace

Family deepseek_family() {
  return {.architectures = kArchitectures, .load = load_deepseek, .hf_classes = kHfClasses};
}

}  // namespace millrace
