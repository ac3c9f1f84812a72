#include "model/layers/attention.h"

namespace millrace {

AttentionSizes read_attention_sizes(Hparams& hparams, int64_t hidden) {
  AttentionSizes sizes{.hidden = hidden, .n_heads = hparams.count("attention.head_count")};
  sizes.n_kv_heads = hparams.count_or("attention.head_count_kv", sizes.n_heads, kCount);
  if (sizes.n_heads % sizes.n_kv_heads != 0) {
    hparams.refuse("attention.head_count",
                   fmt::format("{} query heads do not divide among {} key-value heads", sizes.n_heads,
                               sizes.n_kv_heads));
  }
  if (!hparams.has("attention.key_length") && hidden % sizes.n_heads != 0) {
    hparams.refuse("attention.head_count", fmt::format("{} heads do not divide the width {}, and there is no "
                                                       "attention.key_length",
                                                       sizes.n_heads, hidden));
  }
  sizes.head_dim = hparams.count_or("attention.key_length", hidden / sizes.n_heads, kCount);
  sizes.v_head_dim = hparams.count_or("attention.value_length", sizes.head_dim, kCount);
  return sizes;
}

void list_projections(WeightList& list, Attention& attention) {
  const AttentionSizes& sizes = attention.sizes;
  const int64_t n_queries = attention.has_gate ? 2 * sizes.q_width() : sizes.q_width();
  list.add(attention.q, "attn_q.weight", {n_queries, sizes.hidden}, Shard::outputs);
  list.add(attention.k, "attn_k.weight", {sizes.k_width(), sizes.hidden}, Shard::outputs);
  list.add(attention.v, "attn_v.weight", {sizes.v_width(), sizes.hidden}, Shard::outputs);
  list.add(attention.out, "attn_output.weight", {sizes.hidden, sizes.out_width()}, Shard::inputs);
}

void list_qkv_bias(WeightList& list, Attention& attention, Presence presence) {
  const auto add = presence == Presence::needed ? &WeightList::add : &WeightList::add_optional;
  const AttentionSizes& sizes = attention.sizes;
  (list.*add)(attention.q_bias, "attn_q.bias", {sizes.q_width()}, Shard::outputs);
  (list.*add)(attention.k_bias, "attn_k.bias", {sizes.k_width()}, Shard::outputs);
  (list.*add)(attention.v_bias, "attn_v.bias", {sizes.v_width()}, Shard::outputs);
}

void list_head_norms(WeightList& list, Attention& attention, Presence presence) {
  const auto add = presence == Presence::needed ? &WeightList::add : &WeightList::add_optional;
  (list.*add)(attention.q_norm, "attn_q_norm.weight", {attention.sizes.head_dim}, Shard::none);
  (list.*add)(attention.k_norm, "attn_k_norm.weight", {attention.sizes.head_dim}, Shard::none);
}

void list_row_norms(WeightList& list, Attention& attention) {
  list.add(attention.q_norm, "attn_q_norm.weight", {attention.sizes.q_width()});
  list.add(attention.k_norm, "attn_k_norm.weight", {attention.sizes.k_width()});
}

namespace {

// Whether the norm of each head is the RMSNorm that RopeStoreKv does on the way.
bool is_norm_of_rope(const Attention& attention) {
  const Tensor& weight = attention.q_norm;
  return attention.norm_kind == NormKind::rms && weight.n_dims == 1 &&
         weight.dim(0) == attention.sizes.head_dim;
}

// x (n_rows, n_heads, head_dim) = norm(x), as the shape of `weight` says.
void norm_heads(const Pass& pass, const Attention& attention, const Tensor& x, const Tensor& weight) {
  const bool is_row = weight.n_dims == 1 && weight.dim(0) == x.dim(1) * x.dim(2);
  const Tensor vectors = is_row ? x.reshaped({x.dim(0), weight.dim(0)}) : x;
  pass.backend.run(Norm{.x = vectors,
                        .weight = weight,
                        .out = vectors,
                        .kind = attention.norm_kind,
                        .eps = attention.norm_eps});
}

}  // namespace

std::vector<int64_t> read_windows(Hparams& hparams, int64_t n_layers, int64_t period) {
  const int64_t window = hparams.count_or("attention.sliding_window", 0, {0, INT32_MAX});
  const std::vector<bool> slides = hparams.pattern_or("attention.sliding_window_pattern", n_layers, period);
  std::vector<int64_t> windows;
  for (const bool slide : slides) windows.push_back(slide ? window : 0);
  return windows;
}

void run_attention(const Pass& pass, const Attention& attention, int64_t layer, const Tensor& x,
                   const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const AttentionSizes& sizes = attention.sizes;
  const int64_t n_rows = x.dim(0);
  const Tensor q = pass.arena.take(Dtype::f32, {n_rows, sizes.q_width()});
  Tensor gate, q_and_gate = q;
  if (attention.has_gate) {
    gate = pass.arena.take(Dtype::f32, {n_rows, sizes.q_width()});
    q_and_gate = pass.arena.take(Dtype::f32, {n_rows, 2 * sizes.q_width()});
  }
  const Tensor k = pass.arena.take(Dtype::f32, {n_rows, sizes.k_width()});
  const Tensor v = pass.arena.take(Dtype::f32, {n_rows, sizes.v_width()});
  pass.backend.run(Linear{.x = x,
                          .products = {{.weight = attention.q, .bias = attention.q_bias, .out = q_and_gate},
                                       {.weight = attention.k, .bias = attention.k_bias, .out = k},
                                       {.weight = attention.v, .bias = attention.v_bias, .out = v}},
                          .n_products = 3});
  if (gate) {
    const int64_t n_heads = n_rows * sizes.n_heads;
    pass.backend.run(Split{.x = q_and_gate.reshaped({n_heads, 2 * sizes.head_dim}),
                           .first = q.reshaped({n_heads, sizes.head_dim}),
                           .second = gate.reshaped({n_heads, sizes.head_dim})});
  }

  const KvPages& pages = pass.kv.layer(layer);
  const Tensor q_heads = q.reshaped({n_rows, sizes.n_heads, sizes.head_dim});
  const Tensor k_heads = k.reshaped({n_rows, sizes.n_kv_heads, sizes.head_dim});
  const bool is_fused = is_norm_of_rope(attention);
  if (attention.q_norm && !is_fused) {
    norm_heads(pass, attention, q_heads, attention.q_norm);
    norm_heads(pass, attention, k_heads, attention.k_norm);
  }
  pass.backend.run(RopeStoreKv{.batch = pass.batch,
                               .q = q_heads,
                               .k = k_heads,
                               .v = v.reshaped({n_rows, sizes.n_kv_heads, sizes.v_head_dim}),
                               .q_norm = is_fused ? attention.q_norm : Tensor(),
                               .k_norm = is_fused ? attention.k_norm : Tensor(),
                               .norm_eps = attention.norm_eps,
                               .rope = attention.rope,
                               .q_scale_beta = attention.q_scale_beta,
                               .q_scale_length = attention.q_scale_length,
                               .q_scale_offset = attention.q_scale_offset,
                               .k_pages = pages.k,
                               .v_pages = pages.v});

  const Tensor mixed = pass.arena.take(Dtype::f32, {n_rows, sizes.out_width()});
  pass.backend.run(PagedAttention{.batch = pass.batch,
                                  .q = q_heads,
                                  .k_pages = pages.k,
                                  .v_pages = pages.v,
                                  .sinks = attention.sinks,
                                  .out = mixed.reshaped({n_rows, sizes.n_heads, sizes.v_head_dim}),
                                  .scale = attention.scale,
                                  .softcap = attention.softcap,
                                  .window = static_cast<int32_t>(attention.window),
                                  .chunk = static_cast<int32_t>(attention.chunk)});
  if (gate) {
    pass.backend.run(Gate{.gate = gate, .x = mixed, .out = mixed, .activation = Activation::sigmoid});
  }
  pass.backend.run(
      Linear{.x = mixed, .products = {{.weight = attention.out, .bias = attention.out_bias, .out = out}}});
}

}  // namespace millrace
