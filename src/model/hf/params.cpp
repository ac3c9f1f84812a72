#include "model/hf/params.h"

#include "base/log.h"
#include "model/hf/config.h"

namespace millrace {
namespace {

struct KeyPair {
  std::string_view params, config;
};

constexpr KeyPair kKeys[] = {{"dim", "hidden_size"},
                             {"n_layers", "num_hidden_layers"},
                             {"n_heads", "num_attention_heads"},
                             {"n_kv_heads", "num_key_value_heads"},
                             {"head_dim", "head_dim"},
                             {"hidden_dim", "intermediate_size"},
                             {"norm_eps", "rms_norm_eps"},
                             {"vocab_size", "vocab_size"},
                             {"activation", "hidden_act"},
                             {"tied_embeddings", "tie_word_embeddings"},
                             {"q_lora_rank", "q_lora_rank"},
                             {"kv_lora_rank", "kv_lora_rank"},
                             {"qk_nope_head_dim", "qk_nope_head_dim"},
                             {"qk_rope_head_dim", "qk_rope_head_dim"},
                             {"v_head_dim", "v_head_dim"}};
constexpr KeyPair kExpertKeys[] = {{"num_experts_per_tok", "num_experts_per_tok"},
                                   {"expert_hidden_dim", "moe_intermediate_size"},
                                   {"num_shared_experts", "n_shared_experts"},
                                   {"first_k_dense_replace", "first_k_dense_replace"},
                                   {"route_every_n", "moe_layer_freq"},
                                   {"num_expert_groups", "n_group"},
                                   {"num_expert_groups_per_tok", "topk_group"},
                                   {"routed_scale", "routed_scaling_factor"}};
constexpr KeyPair kYarnKeys[] = {{"factor", "factor"},
                                 {"original_max_position_embeddings", "original_max_position_embeddings"},
                                 {"beta", "beta_fast"},
                                 {"alpha", "beta_slow"}};

void copy(HfConfig& params, std::span<const KeyPair> keys, Json& config) {
  for (const auto& [from, to] : keys) {
    if (const Json* value = params.find(from)) config[to] = *value;
  }
}

// Files without a length are of models that read at least so far, as other programs assume too.
void copy_context(HfConfig& params, Json& config) {
  constexpr int64_t kUsual = 128'000;
  const Json* length = params.find("max_seq_len");
  if (const Json* found = params.find("max_position_embeddings")) length = found;
  config["max_position_embeddings"] = length != nullptr ? *length : Json(kUsual);
  if (length == nullptr)
    log_info("params.json does not say how many positions the model reads; {} are assumed", kUsual);
}

// A window for every layer, or a list that repeats: null where a layer sees everything.
void copy_window(HfConfig& params, Json& config) {
  const Json* window = params.find("sliding_window");
  config["sliding_window"] = nullptr;
  if (window == nullptr) return;
  if (!window->is_array()) {
    config["sliding_window"] = *window;
    return;
  }
  const Json::Array& period = window->as_array();
  const auto n_layers = static_cast<size_t>(params.count("n_layers", {1, 4096}));
  if (period.empty() || n_layers % period.size() != 0)
    params.refuse("sliding_window",
                  fmt::format("{} entries do not divide {} layers", period.size(), n_layers));
  Json::Array types;
  for (size_t i = 0; i < n_layers; ++i) {
    const Json& size = period[i % period.size()];
    types.emplace_back(size.is_null() ? "full_attention" : "sliding_attention");
    if (size.is_null()) continue;
    if (!config["sliding_window"].is_null() && !(config["sliding_window"] == size))
      params.refuse("sliding_window", "windows of different sizes are not implemented");
    config["sliding_window"] = size;
  }
  config["layer_types"] = std::move(types);
}

// Queries grow with the position, counted in the length that yarn starts from.
void copy_query_scale(HfConfig& params, Json& rope) {
  const Json* scaling = params.find("llama_4_scaling");
  if (scaling == nullptr) return;
  HfConfig reader("llama_4_scaling in params.json", {scaling});
  const Json* original = rope.find("original_max_position_embeddings");
  const int64_t length = reader.count("original_max_position_embeddings", kPositions);
  if (original == nullptr || !(*original == Json(length)))
    reader.refuse("original_max_position_embeddings", "only that of yarn is implemented");
  rope["llama_4_scaling_beta"] = reader.real("beta");
  reader.refuse_rest();
}

// Where params.json has no base, the code of the publisher takes one.
void copy_rope(HfConfig& params, Json& config) {
  const Json* theta = params.find("rope_theta");
  const double usual = params.find("sliding_window") != nullptr ? 1e4 : 1e6;
  Json rope{Json::Object{{"rope_type", "default"}}};
  rope["rope_theta"] = theta != nullptr ? *theta : Json(usual);
  if (const Json* yarn = params.find("yarn")) {
    HfConfig reader("yarn in params.json", {yarn});
    rope["rope_type"] = "yarn";
    copy(reader, kYarnKeys, rope);
    rope["apply_yarn_scaling"] = reader.flag_or("apply_scale", true);
    if (params.has("kv_lora_rank")) {
      rope["mscale"] = 1.0;
      rope["mscale_all_dim"] = 1.0;
    }
    reader.refuse_rest();
  }
  copy_query_scale(params, rope);
  config["rope_parameters"] = std::move(rope);
}

void copy_experts(HfConfig& params, Json& config) {
  const Json* moe = params.find("moe");
  if (moe == nullptr) return;
  HfConfig reader("moe in params.json", {moe});
  copy(reader, kExpertKeys, config);
  const std::string_view count = params.has("kv_lora_rank") ? "n_routed_experts" : "num_local_experts";
  config[count] = reader.count("num_experts");
  reader.expect("renorm_strategy", "WEIGHTS");
  // How the publisher's own program divides the experts over machines.
  for (const std::string_view key : {"expert_parallel", "expert_model_parallel"}) reader.find(key);
  reader.refuse_rest();
}

// E4M3 under one scale a matrix has a spelling of its own.
void copy_quantisation(HfConfig& params, Json& config) {
  const Json* found = params.find("quantization");
  if (found == nullptr) found = params.find("quantization_config");
  params.find("quantization_config");
  if (found == nullptr) return;
  Json quantisation = *found;
  HfConfig reader("quantization in params.json", {found});
  if (reader.has("qformat_weight")) {
    reader.expect("qformat_weight", "fp8_e4m3");
    reader.find("qscheme_act");  // of activations, which are not quantised with it here
    reader.refuse_rest();
    quantisation = Json(Json::Object{{"quant_method", "fp8"}});
  } else if (reader.text_or("quant_method", "") == "compressed_tensors") {
    quantisation["quant_method"] = "compressed-tensors";
  }
  config["quantization_config"] = std::move(quantisation);
}

std::string_view kind_of(HfConfig& params) {
  if (params.has("kv_lora_rank")) return kParamsLatent;
  if (params.has("moe")) return kParamsExperts;
  return params.has("llama_4_scaling") ? kParamsScaledQueries : kParamsDense;
}

}  // namespace

Json config_of_params(const Json& json) {
  HfConfig params("params.json", {&json});
  Json config{Json::Object{{"model_type", kind_of(params)}}};
  params.expect("model_type", "transformer");
  copy(params, kKeys, config);
  copy_context(params, config);
  copy_window(params, config);
  copy_rope(params, config);
  copy_experts(params, config);
  copy_quantisation(params, config);
  // Of towers, which are left out, and of how long a text may be.
  for (const std::string_view key : {"vision_encoder", "multimodal", "max_batch_size", "max_seq_len"})
    params.find(key);
  params.refuse_rest();
  return config;
}

}  // namespace millrace
