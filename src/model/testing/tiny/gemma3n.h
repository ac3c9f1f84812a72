// For tests: a body of families/gemma3n.cpp with random weights.
#pragma once

#include "model/testing/tiny/parts.h"
#include "model/testing/tiny/per_layer_input.h"

namespace millrace::testing {

// Layer 0 slides and has keys, layer 1 sees everything and has, layer 2 slides and reads those of layer 0.
inline std::unique_ptr<MemoryCheckpoint> tiny_gemma3n() {
  constexpr int64_t kStreams = 3, kRank = 5;
  auto model = tiny_ends("gemma3n");
  model->set("gemma3n.attention.sliding_window", int64_t{5});
  model->set("gemma3n.attention.sliding_window_pattern", std::vector<bool>{true, false, true});
  model->set("gemma3n.attention.shared_kv_layers", int64_t{1});
  model->set("gemma3n.altup.num_inputs", kStreams);
  model->set("gemma3n.activation_sparsity_scale",
             std::vector<double>{0.5, -std::numeric_limits<double>::infinity(), -0.2});
  add_tiny_per_layer_input(*model, "gemma3n");
  model->add_random("altup_proj.weight", {kStreams - 1, kTinyHidden, kTinyHidden});
  model->add_random("altup_unembd_proj.weight", {kStreams - 1, kTinyHidden, kTinyHidden});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    add_tiny_attention(*model, block);
    add_tiny_head_norms(*model, block);
    add_tiny_mlp(*model, block);
    for (const char* name : {"post_attention_norm", "post_ffw_norm", "altup_router_norm",
                             "altup_correct_scale", "laurel_post_norm"}) {
      model->add_random(block + name + ".weight", {kTinyHidden});
    }
    model->add_random(block + "altup_router.weight", {kStreams, kTinyHidden});
    model->add_random(block + "altup_predict_coef.weight", {kStreams * kStreams, kStreams});
    model->add_random(block + "altup_correct_coef.weight", {kStreams, kStreams});
    model->add_random(block + "laurel_l.weight", {kRank, kTinyHidden});
    model->add_random(block + "laurel_r.weight", {kTinyHidden, kRank});
  }
  return model;
}

}  // namespace millrace::testing
