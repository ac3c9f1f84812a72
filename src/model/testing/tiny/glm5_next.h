// For tests: a body of families/glm5_next.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

// Latent attention to selected runs of four positions between two layers of Kimi delta attention, in streams;
// the first feed-forward is dense.
inline std::unique_ptr<MemoryCheckpoint> tiny_glm5_next(std::string_view architecture = "glm5-next") {
  constexpr int64_t kWidth = kTinyHeads * kTinyHeadDim, kTaps = 4, kQRank = 12, kRank = 32, kStreams = 2,
                    kIndexHeads = 3, kIndexDim = 32, kPool = 4;
  auto model = tiny_ends(architecture);
  const std::string prefix = std::string(architecture) + ".";
  model->set(prefix + "attention.head_count_kv", std::vector<int64_t>{0, 1, 0});
  model->set(prefix + "kda.head_dim", kTinyHeadDim);
  model->set(prefix + "kda.gate_lower_bound", -2.0);
  model->set(prefix + "ssm.conv_kernel", kTaps);
  model->set(prefix + "rope.dimension_count", int64_t{0});
  model->set(prefix + "attention.q_lora_rank", kQRank);
  model->set(prefix + "attention.kv_lora_rank", kRank);
  model->set(prefix + "attention.key_length", kRank);
  model->set(prefix + "attention.value_length", kRank);
  model->set(prefix + "attention.key_length_mla", kTinyHeadDim);
  model->set(prefix + "attention.value_length_mla", kTinyHeadDim);
  model->set(prefix + "attention.indexer.head_count", kIndexHeads);
  model->set(prefix + "attention.indexer.key_length", kIndexDim);
  model->set(prefix + "attention.indexer.top_k", 2 * kPool);
  model->set(prefix + "attention.indexer.kpool", kPool);
  model->set(prefix + "hyper_connection.count", kStreams);
  model->set(prefix + "hyper_connection.sinkhorn_iterations", int64_t{5});
  model->set(prefix + "hyper_connection.epsilon", 1e-6);
  model->set(prefix + "leading_dense_block_count", int64_t{1});
  set_tiny_experts(*model, std::string(architecture), 2);
  model->set(prefix + "expert_shared_count", int64_t{1});
  model->set(prefix + "swiglu_clamp_exp", std::vector<double>{1.0, 0.5, 0.5});
  model->set(prefix + "swiglu_clamp_shexp", std::vector<double>{1.0, 1.0, 1.0});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_hyper(*model, block, kStreams);
    model->add_random(block + "attn_norm.weight", {kTinyHidden});
    model->add_random(block + "ffn_norm.weight", {kTinyHidden});
    model->add_random(block + "attn_output.weight", {kTinyHidden, kWidth});
    if (i == 0) {
      add_tiny_mlp(*model, block);
    } else {
      add_tiny_experts(*model, block);
      add_tiny_shared_expert(*model, block);
      model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
    }
    if (i != 1) {
      add_tiny_delta_attention(*model, block, kTaps);
      continue;
    }
    model->add_random(block + "attn_q_a.weight", {kQRank, kTinyHidden});
    model->add_random(block + "attn_q_a_norm.weight", {kQRank});
    model->add_random(block + "attn_q_b.weight", {kWidth, kQRank});
    model->add_random(block + "attn_kv_a_mqa.weight", {kRank, kTinyHidden});
    model->add_random(block + "attn_kv_a_norm.weight", {kRank});
    model->add_random(block + "attn_k_b.weight", {kTinyHeads, kRank, kTinyHeadDim});
    model->add_random(block + "attn_v_b.weight", {kTinyHeads, kTinyHeadDim, kRank});
    model->add_random(block + "indexer.attn_q_b.weight", {kIndexHeads * kIndexDim, kQRank});
    model->add_random(block + "indexer.attn_k.weight", {kIndexDim, kTinyHidden});
    model->add_random(block + "indexer.k_norm.weight", {kIndexDim});
    model->add_random(block + "indexer.k_norm.bias", {kIndexDim});
    model->add_random(block + "indexer.proj.weight", {kIndexHeads, kTinyHidden});
    model->add_random(block + "indexer_compressor_gate.weight", {kIndexDim, kTinyHidden});
    model->add_random(block + "indexer_compressor_ape.weight", {kPool, kIndexDim});
  }
  return model;
}

}  // namespace millrace::testing
