// For tests: a body of families/deepseek.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

// Latent attention of queries with a rank of their own, a dense layer, then experts in groups beside a shared
// one. glm-dsa: layers 0 and 2 select positions, layer 1 takes the selection of layer 0.
inline std::unique_ptr<MemoryCheckpoint> tiny_deepseek(std::string_view architecture) {
  constexpr int64_t kQRank = 12, kKvRank = 28, kNope = 8, kRope = 4, kValue = 6, kExpertFf = 20,
                    kIndexDim = 32;
  auto model = tiny_ends(architecture);
  const std::string prefix = std::string(architecture) + ".";
  model->set(prefix + "attention.head_count_kv", int64_t{1});
  model->set(prefix + "attention.q_lora_rank", kQRank);
  model->set(prefix + "attention.kv_lora_rank", kKvRank);
  model->set(prefix + "attention.key_length", kKvRank + kRope);
  model->set(prefix + "attention.value_length", kKvRank);
  model->set(prefix + "attention.key_length_mla", kNope + kRope);
  model->set(prefix + "attention.value_length_mla", kValue);
  model->set(prefix + "rope.dimension_count", kRope);
  model->set_text(prefix + "rope.scaling.type", "yarn");
  model->set(prefix + "rope.scaling.factor", 4.0);
  model->set(prefix + "rope.scaling.original_context_length", int64_t{16});
  model->set(prefix + "rope.scaling.yarn_log_multiplier", 0.1);
  model->set(prefix + "leading_dense_block_count", int64_t{1});
  model->set(prefix + "expert_count", kTinyExperts);
  model->set(prefix + "expert_used_count", int64_t{2});
  model->set(prefix + "expert_shared_count", int64_t{1});
  model->set(prefix + "expert_group_count", int64_t{2});
  model->set(prefix + "expert_group_used_count", int64_t{1});
  model->set(prefix + "expert_feed_forward_length", kExpertFf);
  model->set(prefix + "expert_gating_func", int64_t{2});
  model->set(prefix + "expert_weights_norm", true);
  model->set(prefix + "expert_weights_scale", 1.5);
  const bool has_indexer = architecture == "glm-dsa";
  if (has_indexer) {
    model->set(prefix + "attention.indexer.head_count", int64_t{3});
    model->set(prefix + "attention.indexer.key_length", kIndexDim);
    model->set(prefix + "attention.indexer.top_k", int64_t{5});
    model->set(prefix + "attention.indexer.types", std::vector<bool>{true, false, true});
  }
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    if (has_indexer && i != 1) {
      model->add_random(block + "indexer.attn_q_b.weight", {3 * kIndexDim, kQRank});
      model->add_random(block + "indexer.attn_k.weight", {kIndexDim, kTinyHidden});
      model->add_random(block + "indexer.k_norm.weight", {kIndexDim});
      model->add_random(block + "indexer.k_norm.bias", {kIndexDim});
      model->add_random(block + "indexer.proj.weight", {3, kTinyHidden});
    }
    model->add_random(block + "attn_norm.weight", {kTinyHidden});
    model->add_random(block + "attn_q_a.weight", {kQRank, kTinyHidden});
    model->add_random(block + "attn_q_a_norm.weight", {kQRank});
    model->add_random(block + "attn_q_b.weight", {kTinyHeads * (kNope + kRope), kQRank});
    model->add_random(block + "attn_kv_a_mqa.weight", {kKvRank + kRope, kTinyHidden});
    model->add_random(block + "attn_kv_a_norm.weight", {kKvRank});
    if (i == 1) {  // as old files have it
      model->add_random(block + "attn_kv_b.weight", {kTinyHeads * (kNope + kValue), kKvRank});
    } else {
      model->add_random(block + "attn_k_b.weight", {kTinyHeads, kKvRank, kNope});
      model->add_random(block + "attn_v_b.weight", {kTinyHeads, kValue, kKvRank});
    }
    model->add_random(block + "attn_output.weight", {kTinyHidden, kTinyHeads * kValue});
    model->add_random(block + "ffn_norm.weight", {kTinyHidden});
    if (i == 0) {
      add_tiny_mlp(*model, block);
      continue;
    }
    model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
    add_tiny_experts(*model, block, kExpertFf);
    add_tiny_shared_expert(*model, block, kExpertFf);
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_deepseek2() { return tiny_deepseek("deepseek2"); }

}  // namespace millrace::testing
