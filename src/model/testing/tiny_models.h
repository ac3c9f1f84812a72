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

inline void add_tiny_experts(MemoryCheckpoint& model, const std::string& block) {
  model.add_random(block + "ffn_gate_inp.weight", {kTinyExperts, kTinyHidden});
  model.add_random(block + "ffn_gate_exps.weight", {kTinyExperts, kTinyFf, kTinyHidden});
  model.add_random(block + "ffn_up_exps.weight", {kTinyExperts, kTinyFf, kTinyHidden});
  model.add_random(block + "ffn_down_exps.weight", {kTinyExperts, kTinyHidden, kTinyFf});
}

inline void add_tiny_shared_expert(MemoryCheckpoint& model, const std::string& block) {
  model.add_random(block + "ffn_gate_shexp.weight", {kTinyFf, kTinyHidden});
  model.add_random(block + "ffn_up_shexp.weight", {kTinyFf, kTinyHidden});
  model.add_random(block + "ffn_down_shexp.weight", {kTinyHidden, kTinyFf});
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
  set_tiny_experts(*model, "qwen3moe", 2);
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    add_tiny_attention(*model, block_name(i));
    add_tiny_head_norms(*model, block_name(i));
    add_tiny_experts(*model, block_name(i));
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_gemma(std::string_view architecture) {
  auto model = tiny_ends(architecture);
  model->set(std::string(architecture) + ".attention.sliding_window", int64_t{5});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    add_tiny_attention(*model, block_name(i));
    if (architecture != "gemma2") add_tiny_head_norms(*model, block_name(i));
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

// Latent attention of queries with a rank of their own, a dense layer, then experts in groups beside a shared
// one. glm-dsa: layers 0 and 2 select positions, layer 1 takes the selection of layer 0.
inline std::unique_ptr<MemoryCheckpoint> tiny_deepseek(std::string_view architecture) {
  constexpr int64_t kQRank = 12, kKvRank = 16, kNope = 8, kRope = 4, kValue = 6, kExpertFf = 20,
                    kIndexDim = 10;
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
    model->add_random(block + "ffn_gate_inp.weight", {kTinyExperts, kTinyHidden});
    model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
    model->add_random(block + "ffn_gate_exps.weight", {kTinyExperts, kExpertFf, kTinyHidden});
    model->add_random(block + "ffn_up_exps.weight", {kTinyExperts, kExpertFf, kTinyHidden});
    model->add_random(block + "ffn_down_exps.weight", {kTinyExperts, kTinyHidden, kExpertFf});
    model->add_random(block + "ffn_gate_shexp.weight", {kExpertFf, kTinyHidden});
    model->add_random(block + "ffn_up_shexp.weight", {kExpertFf, kTinyHidden});
    model->add_random(block + "ffn_down_shexp.weight", {kTinyHidden, kExpertFf});
  }
  return model;
}

// Two gated delta nets of two key heads and four value heads, then attention with a gate.
inline std::unique_ptr<MemoryCheckpoint> tiny_qwen35(std::string_view architecture) {
  constexpr int64_t kKeyHeads = 2, kValueHeads = 4, kKeyDim = 8, kValueDim = 6, kTaps = 4;
  constexpr int64_t kChannels = 2 * kKeyHeads * kKeyDim + kValueHeads * kValueDim;
  auto model = tiny_ends(architecture);
  const std::string prefix = std::string(architecture) + ".";
  model->set(prefix + "rope.dimension_count", int64_t{4});
  model->set(prefix + "full_attention_interval", kTinyLayers);
  model->set(prefix + "ssm.conv_kernel", kTaps);
  model->set(prefix + "ssm.state_size", kKeyDim);
  model->set(prefix + "ssm.group_count", kKeyHeads);
  model->set(prefix + "ssm.time_step_rank", kValueHeads);
  model->set(prefix + "ssm.inner_size", kValueHeads * kValueDim);
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    model->add_random(block + "attn_norm.weight", {kTinyHidden});
    model->add_random(block + "post_attention_norm.weight", {kTinyHidden});
    add_tiny_mlp(*model, block);
    if (i == kTinyLayers - 1) {
      model->add_random(block + "attn_q.weight", {2 * kTinyHeads * kTinyHeadDim, kTinyHidden});
      model->add_random(block + "attn_k.weight", {kTinyKvHeads * kTinyHeadDim, kTinyHidden});
      model->add_random(block + "attn_v.weight", {kTinyKvHeads * kTinyHeadDim, kTinyHidden});
      model->add_random(block + "attn_output.weight", {kTinyHidden, kTinyHeads * kTinyHeadDim});
      add_tiny_head_norms(*model, block);
      continue;
    }
    model->add_random(block + "attn_qkv.weight", {kChannels, kTinyHidden});
    model->add_random(block + "attn_gate.weight", {kValueHeads * kValueDim, kTinyHidden});
    model->add_random(block + "ssm_conv1d.weight", {kChannels, kTaps});
    if (architecture == "qwen3next") {
      model->add_random(block + "ssm_ba.weight", {2 * kValueHeads, kTinyHidden});
    } else {
      model->add_random(block + "ssm_beta.weight", {kValueHeads, kTinyHidden});
      model->add_random(block + "ssm_alpha.weight", {kValueHeads, kTinyHidden});
    }
    model->add_random(block + "ssm_a", {kValueHeads}, -1.0f);
    model->add_random(block + "ssm_dt.bias", {kValueHeads});
    model->add_random(block + "ssm_norm.weight", {kValueDim});
    model->add_random(block + "ssm_out.weight", {kTinyHidden, kValueHeads * kValueDim});
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_deepseek2() { return tiny_deepseek("deepseek2"); }

inline std::unique_ptr<MemoryCheckpoint> tiny_granite() {
  auto model = tiny_ends("granite");
  model->set("granite.attention.scale", 0.2);
  model->set("granite.embedding_scale", 6.0);
  model->set("granite.residual_scale", 0.5);
  model->set("granite.logit_scale", 2.0);
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    add_tiny_attention(*model, block_name(i));
    add_tiny_mlp(*model, block_name(i));
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_cohere(std::string_view architecture) {
  auto model = tiny_ends(architecture, "layer_norm_epsilon");
  const std::string prefix = std::string(architecture) + ".";
  model->set(prefix + "logit_scale", 0.5);
  if (architecture == "cohere2") {
    model->set(prefix + "attention.sliding_window", int64_t{5});
    model->set(prefix + "attention.sliding_window_pattern", int64_t{2});
  }
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    model->remove(block + "ffn_norm.weight");
    add_tiny_mlp(*model, block);
    if (architecture == "cohere2") continue;
    model->add_random(block + "attn_q_norm.weight", {kTinyHeads, kTinyHeadDim});
    model->add_random(block + "attn_k_norm.weight", {kTinyKvHeads, kTinyHeadDim});
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_olmo2() {
  auto model = tiny_ends("olmo2");
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    model->remove(block + "attn_norm.weight");
    model->remove(block + "ffn_norm.weight");
    model->add_random(block + "attn_q_norm.weight", {kTinyHeads * kTinyHeadDim});
    model->add_random(block + "attn_k_norm.weight", {kTinyKvHeads * kTinyHeadDim});
    model->add_random(block + "post_attention_norm.weight", {kTinyHidden});
    model->add_random(block + "post_ffw_norm.weight", {kTinyHidden});
    add_tiny_mlp(*model, block);
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_starcoder2() {
  auto model = tiny_ends("starcoder2", "layer_norm_epsilon");
  model->set("starcoder2.attention.sliding_window", int64_t{9});
  model->add_random("output_norm.bias", {kTinyHidden});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    add_tiny_mlp(*model, block);
    model->remove(block + "ffn_gate.weight");
    model->add_random(block + "attn_q.bias", {kTinyHeads * kTinyHeadDim});
    model->add_random(block + "attn_k.bias", {kTinyKvHeads * kTinyHeadDim});
    model->add_random(block + "attn_v.bias", {kTinyKvHeads * kTinyHeadDim});
    model->add_random(block + "ffn_up.bias", {kTinyFf});
    for (const char* name : {"attn_norm.bias", "attn_output.bias", "ffn_norm.bias", "ffn_down.bias"})
      model->add_random(block + name, {kTinyHidden});
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_glm4() {
  auto model = tiny_ends("glm4");
  model->set("glm4.rope.dimension_count", kTinyHeadDim / 2);
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    model->add_random(block + "post_attention_norm.weight", {kTinyHidden});
    model->add_random(block + "post_ffw_norm.weight", {kTinyHidden});
    model->add_random(block + "ffn_up.weight", {2 * kTinyFf, kTinyHidden});
    model->add_random(block + "ffn_down.weight", {kTinyHidden, kTinyFf});
  }
  return model;
}

inline void add_tiny_biases(MemoryCheckpoint& model, const std::string& block) {
  model.add_random(block + "attn_q.bias", {kTinyHeads * kTinyHeadDim});
  model.add_random(block + "attn_k.bias", {kTinyKvHeads * kTinyHeadDim});
  model.add_random(block + "attn_v.bias", {kTinyKvHeads * kTinyHeadDim});
}

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

// Layer 1 is global and has experts.
inline std::unique_ptr<MemoryCheckpoint> tiny_llama4() {
  auto model = tiny_ends("llama4");
  set_tiny_experts(*model, "llama4", 1);
  model->set("llama4.interleave_moe_layer_step", int64_t{2});
  model->set("llama4.attention.temperature_length", int64_t{8});
  model->set("millrace.attention.chunk_size", int64_t{6});
  model->set("millrace.rope.rotated_layers", std::vector<bool>{true, false, true});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    if (i != 1) {
      add_tiny_mlp(*model, block);
      continue;
    }
    add_tiny_experts(*model, block);
    add_tiny_shared_expert(*model, block);
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_gpt_oss() {
  auto model = tiny_ends("gpt-oss");
  set_tiny_experts(*model, "gpt-oss", 2);
  model->set("gpt-oss.attention.sliding_window", int64_t{5});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    model->remove(block + "ffn_norm.weight");
    model->add_random(block + "post_attention_norm.weight", {kTinyHidden});
    add_tiny_biases(*model, block);
    model->add_random(block + "attn_output.bias", {kTinyHidden});
    model->add_random(block + "attn_sinks.weight", {kTinyHeads});
    add_tiny_experts(*model, block);
    model->add_random(block + "ffn_gate_inp.bias", {kTinyExperts});
    model->add_random(block + "ffn_gate_exps.bias", {kTinyExperts, kTinyFf});
    model->add_random(block + "ffn_up_exps.bias", {kTinyExperts, kTinyFf});
    model->add_random(block + "ffn_down_exps.bias", {kTinyExperts, kTinyHidden});
  }
  return model;
}

inline void add_tiny_compressor(MemoryCheckpoint& model, const std::string& prefix, int64_t stride,
                                int64_t head_dim, int64_t width) {
  model.add_random(prefix + "_compressor_kv.weight", {width, kTinyHidden});
  model.add_random(prefix + "_compressor_gate.weight", {width, kTinyHidden});
  model.add_random(prefix + "_compressor_ape.weight", {stride, width});
  model.add_random(prefix + "_compressor_norm.weight", {head_dim});
}

// Layer 0 has a window alone, layer 1 selected entries of 4 positions, layer 2 all entries of 8.
inline std::unique_ptr<MemoryCheckpoint> tiny_deepseek4() {
  constexpr int64_t kHeadDim = 16, kRotary = 8, kQRank = 12, kOutRank = 10, kGroups = 2, kIndexDim = 10,
                    kStreams = 2;
  constexpr int64_t kExpertFf = 20, kMix = kStreams * (2 + kStreams);
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
    for (const std::string_view branch : {"hc_attn", "hc_ffn"}) {
      model->add_random(block + std::string(branch) + "_fn.weight", {kMix, kStreams * kTinyHidden});
      model->add_random(block + std::string(branch) + "_base.weight", {kMix});
      model->add_random(block + std::string(branch) + "_scale.weight", {3});
    }
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
    model->add_random(block + "ffn_gate_inp.weight", {kTinyExperts, kTinyHidden});
    if (i == 0) model->add_integers(block + "ffn_gate_tid2eid.weight", {kTinyVocab, 2}, kTinyExperts);
    if (i > 0) model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
    model->add_random(block + "ffn_gate_exps.weight", {kTinyExperts, kExpertFf, kTinyHidden});
    model->add_random(block + "ffn_up_exps.weight", {kTinyExperts, kExpertFf, kTinyHidden});
    model->add_random(block + "ffn_down_exps.weight", {kTinyExperts, kTinyHidden, kExpertFf});
    model->add_random(block + "ffn_gate_shexp.weight", {kExpertFf, kTinyHidden});
    model->add_random(block + "ffn_up_shexp.weight", {kExpertFf, kTinyHidden});
    model->add_random(block + "ffn_down_shexp.weight", {kTinyHidden, kExpertFf});
  }
  return model;
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

// Two layers of Kimi delta attention, then latent attention; the first feed-forward is dense.
inline std::unique_ptr<MemoryCheckpoint> tiny_kimi_linear() {
  constexpr int64_t kWidth = kTinyHeads * kTinyHeadDim, kTaps = 4, kRank = 12, kNope = 8, kRope = 4;
  auto model = tiny_ends("kimi-linear");
  model->set("kimi-linear.attention.head_count_kv", std::vector<int64_t>{0, 0, 1});
  model->set("kimi-linear.kda.head_dim", kTinyHeadDim);
  model->set("kimi-linear.ssm.conv_kernel", kTaps);
  model->set("kimi-linear.rope.dimension_count", kRope);
  model->set("kimi-linear.attention.kv_lora_rank", kRank);
  model->set("kimi-linear.attention.key_length", kRank + kRope);
  model->set("kimi-linear.attention.value_length", kRank);
  model->set("kimi-linear.attention.key_length_mla", kNope + kRope);
  model->set("kimi-linear.attention.value_length_mla", kTinyHeadDim);
  model->set("kimi-linear.leading_dense_block_count", int64_t{1});
  model->set("kimi-linear.expert_count", kTinyExperts);
  model->set("kimi-linear.expert_used_count", int64_t{2});
  model->set("kimi-linear.expert_shared_count", int64_t{1});
  model->set("kimi-linear.expert_feed_forward_length", int64_t{16});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    model->add_random(block + "attn_norm.weight", {kTinyHidden});
    model->add_random(block + "ffn_norm.weight", {kTinyHidden});
    model->add_random(block + "attn_output.weight", {kTinyHidden, kWidth});
    if (i == 0) {
      add_tiny_mlp(*model, block);
    } else {
      model->add_random(block + "ffn_gate_inp.weight", {kTinyExperts, kTinyHidden});
      model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
      model->add_random(block + "ffn_gate_exps.weight", {kTinyExperts, 16, kTinyHidden});
      model->add_random(block + "ffn_up_exps.weight", {kTinyExperts, 16, kTinyHidden});
      model->add_random(block + "ffn_down_exps.weight", {kTinyExperts, kTinyHidden, 16});
      model->add_random(block + "ffn_gate_shexp.weight", {16, kTinyHidden});
      model->add_random(block + "ffn_up_shexp.weight", {16, kTinyHidden});
      model->add_random(block + "ffn_down_shexp.weight", {kTinyHidden, 16});
    }
    if (i == kTinyLayers - 1) {
      model->add_random(block + "attn_q.weight", {kTinyHeads * (kNope + kRope), kTinyHidden});
      model->add_random(block + "attn_kv_a_mqa.weight", {kRank + kRope, kTinyHidden});
      model->add_random(block + "attn_kv_a_norm.weight", {kRank});
      model->add_random(block + "attn_k_b.weight", {kTinyHeads, kRank, kNope});
      model->add_random(block + "attn_v_b.weight", {kTinyHeads, kTinyHeadDim, kRank});
      continue;
    }
    add_tiny_delta_attention(*model, block, kTaps);
  }
  return model;
}

// Latent attention to selected runs of four positions between two layers of Kimi delta attention, in streams;
// the first feed-forward is dense.
inline std::unique_ptr<MemoryCheckpoint> tiny_glm5_next() {
  constexpr int64_t kWidth = kTinyHeads * kTinyHeadDim, kTaps = 4, kQRank = 12, kRank = 10, kStreams = 2,
                    kMix = kStreams * (2 + kStreams), kIndexHeads = 3, kIndexDim = 10, kPool = 4;
  auto model = tiny_ends("glm5-next");
  const std::string prefix = "glm5-next.";
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
  set_tiny_experts(*model, "glm5-next", 2);
  model->set(prefix + "expert_shared_count", int64_t{1});
  model->set(prefix + "swiglu_clamp_exp", std::vector<double>{1.0, 0.5, 0.5});
  model->set(prefix + "swiglu_clamp_shexp", std::vector<double>{1.0, 1.0, 1.0});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    for (const std::string_view branch : {"hc_attn", "hc_ffn"}) {
      model->add_random(block + std::string(branch) + "_fn.weight", {kMix, kStreams * kTinyHidden});
      model->add_random(block + std::string(branch) + "_base.weight", {kMix});
      model->add_random(block + std::string(branch) + "_scale.weight", {3});
    }
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

// A width of its own for the embeddings of layers, and a vocabulary that ends before that of the model.
inline constexpr int64_t kTinyInput = 6;
inline void add_tiny_per_layer_input(MemoryCheckpoint& model, std::string_view architecture) {
  model.set(std::string(architecture) + ".embedding_length_per_layer_input", kTinyInput);
  model.add_random("per_layer_token_embd.weight", {kTinyVocab - 3, kTinyLayers * kTinyInput});
  model.add_random("per_layer_model_proj.weight", {kTinyLayers * kTinyInput, kTinyHidden});
  model.add_random("per_layer_proj_norm.weight", {kTinyInput});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    model.add_random(block_name(i) + "inp_gate.weight", {kTinyInput, kTinyHidden});
    model.add_random(block_name(i) + "proj.weight", {kTinyHidden, kTinyInput});
    model.add_random(block_name(i) + "post_norm.weight", {kTinyHidden});
  }
}

// Layer 0 slides and has keys, layer 1 sees everything and has, layer 2 slides and reads those of layer 0.
inline std::unique_ptr<MemoryCheckpoint> tiny_gemma3n() {
  constexpr int64_t kStreams = 3, kRank = 5;
  auto model = tiny_ends("gemma3n");
  model->set("gemma3n.attention.sliding_window", int64_t{5});
  model->set("gemma3n.attention.sliding_window_pattern", std::vector<bool>{true, false, true});
  model->set("gemma3n.attention.shared_kv_layers", int64_t{1});
  model->set("gemma3n.altup.num_inputs", kStreams);
  model->set("gemma3n.activation_sparsity_scale",
             std::vector<double>{0.5, -std::numeric_limits<double>::infinity(), -0.2});
  add_tiny_per_layer_input(*model, "gemma3n");
  model->add_random("altup_proj.weight", {kStreams - 1, kTinyHidden, kTinyHidden});
  model->add_random("altup_unembd_proj.weight", {kStreams - 1, kTinyHidden, kTinyHidden});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    add_tiny_head_norms(*model, block);
    add_tiny_mlp(*model, block);
    for (const char* name : {"post_attention_norm", "post_ffw_norm", "altup_router_norm",
                             "altup_correct_scale", "laurel_post_norm"}) {
      model->add_random(block + name + ".weight", {kTinyHidden});
    }
    model->add_random(block + "altup_router.weight", {kStreams, kTinyHidden});
    model->add_random(block + "altup_predict_coef.weight", {kStreams * kStreams, kStreams});
    model->add_random(block + "altup_correct_coef.weight", {kStreams, kStreams});
    model->add_random(block + "laurel_l.weight", {kRank, kTinyHidden});
    model->add_random(block + "laurel_r.weight", {kTinyHidden, kRank});
  }
  return model;
}

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
  models.push_back({"qwen2moe", tiny_qwen2moe()});
  models.push_back({"glm4moe", tiny_glm4moe()});
  models.push_back({"minimax-m2", tiny_minimax()});
  models.push_back({"llama4", tiny_llama4()});
  models.push_back({"gpt-oss", tiny_gpt_oss()});
  models.push_back({"granite", tiny_granite()});
  models.push_back({"command-r", tiny_cohere("command-r")});
  models.push_back({"cohere2", tiny_cohere("cohere2")});
  models.push_back({"olmo2", tiny_olmo2()});
  models.push_back({"starcoder2", tiny_starcoder2()});
  models.push_back({"glm4", tiny_glm4()});
  models.push_back({"gemma3n", tiny_gemma3n()});
  models.push_back({"gemma4", tiny_gemma4(false)});
  models.push_back({"gemma4 with fused experts", tiny_gemma4(true)});
  models.push_back({"deepseek2", tiny_deepseek2()});
  models.push_back({"glm-dsa", tiny_deepseek("glm-dsa")});
  models.push_back({"qwen3next", tiny_qwen35("qwen3next")});
  models.push_back({"qwen35", tiny_qwen35("qwen35")});
  models.push_back({"kimi-linear", tiny_kimi_linear()});
  models.push_back({"glm5-next", tiny_glm5_next()});
  models.push_back({"deepseek4", tiny_deepseek4()});
  return models;
}

}  // namespace millrace::testing
