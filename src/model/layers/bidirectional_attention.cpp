#include "model/layers/bidirectional_attention.h"

namespace millrace {

void run_bidirectional_attention(const Pass& pass, const Attention& attention, const Tensor& x,
                                 const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const AttentionSizes& sizes = attention.sizes;
  const int64_t n_rows = x.dim(0);
  const Tensor q = pass.arena.take(Dtype::f32, {n_rows, sizes.q_width()});
  const Tensor k = pass.arena.take(Dtype::f32, {n_rows, sizes.k_width()});
  const Tensor v = pass.arena.take(Dtype::f32, {n_rows, sizes.v_width()});
  pass.backend.run(Linear{.x = x,
                          .products = {{.weight = attention.q, .bias = attention.q_bias, .out = q},
                                       {.weight = attention.k, .bias = attention.k_bias, .out = k},
                                       {.weight = attention.v, .bias = attention.v_bias, .out = v}},
                          .n_products = 3});

  const Tensor q_heads = q.reshaped({n_rows, sizes.n_heads, sizes.head_dim});
  const Tensor k_heads = k.reshaped({n_rows, sizes.n_kv_heads, sizes.head_dim});
  if (attention.rope.inv_freq || attention.q_norm) {
    pass.backend.run(RopeStoreKv{.batch = pass.batch,
                                 .q = q_heads,
                                 .k = k_heads,
                                 .q_norm = attention.q_norm,
                                 .k_norm = attention.k_norm,
                                 .norm_eps = attention.norm_eps,
                                 .rope = attention.rope});
  }

  const Tensor mixed = pass.arena.take(Dtype::f32, {n_rows, sizes.out_width()});
  pass.backend.run(BidirectionalAttention{.batch = pass.batch,
                                          .q = q_heads,
                                          .k = k_heads,
                                          .v = v.reshaped({n_rows, sizes.n_kv_heads, sizes.v_head_dim}),
                                          .out = mixed.reshaped({n_rows, sizes.n_heads, sizes.v_head_dim}),
                                          .scale = attention.scale,
                                          .softcap = attention.softcap,
                                          .reach = static_cast<int32_t>(attention.window / 2)});
  pass.backend.run(
      Linear{.x = mixed, .products = {{.weight = attention.out, .bias = attention.out_bias, .out = out}}});
}

}  // namespace millrace
