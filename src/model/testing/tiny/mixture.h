// For tests: a body of families/mixture.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

// Layer 0 is dense. The gate of the shared expert lies as a vector in layer 2, as some writers leave it.
inline std::unique_ptr<MemoryCheckpoint> tiny_qwen2moe() {
  auto model = tiny_ends("qwen2moe");
  set_tiny_experts(*model, "qwen2moe", 2);
  model->set("qwen2moe.expert_shared_feed_forward_length", kTinyFf);
  model->set("millrace.dense_layers", std::vector<bool>{true, false, false});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    add_tiny_biases(*model, block);
    if (i == 0) {
      add_tiny_mlp(*model, block);
      continue;
    }
    add_tiny_experts(*model, block);
    add_tiny_shared_expert(*model, block);
    model->add_random(block + "ffn_gate_inp_shexp.weight",
                      i == 1 ? std::vector<int64_t>{1, kTinyHidden} : std::vector<int64_t>{kTinyHidden});
  }
  return model;
}

// A dense layer first, and behind the layers one that drafts.
inline std::unique_ptr<MemoryCheckpoint> tiny_glm4moe() {
  auto model = tiny_ends("glm4moe");
  set_tiny_experts(*model, "glm4moe", 2);
  model->set("glm4moe.leading_dense_block_count", int64_t{1});
  model->set("glm4moe.expert_shared_count", int64_t{1});
  model->set("glm4moe.nextn_predict_layers", int64_t{1});
  model->set("glm4moe.expert_weights_scale", 2.5);
  model->set("glm4moe.rope.dimension_count", int64_t{4});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    model->remove(block + "ffn_norm.weight");
    model->add_random(block + "post_attention_norm.weight", {kTinyHidden});
    add_tiny_biases(*model, block);
    if (i == 0) {
      add_tiny_mlp(*model, block);
      continue;
    }
    add_tiny_experts(*model, block);
    model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
    add_tiny_shared_expert(*model, block);
  }
  model->add_random(block_name(kTinyLayers - 1) + "nextn.eh_proj.weight", {kTinyHidden, 2 * kTinyHidden});
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_minimax() {
  auto model = tiny_ends("minimax-m2");
  set_tiny_experts(*model, "minimax-m2", 2);
  model->set("minimax-m2.rope.dimension_count", int64_t{6});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    model->add_random(block + "attn_q_norm.weight", {kTinyHeads * kTinyHeadDim});
    model->add_random(block + "attn_k_norm.weight", {kTinyKvHeads * kTinyHeadDim});
    add_tiny_experts(*model, block);
    model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
  }
  return model;
}

}  // namespace millrace::testing
