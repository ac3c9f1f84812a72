// DeepSeek (V2 to V3.2) and who followed: pre-norm blocks of latent attention, and experts beside one that
// every row uses. Some read only the positions that an indexer selects.
#include <algorithm>
#include <array>
#include <cmath>

#include "model/families.h"
#include "model/hf/expert_keys.h"
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
  FeedForward feed_forward;
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
    made_.push_back(make_latent_weights(layers_[i].attention, static_cast<int64_t>(i)));
  hparams.refuse_rest();
}

void Deepseek::read_layers(Hparams& hparams, const Checkpoint& checkpoint) {
  // Old files do not say how experts score; those with a bias of the choice are V3's.
  const std::string bias = fmt::format("blk.{}.exp_probs_b.bias", shape_.n_layers - 1);
  const RouteScore otherwise = checkpoint.find(bias) != nullptr ? RouteScore::sigmoid : RouteScore::softmax;
  const LatentSizes sizes = read_latent_sizes(hparams, shape_.hidden);
  for (const FeedForward& each :
       read_feed_forwards(hparams, shape_, {.score = otherwise, .is_renormalised = false})) {
    layers_.push_back({.attention = {.sizes = sizes}, .feed_forward = each});
  }
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
  if (sizes.rope_dim == 0) hparams.refuse("rope.dimension_count", "this architecture rotates");
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
    list_feed_forward(list, layer.feed_forward);
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
    run_feed_forward(pass, layer.feed_forward, stream.normed(), stream.branch());
  }
  return stream.logits();
}

std::unique_ptr<Model> load_deepseek(const Checkpoint& checkpoint) {
  const auto architecture = checkpoint.metadata().need<std::string_view>("general.architecture");
  return std::make_unique<Deepseek>(checkpoint,
                                    *std::ranges::find(kVariants, architecture, &Variant::architecture));
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
  write_expert_keys(config, keys, Gating::softmax);
}

void write_v3(HfConfig& config, HfKeys& keys) {
  write_latent(config, keys);
  config.expect("topk_method", "noaux_tc");
  write_expert_keys(config, keys, Gating::sigmoid);
}

void write_mistral4(HfConfig& config, HfKeys& keys) {
  write_latent(config, keys);
  if (config.count_or("n_group", 1) != 1) config.refuse("n_group", "only 1 is implemented for this class");
  write_expert_keys(config, keys, Gating::softmax);
}

void write_v32(HfConfig& config, HfKeys& keys) {
  write_v3(config, keys);
  write_indexer_keys(config, keys);
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
    {"deepseek_v2", "deepseek2", kV2Defaults, {}, write_v2},
    {"deepseek_v3", "deepseek2", kV3Defaults, {}, write_v3},
    {"kimi_k2", "deepseek2", kV3Defaults, {}, write_v3},
    {"glm4_moe_lite", "deepseek2", kGlmLiteDefaults, {}, write_v3},
    {"mistral4", "mistral4", kMistral4Defaults, {}, write_mistral4},
    {kParamsLatent, "mistral4", R"({"norm_topk_prob": true})", kParamsTensors, write_mistral4},
    {"deepseek_v32", "deepseek32", kV32Defaults, {}, write_v32},
    {"glm_moe_dsa", "glm-dsa", kGlmDsaDefaults, {}, write_glm_dsa},
};

constexpr auto kArchitectures = architectures_of(kVariants);

}  // namespace

Family deepseek_family() {
  return {
      .architectures = kArchitectures, .load = load_deepseek, .hf_classes = kHfClasses, .has_latents = true};
}

}  // namespace millrace
