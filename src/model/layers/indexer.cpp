#include "model/layers/indexer.h"

#include <cmath>

namespace millrace {
namespace {

constexpr float kIndexNormEps = 1e-6f;  // a constant of these models

// What an indexer makes of the rows.
struct IndexerRows {
  Tensor q;        // (n_rows, n_heads, head_dim)
  Tensor k;        // (n_rows, head_dim)
  Tensor gate;     // (n_rows, head_dim); empty where it does not pool
  Tensor weights;  // (n_rows, n_heads)
};

void project(const Pass& pass, const Indexer& indexer, const IndexerInputs& inputs, const IndexerRows& rows) {
  const int64_t n_rows = inputs.x.dim(0);
  pass.backend.run(
      Linear{.x = inputs.q_latent,
             .products = {{.weight = indexer.q_b,
                           .out = rows.q.reshaped({n_rows, indexer.n_heads * indexer.head_dim})}}});
  pass.backend.run(Linear{
      .x = inputs.x,
      .products = {{.weight = indexer.k, .out = rows.k}, {.weight = indexer.pool_gate, .out = rows.gate}},
      .n_products = rows.gate ? 2 : 1});
  pass.backend.run(Norm{.x = rows.k,
                        .weight = indexer.k_norm,
                        .bias = indexer.k_norm_bias,
                        .out = rows.k,
                        .kind = NormKind::layer,
                        .eps = kIndexNormEps});
  const float scale = 1.0f / std::sqrt(static_cast<float>(indexer.n_heads * indexer.head_dim));
  pass.backend.run(
      Linear{.x = inputs.x, .products = {{.weight = indexer.weights, .out = rows.weights}}, .scale = scale});
}

void select_of_positions(const Pass& pass, const Indexer& indexer, const KvPages& pages,
                         const IndexerRows& rows, const Tensor& selected) {
  pass.backend.run(RopeStoreKv{.batch = pass.batch,
                               .q = rows.q,
                               .k = rows.k.reshaped({rows.k.dim(0), 1, indexer.head_dim}),
                               .rope = indexer.rope,
                               .k_pages = pages.sides[0]});
  pass.backend.run(SelectPositions{.batch = pass.batch,
                                   .q = rows.q,
                                   .weights = rows.weights,
                                   .k_pages = pages.sides[0],
                                   .selected = selected});
}

void select_of_runs(const Pass& pass, const Indexer& indexer, const KvPages& pages, const IndexerRows& rows,
                    const Tensor& selected) {
  pass.backend.run(CompressKv{.batch = pass.batch,
                              .kv = rows.k,
                              .gate = rows.gate,
                              .bias = indexer.pool_bias,
                              .row_pages = pages.sides[0],
                              .entry_pages = pages.sides[1]});
  pass.backend.run(SelectPositions{.batch = pass.batch,
                                   .q = rows.q,
                                   .weights = rows.weights,
                                   .k_pages = pages.sides[1],
                                   .selected = selected,
                                   .entry_stride = static_cast<int32_t>(indexer.pool),
                                   .page_size = pages.k.dim(2),
                                   .expands = true});
}

}  // namespace

std::vector<KvSide> Indexer::kv_sides() const {
  if (n_heads == 0) return {};
  if (pool == 1) return {{.width = head_dim}};
  return {{.width = 2 * head_dim}, {.width = head_dim, .stride = pool}};
}

Indexer read_indexer(Hparams& hparams, int64_t hidden, int64_t q_rank) {
  return {.hidden = hidden,
          .q_rank = q_rank,
          .n_heads = hparams.count("attention.indexer.head_count"),
          .head_dim = hparams.count("attention.indexer.key_length"),
          .n_selected = hparams.count("attention.indexer.top_k")};
}

void list_indexer(WeightList& list, Indexer& indexer) {
  list.add(indexer.q_b, "indexer.attn_q_b.weight", {indexer.n_heads * indexer.head_dim, indexer.q_rank});
  list.add(indexer.k, "indexer.attn_k.weight", {indexer.head_dim, indexer.hidden});
  list.add(indexer.k_norm, "indexer.k_norm.weight", {indexer.head_dim});
  list.add(indexer.k_norm_bias, "indexer.k_norm.bias", {indexer.head_dim});
  list.add(indexer.weights, "indexer.proj.weight", {indexer.n_heads, indexer.hidden});
  if (indexer.pool == 1) return;
  list.add(indexer.pool_gate, "indexer_compressor_gate.weight", {indexer.head_dim, indexer.hidden});
  list.add(indexer.pool_bias, "indexer_compressor_ape.weight", {indexer.pool, indexer.head_dim});
}

void run_indexer(const Pass& pass, const Indexer& indexer, int64_t layer, const IndexerInputs& inputs,
                 const Tensor& selected) {
  const ArenaScope scope(pass.arena);
  const int64_t n_rows = inputs.x.dim(0);
  const auto take = [&](int64_t width) { return pass.arena.take(Dtype::f32, {n_rows, width}); };
  const IndexerRows rows{.q = pass.arena.take(Dtype::f32, {n_rows, indexer.n_heads, indexer.head_dim}),
                         .k = take(indexer.head_dim),
                         .gate = indexer.pool > 1 ? take(indexer.head_dim) : Tensor(),
                         .weights = take(indexer.n_heads)};
  project(pass, indexer, inputs, rows);
  const auto select = indexer.pool > 1 ? select_of_runs : select_of_positions;
  select(pass, indexer, pass.kv.layer(layer), rows, selected);
}

}  // namespace millrace
