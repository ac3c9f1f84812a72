// For tests: a body of families/gemma.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
