// For tests: a body of families/cohere.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
