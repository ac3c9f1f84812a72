// For tests: embeddings of each layer, as two bodies have them.
#pragma once

#include "model/testing/tiny/parts.h"

namespace millrace::testing {

// A width of its own for the embeddings of layers, and a vocabulary that ends before that of the model.
inline constexpr int64_t kTinyInput = 6;
inline void add_tiny_per_layer_input(MemoryCheckpoint& model, std::string_view architecture) {
  model.set(std::string(architecture) + ".embedding_length_per_layer_input", kTinyInput);
  model.add_random("per_layer_token_embd.weight", {kTinyVocab - 3, kTinyLayers * kTinyInput});
  model.add_random("per_layer_model_proj.weight", {kTinyLayers * kTinyInput, kTinyHidden});
  model.add_random("per_layer_proj_norm.weight", {kTinyInput});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    model.add_random(block_name(i) + "inp_gate.weight", {kTinyInput, kTinyHidden});
    model.add_random(block_name(i) + "proj.weight", {kTinyHidden, kTinyInput});
    model.add_random(block_name(i) + "post_norm.weight", {kTinyHidden});
  }
}

}  // namespace millrace::testing
