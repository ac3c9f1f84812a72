// For tests: a body of families/qwen3next.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
