// Per-layer embeddings (Gemma 3n, 4): beside the embedding that starts the stream, each layer gets a small
// one of its own for every token, mixed with a projection of the first, and lets it in through a gate.
#pragma once

#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"

namespace millrace {

struct PerLayerInput {
  int64_t n_layers = 0;
  int64_t hidden = 0;
  int64_t width = 0;  // of the embedding of one layer; 0: the model has none
  Tensor token_embd;  // (n_vocab or fewer, n_layers * width)
  Tensor model_proj;  // (n_layers * width, hidden)
  Tensor proj_norm;   // (width)
  float norm_eps = 1e-6f;
};

// What one layer does with it.
struct PerLayerGate {
  Tensor gate;  // (width, hidden)
  Tensor proj;  // (hidden, width)
  Tensor norm;  // (hidden)
};

// embedding_length_per_layer_input; a width of 0 where it is 0 or missing.
PerLayerInput read_per_layer_input(Hparams& hparams, const ModelShape& shape);
// The tensors of the whole model; their number of rows is that of the checkpoint.
void list_per_layer_input(WeightList& list, PerLayerInput& input, const Checkpoint& checkpoint);
void list_per_layer_gate(WeightList& list, const PerLayerInput& input, PerLayerGate& gate);
// Throws Error(bad_model) where the blocks of the table's format span two layers.
void check_per_layer_input(const PerLayerInput& input);

// out = norm(proj(gelu(gate(x)) * input of `layer`)), where embedded is what the stream began with; x,
// embedded and out (n_rows, hidden).
struct PerLayerStep {
  int64_t layer;
  const Tensor& x;
  const Tensor& embedded;
  const Tensor& out;
};
void run_per_layer_gate(const Pass& pass, const PerLayerInput& input, const PerLayerGate& gate,
                        const PerLayerStep& step);

}  // namespace millrace
