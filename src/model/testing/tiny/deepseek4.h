// For tests: a body of families/deepseek4.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

inline void add_tiny_compressor(MemoryCheckpoint& model, const std::string& prefix, int64_t stride,
                                int64_t head_dim, int64_t width) {
  model.add_random(prefix + "_compressor_kv.weight", {width, kTinyHidden});
  model.add_random(prefix + "_compressor_gate.weight", {width, kTinyHidden});
  model.add_random(prefix + "_compressor_ape.weight", {stride, width});
  model.add_random(prefix + "_compressor_norm.weight", {head_dim});
}

// Layer 0 has a window alone, layer 1 selected entries of 4 positions, layer 2 all entries of 8.
inline std::unique_ptr<MemoryCheckpoint> tiny_deepseek4() {
  constexpr int64_t kHeadDim = 32, kRotary = 8, kQRank = 12, kOutRank = 10, kGroups = 2, kIndexDim = 32,
                    kStreams = 2;
  constexpr int64_t kExpertFf = 20;
  auto model = tiny_ends("deepseek4");
  const std::string prefix = "deepseek4.";
  model->set(prefix + "attention.head_count_kv", int64_t{1});
  model->set(prefix + "attention.key_length", kHeadDim);
  model->set(prefix + "attention.q_lora_rank", kQRank);
  model->set(prefix + "attention.output_lora_rank", kOutRank);
  model->set(prefix + "attention.output_group_count", kGroups);
  model->set(prefix + "attention.sliding_window", int64_t{7});
  model->set(prefix + "attention.compress_ratios", std::vector<int64_t>{0, 4, 8});
  model->set(prefix + "attention.compress_rope_freq_base", 160000.0);
  model->set(prefix + "attention.indexer.head_count", int64_t{3});
  model->set(prefix + "attention.indexer.key_length", kIndexDim);
  model->set(prefix + "attention.indexer.top_k", int64_t{3});
  model->set(prefix + "rope.dimension_count", kRotary);
  model->set_text(prefix + "rope.scaling.type", "yarn");
  model->set(prefix + "rope.scaling.factor", 4.0);
  model->set(prefix + "rope.scaling.original_context_length", int64_t{16});
  model->set(prefix + "hyper_connection.count", kStreams);
  model->set(prefix + "hyper_connection.sinkhorn_iterations", int64_t{5});
  model->set(prefix + "hyper_connection.epsilon", 1e-6);
  model->set(prefix + "hash_layer_count", int64_t{1});
  model->set(prefix + "expert_count", kTinyExperts);
  model->set(prefix + "expert_used_count", int64_t{2});
  model->set(prefix + "expert_shared_count", int64_t{1});
  model->set(prefix + "expert_feed_forward_length", kExpertFf);
  model->set(prefix + "expert_gating_func", int64_t{4});
  model->set(prefix + "expert_weights_norm", true);
  model->set(prefix + "swiglu_clamp_exp", std::vector<double>{1.0, 1.0, 1.0});
  model->add_random("output_hc_fn.weight", {kStreams, kStreams * kTinyHidden});
  model->add_random("output_hc_base.weight", {kStreams});
  model->add_random("output_hc_scale.weight", {1});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_hyper(*model, block, kStreams);
    model->add_random(block + "attn_norm.weight", {kTinyHidden});
    model->add_random(block + "attn_q_a.weight", {kQRank, kTinyHidden});
    model->add_random(block + "attn_q_a_norm.weight", {kQRank});
    model->add_random(block + "attn_q_b.weight", {kTinyHeads * kHeadDim, kQRank});
    model->add_random(block + "attn_kv.weight", {kHeadDim, kTinyHidden});
    model->add_random(block + "attn_kv_a_norm.weight", {kHeadDim});
    model->add_random(block + "attn_sinks.weight", {kTinyHeads});
    model->add_random(block + "attn_output_a.weight", {kGroups * kOutRank, kTinyHeads * kHeadDim / kGroups});
    model->add_random(block + "attn_output_b.weight", {kTinyHidden, kGroups * kOutRank});
    if (i == 1) {
      add_tiny_compressor(*model, block + "attn", 4, kHeadDim, 2 * kHeadDim);
      add_tiny_compressor(*model, block + "indexer", 4, kIndexDim, 2 * kIndexDim);
      model->add_random(block + "indexer.attn_q_b.weight", {3 * kIndexDim, kQRank});
      model->add_random(block + "indexer.proj.weight", {3, kTinyHidden});
    }
    if (i == 2) add_tiny_compressor(*model, block + "attn", 8, kHeadDim, kHeadDim);
    model->add_random(block + "ffn_norm.weight", {kTinyHidden});
    if (i == 0) model->add_integers(block + "ffn_gate_tid2eid.weight", {kTinyVocab, 2}, kTinyExperts);
    if (i > 0) model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
    add_tiny_experts(*model, block, kExpertFf);
    add_tiny_shared_expert(*model, block, kExpertFf);
  }
  return model;
}

}  // namespace millrace::testing
