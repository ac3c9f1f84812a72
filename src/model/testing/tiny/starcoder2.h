// For tests: a body of families/starcoder2.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
