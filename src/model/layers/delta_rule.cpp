#include "model/layers/delta_rule.h"

namespace millrace {

int64_t read_n_taps(Hparams& hparams) { return hparams.count("ssm.conv_kernel", {2, 8}); }

namespace {

// silu(convolution of x), (n_rows, n_channels)
Tensor convolve(const Pass& pass, const Tensor& x, const Tensor& weight, const Tensor& state) {
  const Tensor out = pass.arena.take(Dtype::f32, {x.dim(0), x.dim(1)});
  pass.backend.run(CausalConv{.batch = pass.batch, .x = x, .weight = weight, .state = state, .out = out});
  return out;
}

}  // namespace

void run_delta_rule(const Pass& pass, const DeltaRule& rule, int64_t layer, const DeltaInputs& inputs,
                    const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const DeltaSizes& sizes = rule.sizes;
  const LayerState& state = pass.states.layer(layer);
  const int64_t n_rows = inputs.q.dim(0);
  const int64_t n_decays = rule.decay_bias.n_elems() / sizes.n_v_heads;
  const Tensor q = convolve(pass, inputs.q, rule.conv_q, state.conv_q);
  const Tensor k = convolve(pass, inputs.k, rule.conv_k, state.conv_k);
  const Tensor v = convolve(pass, inputs.v, rule.conv_v, state.conv_v);
  const Tensor mixed = pass.arena.take(Dtype::f32, {n_rows, sizes.n_v_heads, sizes.v_head_dim});
  pass.backend.run(GatedDeltaRule{.batch = pass.batch,
                                  .q = q.reshaped({n_rows, sizes.n_k_heads, sizes.k_head_dim}),
                                  .k = k.reshaped({n_rows, sizes.n_k_heads, sizes.k_head_dim}),
                                  .v = v.reshaped({n_rows, sizes.n_v_heads, sizes.v_head_dim}),
                                  .beta = inputs.beta,
                                  .decay = inputs.decay.reshaped({n_rows, sizes.n_v_heads, n_decays}),
                                  .decay_bias = rule.decay_bias.reshaped({sizes.n_v_heads, n_decays}),
                                  .rate = rule.rate.reshaped({sizes.n_v_heads}),
                                  .state = state.matrix,
                                  .out = mixed,
                                  .floor = rule.floor,
                                  .key_heads = rule.key_heads});
  pass.backend.run(Norm{.x = mixed, .weight = rule.norm, .out = mixed, .eps = rule.norm_eps});
  const Tensor row = mixed.reshaped({n_rows, sizes.v_width()});
  pass.backend.run(Gate{.gate = inputs.gate, .x = row, .out = row, .activation = rule.gate});
  pass.backend.run(Linear{.x = row, .products = {{.weight = rule.out, .out = out}}});
}

}  // namespace millrace
