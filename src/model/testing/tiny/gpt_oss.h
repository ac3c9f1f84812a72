// For tests: a body of families/gpt_oss.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

inline std::unique_ptr<MemoryCheckpoint> tiny_gpt_oss() {
  auto model = tiny_ends("gpt-oss");
  set_tiny_experts(*model, "gpt-oss", 2);
  model->set("gpt-oss.attention.sliding_window", int64_t{5});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    model->remove(block + "ffn_norm.weight");
    model->add_random(block + "post_attention_norm.weight", {kTinyHidden});
    add_tiny_biases(*model, block);
    model->add_random(block + "attn_output.bias", {kTinyHidden});
    model->add_random(block + "attn_sinks.weight", {kTinyHeads});
    add_tiny_experts(*model, block);
    model->add_random(block + "ffn_gate_inp.bias", {kTinyExperts});
    model->add_random(block + "ffn_gate_exps.bias", {kTinyExperts, kTinyFf});
    model->add_random(block + "ffn_up_exps.bias", {kTinyExperts, kTinyFf});
    model->add_random(block + "ffn_down_exps.bias", {kTinyExperts, kTinyHidden});
  }
  return model;
}

}  // namespace millrace::testing
