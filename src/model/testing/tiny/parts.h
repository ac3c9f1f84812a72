// For tests: what tiny models are made of.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/testing/memory_checkpoint.h"

namespace millrace::testing {

inline constexpr int64_t kTinyVocab = 32;
inline constexpr int64_t kTinyHidden = 24;
inline constexpr int64_t kTinyHeads = 4, kTinyKvHeads = 2, kTinyHeadDim = 32;
inline constexpr int64_t kTinyFf = 40, kTinyLayers = 3, kTinyExperts = 4;

inline std::unique_ptr<MemoryCheckpoint> tiny_ends(std::string_view architecture,
                                                   std::string_view eps = "layer_norm_rms_epsilon") {
  auto model = std::make_unique<MemoryCheckpoint>();
  const std::string prefix = std::string(architecture) + ".";
  model->set_text("general.architecture", architecture);
  model->set(prefix + "block_count", kTinyLayers);
  model->set(prefix + "context_length", int64_t{256});
  model->set(prefix + "embedding_length", kTinyHidden);
  model->set(prefix + "feed_forward_length", kTinyFf);
  model->set(prefix + "attention.head_count", kTinyHeads);
  model->set(prefix + "attention.head_count_kv", kTinyKvHeads);
  model->set(prefix + "attention.key_length", kTinyHeadDim);
  model->set(prefix + "attention." + std::string(eps), 1e-6);
  model->add_random("token_embd.weight", {kTinyVocab, kTinyHidden});
  model->add_random("output_norm.weight", {kTinyHidden});
  return model;
}

inline void add_tiny_attention(MemoryCheckpoint& model, const std::string& block) {
  model.add_random(block + "attn_norm.weight", {kTinyHidden});
  model.add_random(block + "attn_q.weight", {kTinyHeads * kTinyHeadDim, kTinyHidden});
  model.add_random(block + "attn_k.weight", {kTinyKvHeads * kTinyHeadDim, kTinyHidden});
  model.add_random(block + "attn_v.weight", {kTinyKvHeads * kTinyHeadDim, kTinyHidden});
  model.add_random(block + "attn_output.weight", {kTinyHidden, kTinyHeads * kTinyHeadDim});
  model.add_random(block + "ffn_norm.weight", {kTinyHidden});
}

inline void add_tiny_head_norms(MemoryCheckpoint& model, const std::string& block) {
  model.add_random(block + "attn_q_norm.weight", {kTinyHeadDim});
  model.add_random(block + "attn_k_norm.weight", {kTinyHeadDim});
}

inline void add_tiny_mlp(MemoryCheckpoint& model, const std::string& block) {
  model.add_random(block + "ffn_gate.weight", {kTinyFf, kTinyHidden});
  model.add_random(block + "ffn_up.weight", {kTinyFf, kTinyHidden});
  model.add_random(block + "ffn_down.weight", {kTinyHidden, kTinyFf});
}

inline void set_tiny_experts(MemoryCheckpoint& model, const std::string& architecture, int64_t n_used) {
  model.set(architecture + ".expert_count", kTinyExperts);
  model.set(architecture + ".expert_used_count", n_used);
  model.set(architecture + ".expert_feed_forward_length", kTinyFf);
}

inline void add_tiny_experts(MemoryCheckpoint& model, const std::string& block, int64_t width = kTinyFf) {
  model.add_random(block + "ffn_gate_inp.weight", {kTinyExperts, kTinyHidden});
  model.add_random(block + "ffn_gate_exps.weight", {kTinyExperts, width, kTinyHidden});
  model.add_random(block + "ffn_up_exps.weight", {kTinyExperts, width, kTinyHidden});
  model.add_random(block + "ffn_down_exps.weight", {kTinyExperts, kTinyHidden, width});
}

inline void add_tiny_shared_expert(MemoryCheckpoint& model, const std::string& block,
                                   int64_t width = kTinyFf) {
  model.add_random(block + "ffn_gate_shexp.weight", {width, kTinyHidden});
  model.add_random(block + "ffn_up_shexp.weight", {width, kTinyHidden});
  model.add_random(block + "ffn_down_shexp.weight", {kTinyHidden, width});
}

inline void add_tiny_biases(MemoryCheckpoint& model, const std::string& block) {
  model.add_random(block + "attn_q.bias", {kTinyHeads * kTinyHeadDim});
  model.add_random(block + "attn_k.bias", {kTinyKvHeads * kTinyHeadDim});
  model.add_random(block + "attn_v.bias", {kTinyKvHeads * kTinyHeadDim});
}

// Hyper-connections of both branches.
inline void add_tiny_hyper(MemoryCheckpoint& model, const std::string& block, int64_t n_streams) {
  const int64_t n_mix = n_streams * (2 + n_streams);
  for (const std::string branch : {"hc_attn", "hc_ffn"}) {
    model.add_random(block + branch + "_fn.weight", {n_mix, n_streams * kTinyHidden});
    model.add_random(block + branch + "_base.weight", {n_mix});
    model.add_random(block + branch + "_scale.weight", {3});
  }
}

inline void add_tiny_delta_attention(MemoryCheckpoint& model, const std::string& block, int64_t n_taps) {
  constexpr int64_t kWidth = kTinyHeads * kTinyHeadDim;
  for (const std::string name : {"q", "k", "v"}) {
    model.add_random(block + "attn_" + name + ".weight", {kWidth, kTinyHidden});
    model.add_random(block + "ssm_conv1d_" + name + ".weight", {kWidth, 1, n_taps});
  }
  for (const std::string name : {"f", "g"}) {
    model.add_random(block + "ssm_" + name + "_a.weight", {kTinyHeadDim, kTinyHidden});
    model.add_random(block + "ssm_" + name + "_b.weight", {kWidth, kTinyHeadDim});
  }
  model.add_random(block + "ssm_beta.weight", {kTinyHeads, kTinyHidden});
  model.add_random(block + "ssm_a", {kTinyHeads}, -1.0f);
  model.add_random(block + "ssm_dt.bias", {kWidth});
  model.add_random(block + "ssm_norm.weight", {kTinyHeadDim});
}

inline std::string block_name(int64_t layer) { return "blk." + std::to_string(layer) + "."; }

}  // namespace millrace::testing
