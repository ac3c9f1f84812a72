// Linear attention by the delta rule, as Qwen3-Next's gated delta net and Kimi's delta attention have it:
// short convolutions over q, k and v, the rule itself, a norm of each head, an output gate and a projection.
// What goes in is projected by the family.
#pragma once

#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"

namespace millrace {

struct DeltaSizes {
  int64_t hidden = 0;
  int64_t n_k_heads = 0;
  int64_t n_v_heads = 0;
  int64_t k_head_dim = 0;
  int64_t v_head_dim = 0;
  int64_t n_taps = 0;

  int64_t k_width() const { return n_k_heads * k_head_dim; }
  int64_t v_width() const { return n_v_heads * v_head_dim; }
  StateLayer state_layer() const {
    return {.n_v_heads = n_v_heads,
            .k_head_dim = k_head_dim,
            .v_head_dim = v_head_dim,
            .n_kept = n_taps - 1,
            .k_width = k_width(),
            .v_width = v_width()};
  }
};

struct DeltaRule {
  DeltaSizes sizes;
  Tensor conv_q, conv_k, conv_v;  // (k_width or v_width, n_taps)
  Tensor rate;                    // (n_v_heads)
  Tensor decay_bias;              // (n_v_heads) or (n_v_heads * k_head_dim)
  Tensor norm;                    // (v_head_dim)
  Tensor out;                     // (hidden, v_width)
  float norm_eps = 1e-6f;
  float floor = 0.0f;  // of GatedDeltaRule
  KeyHeads key_heads = KeyHeads::grouped;
  Activation gate = Activation::silu;
};

// ssm.conv_kernel: taps of a short convolution.
int64_t read_n_taps(Hparams& hparams);

// What a family projects from its rows.
struct DeltaInputs {
  Tensor q, k;   // (n_rows, k_width)
  Tensor v;      // (n_rows, v_width)
  Tensor beta;   // (n_rows, n_v_heads)
  Tensor decay;  // (n_rows, n_v_heads), or (n_rows, n_v_heads * k_head_dim)
  Tensor gate;   // (n_rows, v_width)
};

// Writes out (n_rows, hidden) and the state of `layer`.
void run_delta_rule(const Pass& pass, const DeltaRule& rule, int64_t layer, const DeltaInputs& inputs,
                    const Tensor& out);

}  // namespace millrace
