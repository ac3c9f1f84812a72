// For tests: a body of families/phi3.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

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

}  // namespace millrace::testing
