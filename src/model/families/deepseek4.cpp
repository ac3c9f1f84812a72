// DeepSeek-V4: blocks between hyper-connections, of attention to one key for all heads, which is the value
// too: a window of positions, and before it entries that stand for runs of them, all or selected ones.
// Experts are chosen by the token in the first layers.
#include <algorithm>
#include <bit>
#include <cmath>

#include "model/families.h"
#include "model/hf/keys.h"
#include "model/layers/compressor.h"
#include "model/layers/hyper.h"
#include "model/layers/mlp.h"
#include "model/layers/rope.h"
#include "model/layers/stream.h"

namespace millrace {
namespace {

// What makes entries of runs of positions; rows of several halves overlap.
struct Attention {
  Tensor q_a, q_a_norm, q_b;  // (q_rank, hidden), (q_rank), (n_heads * head_dim, q_rank)
  Tensor kv, kv_norm;         // (head_dim, hidden), (head_dim)
  Tensor sinks;               // (n_heads)
  Tensor out_a;               // (n_groups * out_rank, n_heads * head_dim / n_groups)
  Tensor out_b;               // (hidden, n_groups * out_rank)
  Compressor compressor;      // stride 0: the layer has positions alone
  EntryIndexer indexer;       // n_heads 0: the layer has none, and reads all entries
  const RopeTable* rope = nullptr;
  const RopeTable* inverse_rope = nullptr;
};

struct Layer {
  Tensor attn_norm, ffn_norm;  // (hidden)
  HyperConnection attn_hyper, ffn_hyper;
  Attention attention;
  Moe moe;
};

class Deepseek4 final : public Model {
 public:
  explicit Deepseek4(const Checkpoint& checkpoint);

  const ModelShape& shape() const override { return shape_; }
  Tensor forward(const Pass& pass) const override;

 private:
  void read_layers(Hparams& hparams, const Checkpoint& checkpoint);
  void read_ropes(Hparams& hparams);
  void list_attention(WeightList& list, Attention& attention);
  WeightList weights();
  void check_tables() const;
  void run_attention(const Pass& pass, const Attention& attention, int64_t layer, const Tensor& x,
                     const Tensor& out) const;

  ModelShape shape_;
  Ends ends_;
  int64_t n_heads_ = 0, head_dim_ = 0, n_rotary_ = 0, q_rank_ = 0, n_groups_ = 0, out_rank_ = 0, window_ = 0;
  HyperSizes hyper_;
  HyperConnection head_;
  std::vector<Layer> layers_;
  RopeTable rope_, inverse_rope_;                    // of layers with positions alone
  RopeTable compress_rope_, inverse_compress_rope_;  // of the others, and of entries
};

Deepseek4::Deepseek4(const Checkpoint& checkpoint) {
  Hparams hparams(checkpoint.metadata());
  shape_ = read_shape(hparams, checkpoint);
  ends_ = read_ends(hparams, shape_);
  n_heads_ = hparams.count("attention.head_count");
  head_dim_ = hparams.count("attention.key_length");
  if (hparams.count_or("attention.value_length", head_dim_) != head_dim_)
    hparams.refuse("attention.value_length", "values are the keys");
  if (hparams.count_or("attention.head_count_kv", 1) != 1)
    hparams.refuse("attention.head_count_kv", "all heads read one key");
  n_rotary_ = read_n_rotary(hparams, head_dim_);
  q_rank_ = hparams.count("attention.q_lora_rank");
  n_groups_ = hparams.count("attention.output_group_count");
  out_rank_ = hparams.count("attention.output_lora_rank");
  if (n_heads_ * head_dim_ % n_groups_ != 0)
    hparams.refuse("attention.output_group_count", "the heads do not divide among the groups");
  window_ = hparams.count("attention.sliding_window", {1, INT32_MAX});
  hyper_ = read_hyper_sizes(hparams, shape_.hidden, ends_.norm_eps);
  read_ropes(hparams);
  read_layers(hparams, checkpoint);
  weights().bind(checkpoint);
  check_tables();
  hparams.refuse_rest();
}

// The output is turned back at the position of its query, since values are keys and have been turned.
void Deepseek4::read_ropes(Hparams& hparams) {
  const double base = hparams.real_or("rope.freq_base", 10000.0, kRopeBase);
  const double compress_base = hparams.real_or("attention.compress_rope_freq_base", base, kRopeBase);
  const std::vector<double> plain = rope_frequencies(n_rotary_, base);
  std::vector<double> compressed = rope_frequencies(n_rotary_, compress_base);
  // Scaling is of compressed layers alone, and cos and sin do not grow.
  const std::string type = hparams.text_or("rope.scaling.type", "none");
  if (type == "yarn") {
    scale_yarn(compressed, compress_base,
               {.factor = hparams.real("rope.scaling.factor", kRopeFactor),
                .original_context = hparams.real("rope.scaling.original_context_length"),
                .beta_fast = hparams.real_or("rope.scaling.yarn_beta_fast", 32.0),
                .beta_slow = hparams.real_or("rope.scaling.yarn_beta_slow", 1.0)});
  } else if (type != "none") {
    hparams.refuse("rope.scaling.type", fmt::format("{} is not implemented", printable(type)));
  }
  const auto inverse = [](std::vector<double> frequencies) {
    for (double& frequency : frequencies) frequency = -frequency;
    return RopeTable(frequencies, 1.0, RopePairing::adjacent);
  };
  rope_ = RopeTable(plain, 1.0, RopePairing::adjacent);
  compress_rope_ = RopeTable(compressed, 1.0, RopePairing::adjacent);
  inverse_rope_ = inverse(plain);
  inverse_compress_rope_ = inverse(compressed);
}

void Deepseek4::read_layers(Hparams& hparams, const Checkpoint& checkpoint) {
  const EntryIndexer indexer{.n_heads = hparams.count("attention.indexer.head_count"),
                             .head_dim = hparams.count("attention.indexer.key_length"),
                             .n_selected = hparams.count("attention.indexer.top_k")};
  const std::vector<int64_t> strides =
      hparams.counts("attention.compress_ratios", shape_.n_layers, {0, 1 << 16});
  const std::vector<double> limits = hparams.has("swiglu_clamp_exp")
                                         ? hparams.reals("swiglu_clamp_exp", shape_.n_layers, {0.0, 1e6})
                                         : std::vector<double>(static_cast<size_t>(shape_.n_layers));
  const int64_t n_hash_layers = hparams.count_or("hash_layer_count", 0);
  layers_.resize(static_cast<size_t>(shape_.n_layers));
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    Attention& attention = layer.attention;
    const int64_t stride = strides[i];
    if (stride == 1 || (stride > 0 && !std::has_single_bit(static_cast<uint64_t>(stride))))
      hparams.refuse("attention.compress_ratios", "only powers of two divide pages into runs");
    attention.rope = stride > 0 ? &compress_rope_ : &rope_;
    attention.inverse_rope = stride > 0 ? &inverse_compress_rope_ : &inverse_rope_;
    KvLayer kv{.n_kv_heads = 1, .k_head_dim = head_dim_, .v_head_dim = 0, .window = window_};
    const bool has_indexer =
        stride > 0 && checkpoint.find(fmt::format("blk.{}.indexer.attn_q_b.weight", i)) != nullptr;
    if (stride > 0)
      attention.compressor = make_compressor(kv, stride, head_dim_, has_indexer ? 2 * head_dim_ : head_dim_);
    if (has_indexer) {
      attention.indexer = indexer;
      attention.indexer.compressor = make_compressor(kv, stride, indexer.head_dim, 2 * indexer.head_dim);
    }
    shape_.kv_layers.push_back(kv);
    layer.moe = read_shared_moe(hparams, shape_.hidden, {.score = RouteScore::sqrt_softplus});
    layer.moe.chooses_by_token = static_cast<int64_t>(i) < n_hash_layers;
    layer.moe.limit = static_cast<float>(limits[i]);
    layer.moe.shared.limit = layer.moe.limit;
    layer.attn_hyper.sizes = layer.ffn_hyper.sizes = hyper_;
  }
  head_.sizes = hyper_;
}

void Deepseek4::list_attention(WeightList& list, Attention& attention) {
  const int64_t width = n_heads_ * head_dim_;
  list.add(attention.q_a, "attn_q_a.weight", {q_rank_, shape_.hidden});
  list.add(attention.q_a_norm, "attn_q_a_norm.weight", {q_rank_});
  list.add(attention.q_b, "attn_q_b.weight", {width, q_rank_});
  list.add(attention.kv, "attn_kv.weight", {head_dim_, shape_.hidden});
  list.add(attention.kv_norm, "attn_kv_a_norm.weight", {head_dim_});
  list.add(attention.sinks, "attn_sinks.weight", {n_heads_});
  list.add(attention.out_a, "attn_output_a.weight", {n_groups_ * out_rank_, width / n_groups_});
  list.add(attention.out_b, "attn_output_b.weight", {shape_.hidden, n_groups_ * out_rank_});
  if (attention.compressor.stride > 0) list_compressor(list, attention.compressor, shape_.hidden, "attn");
  if (attention.indexer.n_heads > 0) list_entry_indexer(list, attention.indexer, shape_.hidden, q_rank_);
}

WeightList Deepseek4::weights() {
  WeightList list;
  list_ends(list, ends_);
  list_hyper_head(list, head_, "output_hc");
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    list.begin_layer(static_cast<int64_t>(i));
    list_hyper(list, layer.attn_hyper, "hc_attn");
    list.add(layer.attn_norm, "attn_norm.weight", {shape_.hidden});
    list_attention(list, layer.attention);
    list_hyper(list, layer.ffn_hyper, "hc_ffn");
    list.add(layer.ffn_norm, "ffn_norm.weight", {shape_.hidden});
    if (layer.moe.chooses_by_token) {
      list.add_table(layer.moe.table, "ffn_gate_tid2eid.weight", {shape_.n_vocab, layer.moe.n_used});
    }
    list_shared_moe(list, layer.moe);
  }
  list.leave_out_layers(shape_.n_layers, shape_.n_layers + shape_.n_draft_layers);
  return list;
}

// Experts that a file names are there.
void Deepseek4::check_tables() const {
  for (const Layer& layer : layers_) {
    const Tensor& table = layer.moe.table;
    if (!table || table.data == nullptr) continue;
    for (int64_t i = 0; i < table.n_elems(); ++i) {
      if (table.i32()[i] >= 0 && table.i32()[i] < layer.moe.n_experts) continue;
      fail(ErrorKind::bad_model, "ffn_gate_tid2eid.weight names the expert {} of {}", table.i32()[i],
           layer.moe.n_experts);
    }
  }
}

void Deepseek4::run_attention(const Pass& pass, const Attention& attention, int64_t layer, const Tensor& x,
                              const Tensor& out) const {
  const ArenaScope scope(pass.arena);
  const int64_t n_rows = x.dim(0);
  const Tensor q_latent = pass.arena.take(Dtype::f32, {n_rows, q_rank_});
  const Tensor q = pass.arena.take(Dtype::f32, {n_rows, n_heads_ * head_dim_});
  const Tensor k = pass.arena.take(Dtype::f32, {n_rows, head_dim_});
  pass.backend.run(
      Linear{.x = x,
             .products = {{.weight = attention.q_a, .out = q_latent}, {.weight = attention.kv, .out = k}},
             .n_products = 2});
  pass.backend.run(Norm{.x = q_latent, .weight = attention.q_a_norm, .out = q_latent, .eps = ends_.norm_eps});
  pass.backend.run(Linear{.x = q_latent, .products = {{.weight = attention.q_b, .out = q}}});
  const Tensor heads = q.reshaped({n_rows, n_heads_, head_dim_});
  pass.backend.run(Norm{.x = heads, .out = heads, .eps = ends_.norm_eps});

  const KvPages& pages = pass.kv.layer(layer);
  const Batch batch = pass.batch.of_panes();
  const Rope rope = attention.rope->view();
  pass.backend.run(RopeStoreKv{.batch = batch,
                               .q = heads,
                               .k = k.reshaped({n_rows, 1, head_dim_}),
                               .k_norm = attention.kv_norm,
                               .norm_eps = ends_.norm_eps,
                               .rope = rope,
                               .rope_begin = head_dim_ - n_rotary_,
                               .k_pages = pages.k});
  const bool has_entries = attention.compressor.stride > 0;
  const CompressorRun run{.layer = layer, .x = x, .rope = rope, .norm_eps = ends_.norm_eps};
  if (has_entries) run_compressor(pass, attention.compressor, run);
  Tensor selected;
  if (attention.indexer.n_heads > 0) selected = select_entries(pass, attention.indexer, run, q_latent);

  const Tensor mixed = pass.arena.take(Dtype::f32, {n_rows, n_heads_, head_dim_});
  pass.backend.run(PagedAttention{
      .batch = batch,
      .q = heads,
      .k_pages = pages.k,
      .sinks = attention.sinks,
      .selected = selected,
      .out = mixed,
      .scale = 1.0f / std::sqrt(static_cast<float>(head_dim_)),
      .window = static_cast<int32_t>(window_),
      .entry_pages = has_entries ? pages.sides[attention.compressor.side + 1] : Tensor(),
      .entry_stride = static_cast<int32_t>(std::max<int64_t>(1, attention.compressor.stride))});
  rotate_heads(pass, mixed, attention.inverse_rope->view());
  const int64_t group_width = n_heads_ * head_dim_ / n_groups_;
  const Tensor low = pass.arena.take(Dtype::f32, {n_rows, n_groups_ * out_rank_});
  pass.backend.run(HeadLinear{.x = mixed.reshaped({n_rows, n_groups_, group_width}),
                              .weight = attention.out_a.reshaped({n_groups_, out_rank_, group_width}),
                              .out = low.reshaped({n_rows, n_groups_, out_rank_})});
  pass.backend.run(Linear{.x = low, .products = {{.weight = attention.out_b, .out = out}}});
}

Tensor Deepseek4::forward(const Pass& pass) const {
  HyperStream stream(pass, ends_, hyper_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    stream.collapse(layer.attn_hyper, layer.attn_norm);
    run_attention(pass, layer.attention, static_cast<int64_t>(i), stream.normed(), stream.branch());
    stream.expand();
    stream.collapse(layer.ffn_hyper, layer.ffn_norm);
    run_moe(pass, layer.moe, stream.normed(), stream.branch());
    stream.expand();
  }
  return stream.logits(head_);
}

std::unique_ptr<Model> load_deepseek4(const Checkpoint& checkpoint) {
  return std::make_unique<Deepseek4>(checkpoint);
}

constexpr HfTensorRule kTensors[] = {
    {"embed.weight", "token_embd.weight"},
    {"norm.weight", "output_norm.weight"},
    {"head.weight", "output.weight"},
    {"hc_head_fn", "output_hc_fn.weight"},
    {"hc_head_base", "output_hc_base.weight"},
    {"hc_head_scale", "output_hc_scale.weight"},
    {"layers.{}.hc_attn_fn", "blk.{}.hc_attn_fn.weight"},
    {"layers.{}.hc_attn_base", "blk.{}.hc_attn_base.weight"},
    {"layers.{}.hc_attn_scale", "blk.{}.hc_attn_scale.weight"},
    {"layers.{}.hc_ffn_fn", "blk.{}.hc_ffn_fn.weight"},
    {"layers.{}.hc_ffn_base", "blk.{}.hc_ffn_base.weight"},
    {"layers.{}.hc_ffn_scale", "blk.{}.hc_ffn_scale.weight"},
    {"layers.{}.attn_norm.weight", "blk.{}.attn_norm.weight"},
    {"layers.{}.ffn_norm.weight", "blk.{}.ffn_norm.weight"},
    {"layers.{}.attn.attn_sink", "blk.{}.attn_sinks.weight"},
    {"layers.{}.attn.wq_a.weight", "blk.{}.attn_q_a.weight"},
    {"layers.{}.attn.q_norm.weight", "blk.{}.attn_q_a_norm.weight"},
    {"layers.{}.attn.wq_b.weight", "blk.{}.attn_q_b.weight"},
    {"layers.{}.attn.wkv.weight", "blk.{}.attn_kv.weight"},
    {"layers.{}.attn.norm.weight", "blk.{}.attn_kv_a_norm.weight"},
    {"layers.{}.attn.kv_norm.weight", "blk.{}.attn_kv_a_norm.weight"},
    {"layers.{}.attn.wo_a.weight", "blk.{}.attn_output_a.weight"},
    {"layers.{}.attn.wo_b.weight", "blk.{}.attn_output_b.weight"},
    {"layers.{}.attn.compressor.wkv.weight", "blk.{}.attn_compressor_kv.weight"},
    {"layers.{}.attn.compressor.wgate.weight", "blk.{}.attn_compressor_gate.weight"},
    {"layers.{}.attn.compressor.ape", "blk.{}.attn_compressor_ape.weight"},
    {"layers.{}.attn.compressor.norm.weight", "blk.{}.attn_compressor_norm.weight"},
    {"layers.{}.attn.indexer.wq_b.weight", "blk.{}.indexer.attn_q_b.weight"},
    {"layers.{}.attn.indexer.weights_proj.weight", "blk.{}.indexer.proj.weight"},
    {"layers.{}.attn.indexer.compressor.wkv.weight", "blk.{}.indexer_compressor_kv.weight"},
    {"layers.{}.attn.indexer.compressor.wgate.weight", "blk.{}.indexer_compressor_gate.weight"},
    {"layers.{}.attn.indexer.compressor.ape", "blk.{}.indexer_compressor_ape.weight"},
    {"layers.{}.attn.indexer.compressor.norm.weight", "blk.{}.indexer_compressor_norm.weight"},
    {"layers.{}.ffn.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"layers.{}.ffn.gate.bias", "blk.{}.exp_probs_b.bias"},
    {"layers.{}.ffn.gate.tid2eid", "blk.{}.ffn_gate_tid2eid.weight"},
    {"layers.{}.ffn.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"layers.{}.ffn.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"layers.{}.ffn.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
    {"layers.{}.ffn.shared_experts.w1.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"layers.{}.ffn.shared_experts.w3.weight", "blk.{}.ffn_up_shexp.weight"},
    {"layers.{}.ffn.shared_experts.w2.weight", "blk.{}.ffn_down_shexp.weight"},
};

// Of each layer: positions that an entry stands for, 0 where there are none.
std::vector<int64_t> compress_ratios(HfConfig& config) {
  std::vector<int64_t> ratios;
  if (config.has("compress_ratios")) {
    for (const double ratio : config.reals("compress_ratios")) ratios.push_back(static_cast<int64_t>(ratio));
    return ratios;
  }
  static const Json kNone{Json::Object()};
  const Json* rates = config.find("compress_rates");
  HfConfig by_type = config.within(rates == nullptr ? kNone : *rates, "the compress_rates of config.json");
  for (const std::string& type : config.texts("layer_types")) {
    if (type == "sliding_attention") {
      ratios.push_back(0);
    } else if (type == "compressed_sparse_attention" || type == "heavily_compressed_attention") {
      ratios.push_back(by_type.count(type));
    } else {
      config.refuse("layer_types", fmt::format("{} is not implemented", printable(type)));
    }
  }
  return ratios;
}

int64_t count_hash_layers(HfConfig& config) {
  if (!config.has("mlp_layer_types")) return config.count_or("num_hash_layers", 3, kCountOrNone);
  const std::vector<std::string> types = config.texts("mlp_layer_types");
  const auto first = std::ranges::find(types, "moe");
  const bool is_led =
      std::all_of(types.begin(), first, [](const auto& type) { return type == "hash_moe"; }) &&
      std::all_of(first, types.end(), [](const auto& type) { return type == "moe"; });
  if (!is_led) config.refuse("mlp_layer_types", "only hash_moe before moe is implemented");
  return first - types.begin();
}

// Two rotations: of layers with positions alone, and of the others. Only the second is scaled.
void write_ropes(HfConfig& config, HfKeys& keys) {
  static const Json kNone{Json::Object()};
  const Json* parameters = config.find("rope_parameters");
  if (parameters == nullptr) parameters = config.find("rope_scaling");
  if (parameters == nullptr) parameters = &kNone;
  const bool is_nested = parameters->find("compress") != nullptr;
  const auto part = [&](std::string_view name) {
    const Json* found = is_nested ? parameters->find(name) : parameters;
    return config.within(found == nullptr ? kNone : *found, "the rope settings of config.json");
  };
  for (const std::string_view key : {"rope_theta", "compress_rope_theta", "partial_rotary_factor"})
    config.find(key);
  HfConfig compress = part("compress");
  const double base = config.real("rope_theta", kRopeBase);
  if (is_nested) {
    HfConfig main = part("main");
    main.expect("rope_type", "default");
    keys.set("rope.freq_base", main.real_or("rope_theta", base, kRopeBase));
    main.find("partial_rotary_factor");
    main.refuse_rest();
    keys.set("attention.compress_rope_freq_base", compress.real("rope_theta", kRopeBase));
  } else {
    keys.set("rope.freq_base", base);
    keys.set("attention.compress_rope_freq_base", config.real("compress_rope_theta", kRopeBase));
    compress.find("rope_theta");
  }
  const std::string type = compress.text_or("rope_type", compress.text_or("type", "default"));
  if (type == "yarn") {
    keys.set_text("rope.scaling.type", "yarn");
    keys.set("rope.scaling.factor", compress.real("factor", kRopeFactor));
    keys.set("rope.scaling.original_context_length",
             compress.count("original_max_position_embeddings", kPositions));
    keys.set("rope.scaling.yarn_beta_fast", compress.real_or("beta_fast", 32.0));
    keys.set("rope.scaling.yarn_beta_slow", compress.real_or("beta_slow", 1.0));
    if (compress.real_or("attention_factor", 1.0) != 1.0)
      compress.refuse("attention_factor", "only 1 is implemented for this class");
  } else if (type != "default") {
    compress.refuse("rope_type", fmt::format("{} is not implemented for this class", printable(type)));
  }
  compress.find("partial_rotary_factor");
  compress.refuse_rest();
}

void write_v4(HfConfig& config, HfKeys& keys) {
  config.expect("hidden_act", "silu");
  config.expect("scoring_func", "sqrtsoftplus");
  config.expect("topk_method", "noaux_tc");
  if (!config.flag_or("norm_topk_prob", true)) config.refuse("norm_topk_prob", "only true is implemented");
  const int64_t n_layers = config.count("num_hidden_layers", {1, 4096});
  const int64_t head_dim = config.count("head_dim");
  const double share = config.real_or("partial_rotary_factor", 0.125, {0.0, 1.0});
  keys.set("block_count", n_layers);
  keys.set("context_length", config.count("max_position_embeddings"));
  keys.set("embedding_length", config.count("hidden_size"));
  keys.set("vocab_size", config.count("vocab_size"));
  keys.set("attention.head_count", config.count("num_attention_heads"));
  keys.set("attention.head_count_kv", config.count_or("num_key_value_heads", 1));
  keys.set("attention.key_length", head_dim);
  keys.set("attention.value_length", head_dim);
  keys.set("attention.layer_norm_rms_epsilon", config.real("rms_norm_eps", {0.0, 1.0}));
  keys.set("attention.q_lora_rank", config.count("q_lora_rank"));
  keys.set("attention.output_lora_rank", config.count("o_lora_rank"));
  keys.set("attention.output_group_count", config.count("o_groups"));
  keys.set("attention.sliding_window", config.count("sliding_window", {1, INT32_MAX}));
  keys.set("attention.compress_ratios", compress_ratios(config));
  write_indexer_keys(config, keys);
  keys.set("rope.dimension_count",
           config.count_or("qk_rope_head_dim", static_cast<int64_t>(static_cast<double>(head_dim) * share)));
  write_hyper_keys(config, keys);
  keys.set("hash_layer_count", std::min(n_layers, count_hash_layers(config)));
  keys.set("expert_count", config.count("n_routed_experts"));
  keys.set("expert_used_count", config.count("num_experts_per_tok"));
  keys.set("expert_shared_count", config.count_or("n_shared_experts", 1, kCountOrNone));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
  keys.set("expert_gating_func", int64_t{4});
  keys.set("expert_weights_norm", true);
  keys.set("expert_weights_scale", config.real("routed_scaling_factor"));
  const double limit = config.real_or("swiglu_limit", 0.0, {0.0, 1e6});
  keys.set("swiglu_clamp_exp", std::vector<double>(static_cast<size_t>(n_layers), limit));
  // Whether these are there, and in which type experts are stored, the tensors say.
  for (const std::string_view key : {"attention_bias", "mlp_bias", "tie_word_embeddings", "expert_dtype"})
    config.find(key);
  write_ropes(config, keys);
}

constexpr std::string_view kDefaults = R"({
  "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "compress_rope_theta": 160000.0, "head_dim": 512,
  "q_lora_rank": 1024, "o_lora_rank": 1024, "o_groups": 8, "sliding_window": 128, "index_n_heads": 64,
  "index_head_dim": 128, "index_topk": 512, "hc_mult": 4, "hc_sinkhorn_iters": 20, "hc_eps": 1e-6,
  "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 6, "moe_intermediate_size": 2048,
  "routed_scaling_factor": 1.5, "swiglu_limit": 10.0, "num_nextn_predict_layers": 1,
  "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}})";

constexpr HfModelClass kHfClasses[] = {{"deepseek_v4", "deepseek4", kDefaults, kTensors, write_v4}};
constexpr std::string_view kArchitectures[] = {"deepseek4"};

}  // namespace

Family deepseek4_family() {
  return {.architectures = kArchitectures, .load = load_deepseek4, .hf_classes = kHfClasses};
}

}  // namespace millrace
