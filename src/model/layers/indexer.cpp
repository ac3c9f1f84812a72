#include "model/layers/indexer.h"

#include <cmath>

namespace millrace {
namespace {

constexpr float kIndexNormEps = 1e-6f;  // a constant of these models

}  // namespace

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
}

void run_indexer(const Pass& pass, const Indexer& indexer, int64_t layer, const IndexerInputs& inputs,
                 const Tensor& selected) {
  const ArenaScope scope(pass.arena);
  const int64_t n_rows = inputs.x.dim(0);
  const Tensor q = pass.arena.take(Dtype::f32, {n_rows, indexer.n_heads, indexer.head_dim});
  const Tensor k = pass.arena.take(Dtype::f32, {n_rows, indexer.head_dim});
  const Tensor weights = pass.arena.take(Dtype::f32, {n_rows, indexer.n_heads});
  pass.backend.run(Linear{.x = inputs.q_latent,
                          .products = {{.weight = indexer.q_b,
                                        .out = q.reshaped({n_rows, indexer.n_heads * indexer.head_dim})}}});
  pass.backend.run(Linear{.x = inputs.x, .products = {{.weight = indexer.k, .out = k}}});
  pass.backend.run(Norm{.x = k,
                        .weight = indexer.k_norm,
                        .bias = indexer.k_norm_bias,
                        .out = k,
                        .kind = NormKind::layer,
                        .eps = kIndexNormEps});
  const float scale = 1.0f / std::sqrt(static_cast<float>(indexer.n_heads * indexer.head_dim));
  pass.backend.run(
      Linear{.x = inputs.x, .products = {{.weight = indexer.weights, .out = weights}}, .scale = scale});

  const Tensor& pages = pass.kv.layer(layer).sides[0];
  pass.backend.run(RopeStoreKv{.batch = pass.batch,
                               .q = q,
                               .k = k.reshaped({n_rows, 1, indexer.head_dim}),
                               .rope = indexer.rope,
                               .k_pages = pages});
  pass.backend.run(SelectPositions{
      .batch = pass.batch, .q = q, .weights = weights, .k_pages = pages, .selected = selected});
}

}  // namespace millrace
