// For tests: a body of families/olmo2.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
