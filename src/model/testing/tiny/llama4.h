// For tests: a body of families/llama4.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
