// From config.json to the keys of GGUF: experts beside one that every row uses, as DeepSeek's classes have
// them.
#pragma once

#include "model/hf/keys.h"

namespace millrace {

enum class Gating { softmax = 1, sigmoid = 2 };  // the values of expert_gating_func

// What a class calls its settings.
struct ExpertNames {
  std::string_view gating = "scoring_func";
  std::string_view n_experts = "n_routed_experts";
  std::string_view n_used = "num_experts_per_tok";
  std::string_view n_shared = "n_shared_experts";
  std::string_view renormalises = "norm_topk_prob";
  std::string_view n_groups = "n_group";
};

// Refuses another gating than the class's.
void write_expert_keys(HfConfig& config, HfKeys& keys, Gating gating, const ExpertNames& names = {});

}  // namespace millrace
