// For tests: a body of families/glm4.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
