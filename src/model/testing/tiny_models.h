// For tests: one tiny model with random weights for each body of a family, on any machine.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "model/testing/memory_checkpoint.h"

namespace millrace::testing {

inline constexpr int64_t kTinyVocab = 32;
inline constexpr int64_t kTinyHidden = 24;
inline constexpr int64_t kTinyHeads = 4, kTinyKvHeads = 2, kTinyHeadDim = 8;
inline constexpr int64_t kTinyFf = 40, kTinyLayers = 3, kTinyExperts = 4;

inline std::unique_ptr<MemoryCheckpoint> tiny_ends(std::string_view architecture) {
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
  model->set(prefix + "attention.layer_norm_rms_epsilon", 1e-6);
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

inline std::string block_name(int64_t layer) { return "blk." + std::to_string(layer) + "."; }

inline std::unique_ptr<MemoryCheckpoint> tiny_llama() {
  auto model = tiny_ends("llama");
  model->set("llama.attention.sliding_window", int64_t{7});
  model->set("llama.attention.sliding_window_pattern", std::vector<bool>{true, false, true});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    add_tiny_attention(*model, block_name(i));
    add_tiny_mlp(*model, block_name(i));
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_qwen3moe() {
  auto model = tiny_ends("qwen3moe");
  model->set("qwen3moe.expert_count", kTinyExperts);
  model->set("qwen3moe.expert_used_count", int64_t{2});
  model->set("qwen3moe.expert_feed_forward_length", kTinyFf);
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    add_tiny_attention(*model, block_name(i));
    add_tiny_head_norms(*model, block_name(i));
    model->add_random(block_name(i) + "ffn_gate_inp.weight", {kTinyExperts, kTinyHidden});
    model->add_random(block_name(i) + "ffn_gate_exps.weight", {kTinyExperts, kTinyFf, kTinyHidden});
    model->add_random(block_name(i) + "ffn_up_exps.weight", {kTinyExperts, kTinyFf, kTinyHidden});
    model->add_random(block_name(i) + "ffn_down_exps.weight", {kTinyExperts, kTinyHidden, kTinyFf});
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_gemma(std::string_view architecture) {
  auto model = tiny_ends(architecture);
  model->set(std::string(architecture) + ".attention.sliding_window", int64_t{5});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    add_tiny_attention(*model, block_name(i));
    if (architecture == "gemma3") add_tiny_head_norms(*model, block_name(i));
    model->add_random(block_name(i) + "post_attention_norm.weight", {kTinyHidden});
    model->add_random(block_name(i) + "post_ffw_norm.weight", {kTinyHidden});
    add_tiny_mlp(*model, block_name(i));
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_phi3() {
  auto model = tiny_ends("phi3");
  model->set("phi3.rope.dimension_count", int64_t{6});
  model->set("phi3.rope.scaling.original_context_length", int64_t{32});
  model->add_random("rope_factors_long.weight", {3});
  model->add_random("rope_factors_short.weight", {3});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    model->add_random(block + "attn_norm.weight", {kTinyHidden});
    model->add_random(block + "attn_qkv.weight",
                      {(kTinyHeads + 2 * kTinyKvHeads) * kTinyHeadDim, kTinyHidden});
    model->add_random(block + "attn_output.weight", {kTinyHidden, kTinyHeads * kTinyHeadDim});
    model->add_random(block + "ffn_norm.weight", {kTinyHidden});
    model->add_random(block + "ffn_up.weight", {2 * kTinyFf, kTinyHidden});
    model->add_random(block + "ffn_down.weight", {kTinyHidden, kTinyFf});
  }
  return model;
}

struct TinyModel {
  std::string_view name;
  std::unique_ptr<MemoryCheckpoint> checkpoint;
};

inline std::vector<TinyModel> tiny_models() {
  std::vector<TinyModel> models;
  models.push_back({"llama", tiny_llama()});
  models.push_back({"qwen3moe", tiny_qwen3moe()});
  models.push_back({"gemma2", tiny_gemma("gemma2")});
  models.push_back({"gemma3", tiny_gemma("gemma3")});
  models.push_back({"phi3", tiny_phi3()});
  return models;
}

}  // namespace millrace::testing
