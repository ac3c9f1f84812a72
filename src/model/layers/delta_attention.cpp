#include "model/layers/delta_attention.h"

namespace millrace {

DeltaAttention read_delta_attention(Hparams& hparams, int64_t hidden, float norm_eps) {
  const int64_t n_heads = hparams.count("attention.head_count"), head_dim = hparams.count("kda.head_dim");
  DeltaAttention delta;
  delta.rule.sizes = {.hidden = hidden,
                      .n_k_heads = n_heads,
                      .n_v_heads = n_heads,
                      .k_head_dim = head_dim,
                      .v_head_dim = head_dim,
                      .n_taps = read_n_taps(hparams)};
  delta.rule.norm_eps = norm_eps;
  delta.rule.gate = Activation::sigmoid;
  delta.rule.floor = static_cast<float>(hparams.real_or("kda.gate_lower_bound", 0.0, {-1e3, 0.0}));
  return delta;
}

void list_delta_attention(WeightList& list, DeltaAttention& delta) {
  const DeltaSizes& sizes = delta.rule.sizes;
  const int64_t width = sizes.k_width(), head_dim = sizes.k_head_dim;
  list.add(delta.q, "attn_q.weight", {width, sizes.hidden});
  list.add(delta.k, "attn_k.weight", {width, sizes.hidden});
  list.add(delta.v, "attn_v.weight", {width, sizes.hidden});
  list.add_f32(delta.rule.conv_q, "ssm_conv1d_q.weight", {width, sizes.n_taps});
  list.add_f32(delta.rule.conv_k, "ssm_conv1d_k.weight", {width, sizes.n_taps});
  list.add_f32(delta.rule.conv_v, "ssm_conv1d_v.weight", {width, sizes.n_taps});
  list.add(delta.beta, "ssm_beta.weight", {sizes.n_v_heads, sizes.hidden});
  list.add(delta.decay_a, "ssm_f_a.weight", {head_dim, sizes.hidden});
  list.add(delta.decay_b, "ssm_f_b.weight", {width, head_dim});
  list.add(delta.gate_a, "ssm_g_a.weight", {head_dim, sizes.hidden});
  list.add(delta.gate_b, "ssm_g_b.weight", {width, head_dim});
  list.add(delta.rule.rate, "ssm_a", {sizes.n_v_heads});
  list.add(delta.rule.decay_bias, "ssm_dt.bias", {width});
  list.add(delta.rule.norm, "ssm_norm.weight", {head_dim});
  list.add(delta.rule.out, "attn_output.weight", {sizes.hidden, width});
}

void run_delta_attention(const Pass& pass, const DeltaAttention& delta, int64_t layer, const Tensor& x,
                         const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const DeltaSizes& sizes = delta.rule.sizes;
  const auto take = [&](int64_t width) { return pass.arena.take(Dtype::f32, {x.dim(0), width}); };
  const int64_t width = sizes.k_width();
  const DeltaInputs inputs{.q = take(width),
                           .k = take(width),
                           .v = take(width),
                           .beta = take(sizes.n_v_heads),
                           .decay = take(width),
                           .gate = take(width)};
  const Tensor decay = take(sizes.k_head_dim), gate = take(sizes.k_head_dim);
  pass.backend.run(Linear{.x = x,
                          .products = {{.weight = delta.q, .out = inputs.q},
                                       {.weight = delta.k, .out = inputs.k},
                                       {.weight = delta.v, .out = inputs.v}},
                          .n_products = 3});
  pass.backend.run(Linear{.x = x,
                          .products = {{.weight = delta.beta, .out = inputs.beta},
                                       {.weight = delta.decay_a, .out = decay},
                                       {.weight = delta.gate_a, .out = gate}},
                          .n_products = 3});
  pass.backend.run(Linear{.x = decay, .products = {{.weight = delta.decay_b, .out = inputs.decay}}});
  pass.backend.run(Linear{.x = gate, .products = {{.weight = delta.gate_b, .out = inputs.gate}}});
  run_delta_rule(pass, delta.rule, layer, inputs, out);
}

}  // namespace millrace
