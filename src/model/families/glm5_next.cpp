// GLM-5-Next (GLM-5.3-Flash, Zhipu 2026): blocks between hyper-connections, which end in the mean of their
// streams. Three of four layers are Kimi delta attention; the fourth is latent attention that does not
// rotate, to the runs of positions that a pooling indexer selects. Dense layers first, then experts beside
// one that every row uses.
#include <bit>

#include "model/families.h"
#include "model/hf/delta_keys.h"
#include "model/hf/expert_keys.h"
#include "model/hf/keys.h"
#include "model/layers/delta_attention.h"
#include "model/layers/hyper.h"
#include "model/layers/latent_attention.h"
#include "model/layers/mlp.h"

namespace millrace {
namespace {

struct Layer {
  bool is_recurrent = false;
  Tensor attn_norm, ffn_norm;  // (hidden)
  HyperConnection attn_hyper, ffn_hyper;
  LatentAttention latent;  // one of the two
  DeltaAttention delta;
  FeedForward feed_forward;
};

class Glm5Next final : public Model {
 public:
  explicit Glm5Next(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  LatentAttention read_latent(Hparams& hparams) const;
  void read_limits(Hparams& hparams);
  WeightList weights();

  ModelShape shape_;
  Ends ends_;
  HyperSizes hyper_;
  int64_t selected_width_ = 0;
  std::vector<Layer> layers_;
  std::vector<Buffer> made_;  // of weights that the file has in another form
};

Glm5Next::Glm5Next(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  hyper_ = read_hyper_sizes(hparams, shape_.hidden, ends_.norm_eps);
  layers_.assign(static_cast<size_t>(shape_.n_layers),
                 {.attn_hyper = {.sizes = hyper_},
                  .ffn_hyper = {.sizes = hyper_},
                  .latent = read_latent(hparams),
                  .delta = read_delta_attention(hparams, shape_.hidden, ends_.norm_eps)});
  selected_width_ = layers_[0].latent.indexer.selected_width();
  // Without key-value heads a layer is recurrent.
  const std::vector<int64_t> n_kv_heads =
      hparams.counts("attention.head_count_kv", shape_.n_layers, kCountOrNone);
  const std::vector<FeedForward> feed_forwards =
      read_feed_forwards(hparams, shape_, {.score = RouteScore::sigmoid});
  const std::vector<bool> selects = hparams.pattern_or("attention.indexer.types", shape_.n_layers, 0);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    layer.is_recurrent = n_kv_heads[i] == 0;
    if (!layer.is_recurrent && !selects[i])
      hparams.refuse("attention.indexer.types", "layers that share a selection are not implemented");
    layer.feed_forward = feed_forwards[i];
    shape_.kv_layers.push_back(layer.is_recurrent ? KvLayer{} : layer.latent.kv_layer());
    shape_.state_layers.push_back(layer.is_recurrent ? layer.delta.rule.sizes.state_layer() : StateLayer{});
  }
  read_limits(hparams);
  weights().bind(checkpoint);
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i].is_recurrent)
      made_.push_back(make_latent_weights(layers_[i].latent, static_cast<int64_t>(i)));
  }
  hparams.refuse_rest();
}

LatentAttention Glm5Next::read_latent(Hparams& hparams) const {
  LatentAttention latent = read_still_latent_attention(hparams, shape_.hidden);
  if (latent.sizes.q_rank == 0)
    hparams.refuse("attention.q_lora_rank", "an indexer reads the latent of the queries");
  if (latent.sizes.rope_dim != 0) hparams.refuse("rope.dimension_count", "no layer of this one rotates");
  latent.norm_eps = ends_.norm_eps;
  latent.indexer = read_indexer(hparams, shape_.hidden, latent.sizes.q_rank);
  latent.indexer.pool = hparams.count("attention.indexer.kpool", {2, 1 << 16});
  if (!std::has_single_bit(static_cast<uint64_t>(latent.indexer.pool)))
    hparams.refuse("attention.indexer.kpool", "only powers of two divide pages into runs");
  if (latent.indexer.n_selected % latent.indexer.pool != 0)
    hparams.refuse("attention.indexer.top_k", "whole runs are selected");
  if (!hparams.flag_or("attention.indexer.kpool_select_tail", true))
    hparams.refuse("attention.indexer.kpool_select_tail",
                   "positions behind the last whole run are always read");
  return latent;
}

// There is no key of its own for dense feed-forwards.
void Glm5Next::read_limits(Hparams& hparams) {
  const auto read = [&](std::string_view key, const std::vector<double>& otherwise) {
    return hparams.has(key) ? hparams.reals(key, shape_.n_layers, {0.0, 1e6}) : otherwise;
  };
  const std::vector<double> limits = read("swiglu_clamp_exp", std::vector<double>(layers_.size()));
  const std::vector<double> shared = read("swiglu_clamp_shexp", limits);
  for (size_t i = 0; i < layers_.size(); ++i) {
    auto& [mlp, moe] = layers_[i].feed_forward;
    mlp.limit = moe.limit = static_cast<float>(limits[i]);
    moe.shared.limit = static_cast<float>(shared[i]);
  }
}

WeightList Glm5Next::weights() {
  WeightList list;
  list_ends(list, ends_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list_hyper(list, layer.attn_hyper, "hc_attn");
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    if (layer.is_recurrent) {
      list_delta_attention(list, layer.delta);
    } else {
      list_latent_attention(list, layer.latent);
    }
    list_hyper(list, layer.ffn_hyper, "hc_ffn");
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    list_feed_forward(list, layer.feed_forward);
  }
  return list;
}

Tensor Glm5Next::forward(const Pass& pass) const {
  HyperStream stream(pass, ends_, hyper_);
  const Tensor selected = pass.arena.take(Dtype::i32, {pass.batch.n_rows(), selected_width_});
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const auto index = static_cast<int64_t>(i);
    stream.collapse(layer.attn_hyper, layer.attn_norm);
    if (layer.is_recurrent) {
      run_delta_attention(pass, layer.delta, index, stream.normed(), stream.branch());
    } else {
      run_latent_attention(
          pass, layer.latent,
          {.layer = index, .x = stream.normed(), .out = stream.branch(), .selected = selected});
    }
    stream.expand();
    stream.collapse(layer.ffn_hyper, layer.ffn_norm);
    run_feed_forward(pass, layer.feed_forward, stream.normed(), stream.branch());
    stream.expand();
  }
  return stream.logits();
}

std::unique_ptr<Model> load_glm5_next(const Checkpoint& checkpoint) {
  return std::make_unique<Glm5Next>(checkpoint);
}

// --- Hugging Face --------------------------------------------------------------------------------------

constexpr HfTensorRule kTensors[] = {
    {"model.layers.{}.hc_attn_fn", "blk.{}.hc_attn_fn.weight"},
    {"model.layers.{}.hc_attn_base", "blk.{}.hc_attn_base.weight"},
    {"model.layers.{}.hc_attn_scale", "blk.{}.hc_attn_scale.weight"},
    {"model.layers.{}.hc_ffn_fn", "blk.{}.hc_ffn_fn.weight"},
    {"model.layers.{}.hc_ffn_base", "blk.{}.hc_ffn_base.weight"},
    {"model.layers.{}.hc_ffn_scale", "blk.{}.hc_ffn_scale.weight"},
    {"model.layers.{}.self_attn.indexer.index_kpool_compress_gate", "blk.{}.indexer_compressor_gate.weight"},
    {"model.layers.{}.self_attn.indexer.index_kpool_compress_ape", "blk.{}.indexer_compressor_ape.weight",
     HfChange::as_f32},
};

void expect_true(HfConfig& config, std::string_view key) {
  if (!config.flag_or(key, true)) config.refuse(key, "only true is implemented");
}

void write_pooling_indexer(HfConfig& config, HfKeys& keys) {
  for (const std::string_view key :
       {"index_kpool_compress", "index_kpool_always_select_tail", "indexer_rope_interleave"})
    expect_true(config, key);
  write_indexer_keys(config, keys);
  keys.set("attention.indexer.kpool", config.count("index_kpool"));
  if (!config.has("indexer_types")) return;
  for (const std::string& type : config.texts("indexer_types")) {
    if (type != "full")
      config.refuse("indexer_types", fmt::format("{} is not implemented for this class", printable(type)));
  }
}

void write_glm5_next(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  config.texts("layer_types");  // the lists of linear_attn_config count from 0 here, and repeat it
  config.expect("topk_method", "noaux_tc");
  expect_true(config, "mhc");
  expect_true(config, "mla_use_nope");
  if (config.count("qk_rope_head_dim", kCountOrNone) != 0)
    config.refuse("qk_rope_head_dim", "attention that rotates is not implemented for this class");
  for (const std::string_view key : {"moe_router_dtype", "index_share_for_mtp_iteration"})
    config.find(key);  // routers are float32 always, and layers that draft are left out
  const int64_t n_heads = config.count("num_attention_heads");
  if (config.count_or("num_key_value_heads", n_heads) != n_heads)
    config.refuse("num_key_value_heads", "latent attention has keys and values for every head");
  write_body_keys(config, keys);
  keys.set("feed_forward_length", config.count("intermediate_size"));
  write_latent_size_keys(config, keys);
  write_pooling_indexer(config, keys);
  write_delta_keys(config, keys,
                   {.attention_types = {"deepseek_sparse_attention", "full_attention"}, .has_floor = true});
  write_expert_keys(config, keys, Gating::sigmoid);
  write_hyper_keys(config, keys);
  const double limit = config.real_or("swiglu_limit", 0.0, {0.0, 1e6});
  const std::vector<double> limits(static_cast<size_t>(config.count("num_hidden_layers")), limit);
  keys.set("swiglu_clamp_exp", limits);
  keys.set("swiglu_clamp_shexp", limits);
  keys.set("attention.layer_norm_epsilon",
           1e-6);  // of the indexer's norm, which other readers take from here
}

constexpr std::string_view kDefaults = R"({
  "rms_norm_eps": 1e-5, "max_position_embeddings": 1048576, "first_k_dense_replace": 3, "kv_lora_rank": 512,
  "q_lora_rank": 1536, "qk_nope_head_dim": 256, "qk_rope_head_dim": 0, "v_head_dim": 256,
  "index_topk": 2048, "index_head_dim": 128, "index_n_heads": 32, "index_kpool": 16,
  "linear_head_dim": 128, "linear_num_heads": 64, "linear_conv_kernel_dim": 4, "linear_lower_bound": -5.0,
  "n_routed_experts": 288, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
  "routed_scaling_factor": 2.5, "norm_topk_prob": true, "swiglu_limit": 10.0,
  "hc_mult": 4, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6})";

constexpr HfModelClass kHfClasses[] = {
    {"glm5_next", "glm5-next", kDefaults, kTensors, write_glm5_next},
    {"glm5_next_text", "glm5-next", kDefaults, kTensors, write_glm5_next},
};
constexpr std::string_view kArchitectures[] = {"glm5-next", "glm5next"};  // two names of one, in files

// As llama.cpp's quantize tool has it: what is small and decides much.
constexpr WeightRule kWeightRules[] = {
    {"hc_"},     {"indexer."}, {"indexer_compressor"}, {"ssm_beta"}, {"ssm_f_a"},  {"ssm_f_b"},
    {"ssm_g_a"}, {"ssm_g_b"},  {"attn_kv_a_mqa"},      {"attn_k_b"}, {"attn_v_b"}, {"attn_q_a.", Dtype::q8_0},
};

}  // namespace

Family glm5_next_family() {
  return {.architectures = kArchitectures,
          .load = load_glm5_next,
          .hf_classes = kHfClasses,
          .has_latents = true,
          .weight_rules = kWeightRules};
}

}  // namespace millrace
