// For tests: a body of families/gemma4.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"
#include "model/testing/tiny/per_layer_input.h"

namespace millrace::testing {

// The layer that sees everything has heads twice as wide, one of keys, and no values of its own.
inline std::unique_ptr<MemoryCheckpoint> tiny_gemma4(bool has_fused_experts) {
  auto model = std::make_unique<MemoryCheckpoint>();
  model->set_text("general.architecture", "gemma4");
  const std::pair<const char*, int64_t> counts[] = {
      {"block_count", kTinyLayers},
      {"context_length", 256},
      {"embedding_length", kTinyHidden},
      {"expert_count", kTinyExperts},
      {"expert_used_count", 2},
      {"expert_feed_forward_length", 12},
      {"attention.head_count", kTinyHeads},
      {"attention.key_length", 2 * kTinyHeadDim},
      {"attention.key_length_swa", kTinyHeadDim},
      {"attention.sliding_window", 5},
      {"attention.shared_kv_layers", 1},
  };
  for (const auto& [key, value] : counts) model->set(std::string("gemma4.") + key, value);
  model->set("gemma4.feed_forward_length", std::vector<int64_t>{kTinyFf, kTinyFf, 2 * kTinyFf});
  model->set("gemma4.attention.head_count_kv", std::vector<int64_t>{kTinyKvHeads, 1, kTinyKvHeads});
  model->set("gemma4.attention.sliding_window_pattern", std::vector<bool>{true, false, true});
  model->set("gemma4.attention.layer_norm_rms_epsilon", 1e-6);
  model->add_random("token_embd.weight", {kTinyVocab, kTinyHidden});
  model->add_random("output_norm.weight", {kTinyHidden});
  model->add_random("rope_freqs.weight", {kTinyHeadDim});
  add_tiny_per_layer_input(*model, "gemma4");
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    const int64_t head_dim = i == 1 ? 2 * kTinyHeadDim : kTinyHeadDim;
    const int64_t n_ff = i == 2 ? 2 * kTinyFf : kTinyFf;
    const int64_t k_width = i == 1 ? head_dim : kTinyKvHeads * head_dim;
    model->add_random(block + "attn_q.weight", {kTinyHeads * head_dim, kTinyHidden});
    model->add_random(block + "attn_q_norm.weight", {head_dim});
    if (i < 2) model->add_random(block + "attn_k.weight", {k_width, kTinyHidden});
    if (i < 2) model->add_random(block + "attn_k_norm.weight", {head_dim});
    if (i < 1) model->add_random(block + "attn_v.weight", {k_width, kTinyHidden});
    model->add_random(block + "attn_output.weight", {kTinyHidden, kTinyHeads * head_dim});
    model->add_random(block + "ffn_gate.weight", {n_ff, kTinyHidden});
    model->add_random(block + "ffn_up.weight", {n_ff, kTinyHidden});
    model->add_random(block + "ffn_down.weight", {kTinyHidden, n_ff});
    for (const char* name : {"attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm",
                             "pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"}) {
      model->add_random(block + name + ".weight", {kTinyHidden});
    }
    model->add_random(block + "layer_output_scale.weight", {1});
    model->add_random(block + "ffn_gate_inp.weight", {kTinyExperts, kTinyHidden});
    model->add_random(block + "ffn_gate_inp.scale", {kTinyHidden});
    model->add_random(block + "ffn_down_exps.scale", {kTinyExperts});
    if (has_fused_experts) {
      model->add_random(block + "ffn_gate_up_exps.weight", {kTinyExperts, 2 * 12, kTinyHidden});
    } else {
      model->add_random(block + "ffn_gate_exps.weight", {kTinyExperts, 12, kTinyHidden});
      model->add_random(block + "ffn_up_exps.weight", {kTinyExperts, 12, kTinyHidden});
    }
    model->add_random(block + "ffn_down_exps.weight", {kTinyExperts, kTinyHidden, 12});
  }
  return model;
}

}  // namespace millrace::testing
