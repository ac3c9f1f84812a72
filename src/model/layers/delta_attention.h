// Kimi delta attention (Kimi Team 2025): a delta rule whose decay is of each key dimension, with what makes
// its inputs of a row. Decay and gate are products of two small matrices.
#pragma once

#include "model/layers/delta_rule.h"

namespace millrace {

struct DeltaAttention {
  DeltaRule rule;
  Tensor q, k, v;           // (width, hidden), the width being that of all heads
  Tensor beta;              // (n_heads, hidden)
  Tensor decay_a, decay_b;  // (head_dim, hidden), (width, head_dim)
  Tensor gate_a, gate_b;    // the same
};

// As many heads as attention has; kda.head_dim, kda.gate_lower_bound (the floor of the rule) and
// ssm.conv_kernel.
DeltaAttention read_delta_attention(Hparams& hparams, int64_t hidden, float norm_eps);
void list_delta_attention(WeightList& list, DeltaAttention& delta);
// out = delta(x), both (n_rows, hidden). Writes the state of `layer`.
void run_delta_attention(const Pass& pass, const DeltaAttention& delta, int64_t layer, const Tensor& x,
                         const Tensor& out);

}  // namespace millrace
