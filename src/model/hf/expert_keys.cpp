#include "model/hf/expert_keys.h"

#include <algorithm>

namespace millrace {
namespace {

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

}  // namespace

void write_expert_keys(HfConfig& config, HfKeys& keys, Gating gating, const ExpertNames& names) {
  config.expect(names.gating, gating == Gating::softmax ? "softmax" : "sigmoid");
  if (config.count_or("moe_layer_freq", 1) != 1)
    config.refuse("moe_layer_freq", "only 1 (experts in every layer) is implemented");
  keys.set("leading_dense_block_count", count_dense_layers(config));
  keys.set("expert_count", config.count(names.n_experts));
  keys.set("expert_used_count", config.count(names.n_used));
  keys.set("expert_shared_count", config.count_or(names.n_shared, 0, kCountOrNone));
  keys.set("expert_feed_forward_length", config.count("moe_intermediate_size"));
  keys.set("expert_gating_func", static_cast<int64_t>(gating));
  keys.set("expert_weights_scale", config.real_or("routed_scaling_factor", 1.0));
  keys.set("expert_weights_norm", config.flag_or(names.renormalises, gating == Gating::sigmoid));
  const int64_t n_groups = config.count_or(names.n_groups, 1);
  const int64_t n_groups_used = config.count_or("topk_group", 1);
  if (n_groups > 1 && config.text_or("topk_method", "") != "greedy") {
    keys.set("expert_group_count", n_groups);
    keys.set("expert_group_used_count", n_groups_used);
  }
}

}  // namespace millrace
