// For tests: a body of families/kimi_linear.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

// Two layers of Kimi delta attention, then latent attention; the first feed-forward is dense.
inline std::unique_ptr<MemoryCheckpoint> tiny_kimi_linear() {
  constexpr int64_t kWidth = kTinyHeads * kTinyHeadDim, kTaps = 4, kRank = 28, kNope = 8, kRope = 4;
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
      model->add_random(block + "exp_probs_b.bias", {kTinyExperts});
      add_tiny_experts(*model, block, 16);
      add_tiny_shared_expert(*model, block, 16);
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

}  // namespace millrace::testing
