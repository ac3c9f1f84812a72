#include "model/layers/attention.h"

#include <cmath>

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

Attention read_attention(Hparams& hparams, int64_t hidden, float norm_eps) {
  Attention attention{.sizes = read_attention_sizes(hparams, hidden), .norm_eps = norm_eps};
  const double usual = 1.0 / std::sqrt(static_cast<double>(attention.sizes.head_dim));
  const double scale = hparams.real_or("attention.scale", 0.0, {0.0, 1e6});  // 0 is none, in files
  attention.scale = static_cast<float>(scale > 0.0 ? scale : usual);
  return attention;
}

void list_projections(WeightList& list, Attention& attention) {
  const AttentionSizes& sizes = attention.sizes;
  const int64_t n_queries = attention.has_gate ? 2 * sizes.q_width() : sizes.q_width();
  list.add(attention.q, "attn_q.weight", {n_queries, sizes.hidden});
  list.add(attention.k, "attn_k.weight", {sizes.k_width(), sizes.hidden});
  list.add(attention.v, "attn_v.weight", {sizes.v_width(), sizes.hidden});
  list.add(attention.out, "attn_output.weight", {sizes.hidden, sizes.out_width()});
}

void list_fused_projections(WeightList& list, Attention& attention) {
  const AttentionSizes& sizes = attention.sizes;
  list.add(attention.qkv, "attn_qkv.weight",
           {sizes.q_width() + sizes.k_width() + sizes.v_width(), sizes.hidden});
  list.add(attention.out, "attn_output.weight", {sizes.hidden, sizes.out_width()});
}

void split_qkv(Attention& attention) {
  const int64_t k_begin = attention.sizes.q_width(), v_begin = k_begin + attention.sizes.k_width();
  attention.q = attention.qkv.slice(0, k_begin);
  attention.k = attention.qkv.slice(k_begin, v_begin);
  attention.v = attention.qkv.slice(v_begin, attention.qkv.dim(0));
}

void list_qkv_bias(WeightList& list, Attention& attention, Presence presence) {
  const auto add = presence == Presence::needed ? &WeightList::add : &WeightList::add_optional;
  const AttentionSizes& sizes = attention.sizes;
  (list.*add)(attention.q_bias, "attn_q.bias", {sizes.q_width()});
  (list.*add)(attention.k_bias, "attn_k.bias", {sizes.k_width()});
  (list.*add)(attention.v_bias, "attn_v.bias", {sizes.v_width()});
}

void list_head_norms(WeightList& list, Attention& attention, Presence presence) {
  const auto add = presence == Presence::needed ? &WeightList::add : &WeightList::add_optional;
  (list.*add)(attention.q_norm, "attn_q_norm.weight", {attention.sizes.head_dim});
  (list.*add)(attention.k_norm, "attn_k_norm.weight", {attention.sizes.head_dim});
}

void list_reader(WeightList& list, Attention& attention) {
  const AttentionSizes& sizes = attention.sizes;
  list.add(attention.q, "attn_q.weight", {sizes.q_width(), sizes.hidden});
  list.add(attention.q_norm, "attn_q_norm.weight", {sizes.head_dim});
  list.add(attention.out, "attn_output.weight", {sizes.hidden, sizes.out_width()});
  list.add_optional(attention.k, "attn_k.weight", {sizes.k_width(), sizes.hidden});
  list.add_optional(attention.v, "attn_v.weight", {sizes.v_width(), sizes.hidden});
  list.add_optional(attention.k_norm, "attn_k_norm.weight", {sizes.head_dim});
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

std::vector<int64_t> kv_sources(const std::vector<int64_t>& windows, int64_t n_readers) {
  const int64_t n_owners = std::ssize(windows) - n_readers;
  std::vector<int64_t> sources(windows.size(), -1);
  for (int64_t i = n_owners; i < std::ssize(windows); ++i) {
    int64_t source = n_owners - 1;
    const auto is_alike = [&] {
      return (windows[static_cast<size_t>(source)] > 0) == (windows[static_cast<size_t>(i)] > 0);
    };
    while (source >= 0 && !is_alike()) --source;
    if (source < 0) fail(ErrorKind::bad_model, "layer {} has no layer of its kind to read keys from", i);
    sources[static_cast<size_t>(i)] = source;
  }
  return sources;
}

namespace {

// (n_rows, n_heads, head_dim) each; k and v are empty where the layer reads those of another.
struct Heads {
  Tensor q, k, v;
  Tensor gate;  // (n_rows, n_heads * head_dim), where there is one
};

Tensor rows_of(const Tensor& heads) { return heads.reshaped({heads.dim(0), heads.dim(1) * heads.dim(2)}); }

Heads project(const Pass& pass, const Attention& attention, const Tensor& x) {
  const AttentionSizes& sizes = attention.sizes;
  Heads heads{.q = pass.arena.take(Dtype::f32, {x.dim(0), sizes.n_heads, sizes.head_dim})};
  Linear linear{.x = x};
  linear.products[0] = {.weight = attention.q, .bias = attention.q_bias, .out = rows_of(heads.q)};
  if (!attention.reads_other()) {
    heads.k = pass.arena.take(Dtype::f32, {x.dim(0), sizes.n_kv_heads, sizes.head_dim});
    heads.v = pass.arena.take(Dtype::f32, {x.dim(0), sizes.n_kv_heads, sizes.v_head_dim});
    linear.products[1] = {.weight = attention.k, .bias = attention.k_bias, .out = rows_of(heads.k)};
    linear.products[2] = {.weight = attention.v, .bias = attention.v_bias, .out = rows_of(heads.v)};
    linear.n_products = attention.v ? 3 : 2;
  }
  Tensor q_and_gate;
  if (attention.has_gate) {
    heads.gate = pass.arena.take(Dtype::f32, {x.dim(0), sizes.q_width()});
    q_and_gate = pass.arena.take(Dtype::f32, {x.dim(0), 2 * sizes.q_width()});
    linear.products[0].out = q_and_gate;
  }
  pass.backend.run(linear);
  if (attention.has_gate) {
    const int64_t n_heads = x.dim(0) * sizes.n_heads;
    pass.backend.run(Split{.x = q_and_gate.reshaped({n_heads, 2 * sizes.head_dim}),
                           .first = heads.q.reshaped({n_heads, sizes.head_dim}),
                           .second = heads.gate.reshaped({n_heads, sizes.head_dim})});
  }
  return heads;
}

// The norms that RopeStoreKv does not do. Values without a projection are the keys before their norm.
void norm_heads(const Pass& pass, const Attention& attention, const Heads& heads) {
  if (heads.v && attention.norms_values) {
    pass.backend.run(Norm{.x = attention.v ? heads.v : heads.k, .out = heads.v, .eps = attention.norm_eps});
  }
  if (!attention.q_norm || is_norm_of_rope(attention)) return;
  norm_heads(pass, attention, heads.q, attention.q_norm);
  if (heads.k) norm_heads(pass, attention, heads.k, attention.k_norm);
}

}  // namespace

void run_attention(const Pass& pass, const Attention& attention, int64_t layer, const Tensor& x,
                   const Tensor& out) {
  check(attention.v || attention.norms_values || attention.reads_other(), "values come from somewhere");
  const ArenaScope scope(pass.arena);
  const Heads heads = project(pass, attention, x);
  norm_heads(pass, attention, heads);
  const bool is_fused = is_norm_of_rope(attention);
  const KvPages& pages = pass.kv.layer(attention.reads_other() ? attention.kv_source : layer);
  const Batch batch = pages.are_panes ? pass.batch.of_panes() : pass.batch;
  pass.backend.run(RopeStoreKv{.batch = batch,
                               .q = heads.q,
                               .k = heads.k,
                               .v = heads.v,
                               .q_norm = is_fused ? attention.q_norm : Tensor(),
                               .k_norm = is_fused && heads.k ? attention.k_norm : Tensor(),
                               .norm_eps = attention.norm_eps,
                               .rope = attention.rope,
                               .q_scale_beta = attention.q_scale_beta,
                               .q_scale_length = attention.q_scale_length,
                               .q_scale_offset = attention.q_scale_offset,
                               .k_pages = heads.k ? pages.k : Tensor(),
                               .v_pages = heads.v ? pages.v : Tensor()});

  const AttentionSizes& sizes = attention.sizes;
  const Tensor mixed = pass.arena.take(Dtype::f32, {x.dim(0), sizes.n_heads, sizes.v_head_dim});
  pass.backend.run(PagedAttention{.batch = batch,
                                  .q = heads.q,
                                  .k_pages = pages.k,
                                  .v_pages = pages.v,
                                  .sinks = attention.sinks,
                                  .out = mixed,
                                  .scale = attention.scale,
                                  .softcap = attention.softcap,
                                  .window = static_cast<int32_t>(attention.window),
                                  .chunk = static_cast<int32_t>(attention.chunk)});
  if (heads.gate) {
    pass.backend.run(Gate{
        .gate = heads.gate, .x = rows_of(mixed), .out = rows_of(mixed), .activation = Activation::sigmoid});
  }
  pass.backend.run(Linear{.x = rows_of(mixed),
                          .products = {{.weight = attention.out, .bias = attention.out_bias, .out = out}}});
}

}  // namespace millrace
