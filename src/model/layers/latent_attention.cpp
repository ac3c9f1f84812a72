#include "model/layers/latent_attention.h"

#include <cmath>
#include <cstring>

namespace millrace {
namespace {

void need_equal(Hparams& hparams, std::string_view key, int64_t expected) {
  if (const int64_t found = hparams.count_or(key, expected); found != expected)
    hparams.refuse(key, fmt::format("the other widths make {}, found {}", expected, found));
}

// What queries are made of: x, or their latent (n_rows, q_rank).
Tensor query_source(const Pass& pass, const LatentAttention& attention, const Tensor& x) {
  if (attention.sizes.q_rank == 0) return x;
  const Tensor latent = pass.arena.take(Dtype::f32, {x.dim(0), attention.sizes.q_rank});
  pass.backend.run(Linear{.x = x, .products = {{.weight = attention.q_a, .out = latent}}});
  pass.backend.run(Norm{.x = latent, .weight = attention.q_a_norm, .out = latent, .eps = attention.norm_eps});
  return latent;
}

// (n_rows, n_heads, head_dim)
Tensor plain_queries(const Pass& pass, const LatentAttention& attention, const Tensor& source) {
  const LatentSizes& sizes = attention.sizes;
  const Tensor q = pass.arena.take(Dtype::f32, {source.dim(0), sizes.q_width()});
  const Tensor& weight = sizes.q_rank > 0 ? attention.q_b : attention.q;
  pass.backend.run(Linear{.x = source, .products = {{.weight = weight, .out = q}}});
  return q.reshaped({source.dim(0), sizes.n_heads, sizes.head_dim()});
}

// The queries in the space of the latents: (n_rows, n_heads, key_dim).
Tensor absorbed_queries(const Pass& pass, const LatentAttention& attention, const Tensor& source) {
  const LatentSizes& sizes = attention.sizes;
  const Tensor absorbed = pass.arena.take(Dtype::f32, {source.dim(0), sizes.n_heads, sizes.key_dim()});
  const ArenaScope scope(pass.arena);
  const Tensor q = plain_queries(pass, attention, source);
  pass.backend.run(HeadLinear{.x = q, .weight = attention.k_b, .out = absorbed});
  return absorbed;
}

// What attention reads and gives, in either form.
struct Attended {
  Tensor source;  // of the queries
  Tensor latent;  // (n_rows, 1, key_dim), in place
  Tensor values;  // (n_rows, n_heads, v_head_dim): what each head read
};

// Pages keep the latents.
void attend_absorbed(const Pass& pass, const LatentAttention& attention, const LatentRun& run,
                     const Attended& rows) {
  const LatentSizes& sizes = attention.sizes;
  const Tensor q = absorbed_queries(pass, attention, rows.source);
  const Tensor& pages = pass.kv.layer(run.layer).k;
  pass.backend.run(RopeStoreKv{.batch = pass.batch,
                               .q = q,
                               .k = rows.latent,
                               .k_norm = attention.kv_a_norm,
                               .norm_eps = attention.norm_eps,
                               .rope = attention.rope,
                               .rope_begin = sizes.kv_rank,
                               .q_scale_beta = attention.q_scale_beta,
                               .q_scale_length = attention.q_scale_length,
                               .k_pages = pages});
  const Tensor mixed = pass.arena.take(Dtype::f32, {q.dim(0), sizes.n_heads, sizes.kv_rank});
  pass.backend.run(PagedAttention{.batch = pass.batch,
                                  .q = q,
                                  .k_pages = pages,
                                  .selected = run.selected,
                                  .out = mixed,
                                  .scale = attention.scale});
  pass.backend.run(HeadLinear{.x = mixed, .weight = attention.v_b, .out = rows.values});
}

// Pages keep keys and values of all heads. Each has a copy of the key that rotates.
void attend_expanded(const Pass& pass, const LatentAttention& attention, const LatentRun& run,
                     const Attended& rows) {
  const LatentSizes& sizes = attention.sizes;
  const int64_t n_rows = rows.latent.dim(0);
  const Tensor q = plain_queries(pass, attention, rows.source);
  const Tensor k = pass.arena.take(Dtype::f32, {n_rows, sizes.n_heads, sizes.head_dim()});
  const Tensor v = pass.arena.take(Dtype::f32, {n_rows, sizes.n_heads, sizes.v_head_dim});
  pass.backend.run(RopeStoreKv{
      .batch = pass.batch, .q = rows.latent, .q_norm = attention.kv_a_norm, .norm_eps = attention.norm_eps});
  pass.backend.run(HeadLinear{.x = rows.latent, .weight = attention.k_up, .out = k});
  pass.backend.run(HeadLinear{.x = rows.latent, .weight = attention.v_b, .out = v});
  const KvPages& pages = pass.kv.layer(run.layer);
  pass.backend.run(RopeStoreKv{.batch = pass.batch,
                               .q = q,
                               .k = k,
                               .v = v,
                               .rope = attention.rope,
                               .rope_begin = sizes.nope_dim,
                               .q_scale_beta = attention.q_scale_beta,
                               .q_scale_length = attention.q_scale_length,
                               .k_pages = pages.k,
                               .v_pages = pages.v});
  pass.backend.run(PagedAttention{.batch = pass.batch,
                                  .q = q,
                                  .k_pages = pages.k,
                                  .v_pages = pages.v,
                                  .selected = run.selected,
                                  .out = rows.values,
                                  .scale = attention.scale});
}

// The rows [begin, end) of each head of a weight.
struct HeadRows {
  const Tensor& weight;
  int64_t n_heads;
  int64_t begin, end;

  const std::byte* at(int64_t head, int64_t row) const {
    return weight.row(head * (weight.n_rows() / n_heads) + begin + row);
  }
  int64_t n() const { return end - begin; }
};

// Transposes each head: to (n_heads, n_cols, n), in float32.
void write_transposed(const HeadRows& rows, float* out) {
  const int64_t n_cols = rows.weight.n_cols();
  std::vector<float> row(static_cast<size_t>(n_cols));
  for (int64_t h = 0; h < rows.n_heads; ++h) {
    for (int64_t i = 0; i < rows.n(); ++i) {
      format_of(rows.weight.dtype).decode(rows.at(h, i), row.data(), n_cols);
      for (int64_t j = 0; j < n_cols; ++j) out[(h * n_cols + j) * rows.n() + i] = row[static_cast<size_t>(j)];
    }
  }
}

void write_rows(const HeadRows& rows, std::byte* out) {
  const int64_t row_bytes = rows.weight.row_bytes();
  for (int64_t h = 0; h < rows.n_heads; ++h, out += rows.n() * row_bytes)
    std::memcpy(out, rows.at(h, 0), static_cast<size_t>(rows.n() * row_bytes));
}

// A weight that the file does not have, and what it is made of. Rows keep their format; what is transposed
// lies across its blocks, and becomes float32, which holds it exactly.
struct MissingWeight {
  Tensor& place;
  HeadRows rows;
  bool is_transposed;

  Tensor layout() const {
    const int64_t n_cols = rows.weight.n_cols();
    return is_transposed ? Tensor(nullptr, Dtype::f32, {rows.n_heads, n_cols, rows.n()})
                         : Tensor(nullptr, rows.weight.dtype, {rows.n_heads, rows.n(), n_cols});
  }
  void write() const {
    if (rows.weight.data == nullptr) return;  // only its layout is looked at
    if (is_transposed) {
      write_transposed(rows, place.f32());
    } else {
      write_rows(rows, place.data);
    }
  }
};

std::vector<MissingWeight> missing_weights(LatentAttention& attention) {
  const LatentSizes& sizes = attention.sizes;
  const bool is_expanded = sizes.form == LatentForm::expanded;
  Tensor& k = is_expanded ? attention.k_up : attention.k_b;
  const Tensor& kv_b = attention.kv_b;
  if (kv_b) {
    return {{k, {kv_b, sizes.n_heads, 0, sizes.nope_dim}, !is_expanded},
            {attention.v_b, {kv_b, sizes.n_heads, sizes.nope_dim, sizes.nope_dim + sizes.v_head_dim}, false}};
  }
  if (is_expanded) return {{k, {attention.k_b, sizes.n_heads, 0, sizes.kv_rank}, true}};
  return {};
}

}  // namespace

LatentSizes read_latent_sizes(Hparams& hparams, int64_t hidden) {
  LatentSizes sizes{.hidden = hidden,
                    .n_heads = hparams.count("attention.head_count"),
                    .q_rank = hparams.count_or("attention.q_lora_rank", 0),
                    .kv_rank = hparams.count("attention.kv_lora_rank")};
  if (hparams.flag_or(kExpandsLatents, false)) sizes.form = LatentForm::expanded;
  // Files that keep latents call a latent a key; files before, with kv_b in one piece, speak of heads.
  const bool keeps_latents = hparams.has("attention.key_length_mla");
  const int64_t head_dim = hparams.count(keeps_latents ? "attention.key_length_mla" : "attention.key_length");
  sizes.v_head_dim = hparams.count(keeps_latents ? "attention.value_length_mla" : "attention.value_length");
  sizes.rope_dim = hparams.count("rope.dimension_count", kCountOrNone);
  sizes.nope_dim = head_dim - sizes.rope_dim;
  if (sizes.rope_dim % 2 != 0 || sizes.nope_dim < 1) {
    hparams.refuse("rope.dimension_count",
                   fmt::format("{} of the {} dimensions of a head cannot rotate", sizes.rope_dim, head_dim));
  }
  const int64_t n_kv_heads = keeps_latents ? 1 : sizes.n_heads;
  for (const int64_t n : hparams.counts("attention.head_count_kv", kCountOrNone)) {
    // 0: a layer without attention
    if (n != 0 && n != n_kv_heads)
      hparams.refuse("attention.head_count_kv", fmt::format("expected {}, found {}", n_kv_heads, n));
  }
  if (keeps_latents) {
    need_equal(hparams, "attention.key_length", sizes.key_dim());
    need_equal(hparams, "attention.value_length", sizes.kv_rank);
  }
  return sizes;
}

LatentAttention read_still_latent_attention(Hparams& hparams, int64_t hidden) {
  LatentAttention attention{.sizes = read_latent_sizes(hparams, hidden)};
  attention.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(attention.sizes.head_dim())));
  hparams.real_or("rope.freq_base", 10000.0);  // of a rotation that no layer has
  return attention;
}

KvLayer LatentAttention::kv_layer() const {
  KvLayer layer{.n_kv_heads = 1, .k_head_dim = sizes.key_dim(), .v_head_dim = 0};
  if (sizes.form == LatentForm::expanded)
    layer = {.n_kv_heads = sizes.n_heads, .k_head_dim = sizes.head_dim(), .v_head_dim = sizes.v_head_dim};
  layer.sides = indexer.kv_sides();
  return layer;
}

void list_latent_attention(WeightList& list, LatentAttention& attention) {
  const LatentSizes& sizes = attention.sizes;
  if (sizes.q_rank > 0) {
    list.add(attention.q_a, "attn_q_a.weight", {sizes.q_rank, sizes.hidden});
    list.add(attention.q_a_norm, "attn_q_a_norm.weight", {sizes.q_rank});
    list.add(attention.q_b, "attn_q_b.weight", {sizes.q_width(), sizes.q_rank});
  } else {
    list.add(attention.q, "attn_q.weight", {sizes.q_width(), sizes.hidden});
  }
  list.add(attention.kv_a, "attn_kv_a_mqa.weight", {sizes.key_dim(), sizes.hidden});
  list.add(attention.kv_a_norm, "attn_kv_a_norm.weight", {sizes.kv_rank});
  list.add_optional(attention.k_b, "attn_k_b.weight", {sizes.n_heads, sizes.kv_rank, sizes.nope_dim});
  list.add_optional(attention.v_b, "attn_v_b.weight", {sizes.n_heads, sizes.v_head_dim, sizes.kv_rank});
  list.add_optional(attention.kv_b, "attn_kv_b.weight",
                    {sizes.n_heads * (sizes.nope_dim + sizes.v_head_dim), sizes.kv_rank});
  list.add(attention.out, "attn_output.weight", {sizes.hidden, sizes.out_width()});
  if (attention.indexer.n_heads > 0) list_indexer(list, attention.indexer);
}

Buffer make_latent_weights(LatentAttention& attention, int64_t layer) {
  const bool has_k = static_cast<bool>(attention.k_b), has_v = static_cast<bool>(attention.v_b);
  if (has_k != has_v || has_k == static_cast<bool>(attention.kv_b)) {
    fail(ErrorKind::bad_model, "block {} should have either attn_k_b and attn_v_b, or attn_kv_b", layer);
  }
  const std::vector<MissingWeight> missing = missing_weights(attention);
  int64_t n_bytes = 0;
  for (const MissingWeight& each : missing) n_bytes += aligned(each.layout().n_bytes());
  Buffer made(static_cast<size_t>(n_bytes));
  std::byte* at = made.data();
  for (const MissingWeight& each : missing) {
    each.place = each.layout();
    each.place.data = at;
    each.write();
    at += aligned(each.place.n_bytes());
  }
  return made;
}

void run_latent_attention(const Pass& pass, const LatentAttention& attention, const LatentRun& run) {
  const ArenaScope scope(pass.arena);
  const LatentSizes& sizes = attention.sizes;
  const int64_t n_rows = run.x.dim(0);
  const Tensor source = query_source(pass, attention, run.x);
  if (attention.indexer.n_heads > 0) {
    run_indexer(pass, attention.indexer, run.layer, {.x = run.x, .q_latent = source}, run.selected);
  }
  const Tensor latent = pass.arena.take(Dtype::f32, {n_rows, sizes.key_dim()});
  pass.backend.run(Linear{.x = run.x, .products = {{.weight = attention.kv_a, .out = latent}}});
  const Tensor values = pass.arena.take(Dtype::f32, {n_rows, sizes.out_width()});
  const auto attend = sizes.form == LatentForm::expanded ? attend_expanded : attend_absorbed;
  attend(pass, attention, run,
         {.source = source,
          .latent = latent.reshaped({n_rows, 1, sizes.key_dim()}),
          .values = values.reshaped({n_rows, sizes.n_heads, sizes.v_head_dim})});
  pass.backend.run(Linear{.x = values, .products = {{.weight = attention.out, .out = run.out}}});
}

}  // namespace millrace
