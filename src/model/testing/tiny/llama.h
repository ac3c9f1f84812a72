// For tests: a body of families/llama.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
