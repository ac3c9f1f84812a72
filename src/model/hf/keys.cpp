#include "model/hf/keys.h"

#include <algorithm>
#include <cmath>

#include "model/layers/rope.h"

namespace millrace {

HfKeys::HfKeys(std::string_view architecture) : architecture_(architecture) {
  metadata_.add("general.architecture", keep(architecture));
  metadata_.add("general.type", keep("model"));
}

void HfKeys::set(std::string_view key, MetaValue value) {
  // Other readers expect float32, and the arithmetic is float32 anyway.
  if (auto* real = std::get_if<double>(&value)) *real = static_cast<double>(static_cast<float>(*real));
  const bool is_ours = key.starts_with("millrace.");
  metadata_.add(is_ours ? std::string(key) : architecture_ + "." + std::string(key), std::move(value));
}

void HfKeys::set_text(std::string_view key, std::string_view text) { set(key, keep(text)); }

void HfKeys::add_vector(std::string_view name, std::vector<float> values) {
  vectors_.push_back({std::string(name), std::move(values)});
}

namespace {

int64_t read_head_dim(HfConfig& config) {
  const int64_t hidden = config.count("hidden_size");
  const int64_t n_heads = config.count("num_attention_heads");
  return config.count_or("head_dim", std::max<int64_t>(hidden / n_heads, 1));
}

// Where a config has the rotation in both spellings, they must agree.
void refuse_contradiction(HfConfig& config, const Json& parameters, const Json& scaling) {
  if (!scaling.is_object()) config.refuse("rope_scaling", "expected an object");
  for (const auto& [key, value] : scaling.as_object()) {
    const Json* same = parameters.find(key == "type" ? "rope_type" : key);
    if (same == nullptr || *same != value)
      config.refuse("rope_scaling", fmt::format("rope_parameters says otherwise about {}", printable(key)));
  }
}

// A reader over the rotation of one layer type, in the spelling of transformers 5 or the older one.
HfConfig rope_config(HfConfig& config, std::string_view layer_type) {
  static const Json kNone{Json::Object()};
  const Json* parameters = config.find("rope_parameters");
  const Json* scaling = config.find("rope_scaling");
  if (parameters != nullptr && scaling != nullptr) refuse_contradiction(config, *parameters, *scaling);
  if (parameters == nullptr) parameters = scaling;
  if (parameters != nullptr) {
    if (const Json* one = parameters->find(layer_type)) parameters = one;
  }
  for (const std::string_view key :
       {"rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}) {
    config.find(key);  // read below, where `parameters` is silent
  }
  return config.within(parameters == nullptr ? kNone : *parameters, "the rope settings of config.json");
}

std::string rope_type(HfConfig& rope) {
  const std::string old_spelling = rope.text_or("type", "default");
  return rope.text_or("rope_type", old_spelling);
}

int64_t read_n_rotary(HfConfig& config, HfConfig& rope) {
  if (config.has("rotary_dim")) return config.count("rotary_dim");  // MiniMax says it in dimensions
  const double share = rope.real_or("partial_rotary_factor", 1.0, {0.0, 1.0});
  return static_cast<int64_t>(static_cast<double>(read_head_dim(config)) * share);
}

// Factor, ramp and query scale. Returns the factor.
double write_yarn_ramp(HfConfig& rope, HfKeys& keys) {
  const double factor = rope.real("factor", kRopeFactor);
  const bool has_original = rope.has("original_max_position_embeddings");
  const int64_t original =
      rope.count(has_original ? "original_max_position_embeddings" : "max_position_embeddings", kPositions);
  rope.find("max_position_embeddings");  // some repeat it here
  keys.set_text("rope.scaling.type", "yarn");
  keys.set("rope.scaling.factor", factor);
  keys.set("rope.scaling.original_context_length", original);
  keys.set("rope.scaling.yarn_beta_fast", rope.real_or("beta_fast", 32.0));
  keys.set("rope.scaling.yarn_beta_slow", rope.real_or("beta_slow", 1.0));
  if (rope.has("truncate")) keys.set("millrace.rope.yarn_is_rounded", rope.flag_or("truncate", true));
  if (const double beta = rope.real_or("llama_4_scaling_beta", 0.0, {0.0, 1e3}); beta > 0.0) {
    keys.set("attention.temperature_scale", beta);
    keys.set("attention.temperature_length", original);
  }
  return factor;
}

// Whether rotations grow with the factor at all: a key of vLLM's, for models that were trained without.
bool grows(HfConfig& rope) { return rope.flag_or("apply_yarn_scaling", true); }

// A reader of GGUF multiplies cos and sin by `usual` and by attn_factor: what is left to write is the
// quotient.
void write_growth(HfConfig& rope, HfKeys& keys, double factor, double usual) {
  double growth = yarn_magnitude(factor, 1.0);
  if (rope.has("mscale") && rope.has("mscale_all_dim")) {
    growth =
        yarn_magnitude(factor, rope.real("mscale")) / yarn_magnitude(factor, rope.real("mscale_all_dim"));
  }
  growth = rope.real_or("attention_factor", grows(rope) ? growth : 1.0);
  if (growth != usual) keys.set("rope.scaling.attn_factor", growth / usual);
}

void write_yarn(HfConfig& rope, HfKeys& keys) {
  const double factor = write_yarn_ramp(rope, keys);
  write_growth(rope, keys, factor, yarn_magnitude(factor, 1.0));
}

// Scores grow by mscale_all_dim, which GGUF has a tenth of; then a reader leaves cos and sin alone.
void write_latent_yarn(HfConfig& rope, HfKeys& keys) {
  const double factor = write_yarn_ramp(rope, keys);
  const double found = rope.real_or("mscale_all_dim", 0.0, {0.0, 1e3});
  const double all_dim = grows(rope) ? found : 0.0;
  if (all_dim > 0.0) keys.set("rope.scaling.yarn_log_multiplier", 0.1 * all_dim);
  write_growth(rope, keys, factor, all_dim > 0.0 ? 1.0 : yarn_magnitude(factor, 1.0));
}

// Rotations of images, by time, height and width: in text all three are the position.
void write_sections(HfConfig& rope, HfKeys& keys) {
  rope.flag_or("mrope_interleaved", false);
  if (!rope.has("mrope_section")) return;
  std::vector<int64_t> sections;
  for (const double size : rope.reals("mrope_section")) {
    if (!(size >= 0.0 && size <= 65536.0)) rope.refuse("mrope_section", "expected sizes");
    sections.push_back(static_cast<int64_t>(size));
  }
  sections.resize(4, 0);
  keys.set("rope.dimension_sections", std::move(sections));
}

void write_llama3(HfConfig& rope, HfKeys& keys, const RopeKind& kind) {
  const Llama3Scaling scaling{.factor = rope.real("factor", kRopeFactor),
                              .low_freq_factor = rope.real("low_freq_factor"),
                              .high_freq_factor = rope.real("high_freq_factor"),
                              .original_context = rope.real("original_max_position_embeddings")};
  keys.add_vector("rope_freqs.weight", llama3_divisors(rope_frequencies(kind.n_rotary, kind.base), scaling));
}

void write_longrope(HfConfig& rope, HfKeys& keys) {
  const int64_t original = rope.count("original_max_position_embeddings", {2, INT32_MAX});
  const int64_t context = rope.count("max_position_embeddings", kPositions);
  keys.set_text("rope.scaling.type", "longrope");
  keys.set("rope.scaling.original_context_length", original);
  keys.set("rope.scaling.attn_factor",
           rope.real_or("attention_factor",
                        longrope_magnitude(static_cast<double>(context), static_cast<double>(original))));
  for (const std::string_view length : {"long", "short"}) {
    const std::vector<double> factors = rope.reals(fmt::format("{}_factor", length));
    keys.add_vector(fmt::format("rope_factors_{}.weight", length), {factors.begin(), factors.end()});
  }
}

}  // namespace

namespace {

// The epsilon of the norms, by the name that the class has for it.
void write_norm_eps(HfConfig& config, HfKeys& keys) {
  for (const std::string_view name : {"layer_norm_eps", "norm_epsilon"}) {
    if (!config.has(name)) continue;
    keys.set("attention.layer_norm_epsilon", config.real(name, {0.0, 1.0}));
    return;
  }
  keys.set("attention.layer_norm_rms_epsilon", config.real("rms_norm_eps", {0.0, 1.0}));
}

}  // namespace

void set_counts(HfKeys& keys, std::string_view key, std::vector<int64_t> counts) {
  if (std::ranges::count(counts, counts[0]) == std::ssize(counts)) return keys.set(key, counts[0]);
  keys.set(key, std::move(counts));
}

void write_body_keys(HfConfig& config, HfKeys& keys) {
  keys.set("block_count", config.count("num_hidden_layers", {1, 4096}));
  keys.set("context_length", config.count("max_position_embeddings"));
  keys.set("embedding_length", config.count("hidden_size"));
  keys.set("attention.head_count", config.count("num_attention_heads"));
  write_norm_eps(config, keys);
  keys.set("vocab_size", config.count("vocab_size"));
  // Whether these are there, the tensors say.
  for (const std::string_view key : {"attention_bias", "mlp_bias", "tie_word_embeddings"}) config.find(key);
}

void write_encoder_keys(HfConfig& config, HfKeys& keys, std::string_view eps) {
  const int64_t n_heads = config.count("num_attention_heads");
  keys.set("block_count", config.count("num_hidden_layers", {1, 4096}));
  keys.set("embedding_length", config.count("hidden_size"));
  keys.set("feed_forward_length", config.count("intermediate_size"));
  keys.set("attention.head_count", n_heads);
  keys.set("attention.head_count_kv", n_heads);
  keys.set("attention.layer_norm_epsilon", config.real(eps, {0.0, 1.0}));
  keys.set("attention.causal", false);
  keys.set("vocab_size", config.count("vocab_size"));
}

void write_decoder_keys(HfConfig& config, HfKeys& keys, std::string_view n_ff) {
  const int64_t head_dim = read_head_dim(config);
  HfConfig rope = rope_config(config, "full_attention");
  write_body_keys(config, keys);
  if (config.has(n_ff)) keys.set("feed_forward_length", config.count(n_ff));
  keys.set("attention.head_count_kv",
           config.count_or("num_key_value_heads", config.count("num_attention_heads")));
  keys.set("attention.key_length", head_dim);
  keys.set("attention.value_length", head_dim);
  keys.set("rope.dimension_count", read_n_rotary(config, rope));
}

void write_proportional_rope_keys(HfConfig& config, HfKeys& keys, int64_t head_dim) {
  HfConfig rope = rope_config(config, "full_attention");
  if (rope_type(rope) != "proportional") rope.refuse("rope_type", "expected proportional");
  if (rope.real_or("factor", 1.0) != 1.0) rope.refuse("factor", "only 1 is implemented");
  const double share = rope.real_or("partial_rotary_factor", 1.0, {0.0, 1.0});
  const int64_t n_turning = static_cast<int64_t>(share * static_cast<double>(head_dim)) / 2;
  std::vector<float> divisors(static_cast<size_t>(head_dim / 2), kStandingPair);
  std::fill_n(divisors.begin(), n_turning, 1.0f);
  keys.set("rope.freq_base", rope.real("rope_theta", kRopeBase));
  keys.add_vector("rope_freqs.weight", std::move(divisors));
  rope.refuse_rest();
}

void write_rope_keys(HfConfig& config, HfKeys& keys, std::string_view layer_type) {
  HfConfig rope = rope_config(config, layer_type);
  const RopeKind kind{.n_rotary = read_n_rotary(config, rope),
                      .base = rope.real("rope_theta", kRopeBase),
                      .pairing = RopePairing::half_split};
  keys.set("rope.freq_base", kind.base);
  write_sections(rope, keys);
  const std::string type = rope_type(rope);
  if (type == "linear") {
    keys.set_text("rope.scaling.type", "linear");
    keys.set("rope.scaling.factor", rope.real("factor", kRopeFactor));
  } else if (type == "yarn") {
    write_yarn(rope, keys);
  } else if (type == "llama3") {
    write_llama3(rope, keys, kind);
  } else if (type == "longrope" || type == "su") {
    write_longrope(rope, keys);
  } else if (type != "default" && type != "mrope") {
    rope.refuse("rope_type", fmt::format("{} is not implemented", printable(type)));
  }
  // Some files repeat it where no scaling reads it.
  rope.find("original_max_position_embeddings");
  rope.refuse_rest();
}

void write_latent_size_keys(HfConfig& config, HfKeys& keys) {
  const int64_t rank = config.count("kv_lora_rank");
  const int64_t rope_dim = config.count("qk_rope_head_dim", kCountOrNone);
  const int64_t nope_dim = config.count("qk_nope_head_dim");
  keys.set("attention.kv_lora_rank", rank);
  if (config.find("q_lora_rank") != nullptr) keys.set("attention.q_lora_rank", config.count("q_lora_rank"));
  keys.set("attention.key_length", rank + rope_dim);
  keys.set("attention.value_length", rank);
  keys.set("attention.key_length_mla", nope_dim + rope_dim);
  keys.set("attention.value_length_mla", config.count("v_head_dim"));
  keys.set("rope.dimension_count", rope_dim);
  config.find("head_dim");  // one of them, or their sum
  if (config.count_or("qk_head_dim", nope_dim + rope_dim) != nope_dim + rope_dim)
    config.refuse("qk_head_dim", "expected qk_nope_head_dim and qk_rope_head_dim together");
}

void write_indexer_keys(HfConfig& config, HfKeys& keys) {
  keys.set("attention.indexer.head_count", config.count("index_n_heads"));
  keys.set("attention.indexer.key_length", config.count("index_head_dim"));
  keys.set("attention.indexer.top_k", config.count("index_topk"));
}

void write_hyper_keys(HfConfig& config, HfKeys& keys) {
  keys.set("hyper_connection.count", config.count("hc_mult"));
  keys.set("hyper_connection.sinkhorn_iterations", config.count("hc_sinkhorn_iters"));
  keys.set("hyper_connection.epsilon", config.real("hc_eps"));
}

void write_latent_keys(HfConfig& config, HfKeys& keys) {
  const int64_t n_heads = config.count("num_attention_heads");
  write_body_keys(config, keys);
  write_latent_size_keys(config, keys);
  keys.set("feed_forward_length", config.count("intermediate_size"));
  keys.set("attention.head_count_kv", int64_t{1});  // of latents
  if (config.count_or("num_key_value_heads", n_heads) != n_heads)
    config.refuse("num_key_value_heads", "latent attention has keys and values for every head");

  HfConfig rope = rope_config(config, "full_attention");
  keys.set("rope.freq_base", rope.real("rope_theta", kRopeBase));
  const std::string type = rope_type(rope);
  if (type == "yarn") {
    write_latent_yarn(rope, keys);
  } else if (type != "default") {
    rope.refuse("rope_type", fmt::format("{} is not implemented for latent attention", printable(type)));
  }
  const double share = rope.real_or("partial_rotary_factor", 1.0, {0.0, 1.0});
  if (share != 1.0 && read_n_rotary(config, rope) != config.count("qk_rope_head_dim"))
    rope.refuse("partial_rotary_factor", "qk_rope_head_dim says otherwise");
  rope.find("original_max_position_embeddings");
  rope.refuse_rest();
}

double read_plain_rope_base(HfConfig& config, std::string_view layer_type, double otherwise) {
  HfConfig rope = rope_config(config, layer_type);
  if (rope_type(rope) != "default")
    rope.refuse("rope_type", "only default is implemented for sliding layers");
  const double base = rope.real_or("rope_theta", otherwise, kRopeBase);
  rope.refuse_rest();
  return base;
}

std::vector<bool> read_layer_types(HfConfig& config, const LayerTypes& types, std::vector<bool> otherwise) {
  if (!config.has("layer_types")) return otherwise;
  const std::vector<std::string> found = config.texts("layer_types");
  if (found.size() != otherwise.size())
    config.refuse("layer_types", fmt::format("{} entries for {} layers", found.size(), otherwise.size()));
  std::vector<bool> is_of_type;
  for (const std::string& type : found) {
    is_of_type.push_back(type == types.type);
    if (!is_of_type.back() && std::ranges::find(types.others, type) == types.others.end())
      config.refuse("layer_types", fmt::format("{} is not implemented", printable(type)));
  }
  return is_of_type;
}

void write_window_keys(HfConfig& config, HfKeys& keys, std::vector<bool> slides, int64_t implied_period) {
  slides = read_layer_types(config, {}, std::move(slides));
  const int64_t window = config.count_or("sliding_window", 0, {1, INT32_MAX});
  if (window == 0 || std::ranges::find(slides, true) == slides.end()) return;
  keys.set("attention.sliding_window", window);
  if (slides != periodic_pattern(std::ssize(slides), implied_period)) {
    keys.set("attention.sliding_window_pattern", std::move(slides));
  }
}

}  // namespace millrace
