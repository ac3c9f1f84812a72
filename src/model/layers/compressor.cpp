#include "model/layers/compressor.h"

#include <cmath>

namespace millrace {

Compressor make_compressor(KvLayer& layer, int64_t stride, int64_t head_dim, int64_t width) {
  const size_t side = layer.sides.size();
  const int64_t n_runs = width > head_dim ? 2 : 1;  // that an entry is made of
  layer.sides.push_back({.width = 2 * width, .window = n_runs * stride});
  layer.sides.push_back({.width = head_dim, .stride = stride});
  return {.stride = stride, .head_dim = head_dim, .width = width, .side = side};
}

void list_compressor(WeightList& list, Compressor& compressor, int64_t hidden, std::string_view prefix) {
  const auto name = [&](std::string_view part) {
    return fmt::format("{}_compressor_{}.weight", prefix, part);
  };
  list.add(compressor.kv, name("kv"), {compressor.width, hidden});
  list.add(compressor.gate, name("gate"), {compressor.width, hidden});
  list.add(compressor.bias, name("ape"), {compressor.stride, compressor.width});
  list.add(compressor.norm, name("norm"), {compressor.head_dim});
}

void list_entry_indexer(WeightList& list, EntryIndexer& indexer, int64_t hidden, int64_t q_rank) {
  list.add(indexer.q_b, "indexer.attn_q_b.weight", {indexer.n_heads * indexer.head_dim, q_rank});
  list.add(indexer.weights, "indexer.proj.weight", {indexer.n_heads, hidden});
  list_compressor(list, indexer.compressor, hidden, "indexer");
}

void run_compressor(const Pass& pass, const Compressor& compressor, const CompressorRun& run) {
  const ArenaScope scope(pass.arena);
  const Tensor kv = pass.arena.take(Dtype::f32, {run.x.dim(0), compressor.width});
  const Tensor gate = pass.arena.take(Dtype::f32, {run.x.dim(0), compressor.width});
  pass.backend.run(
      Linear{.x = run.x,
             .products = {{.weight = compressor.kv, .out = kv}, {.weight = compressor.gate, .out = gate}},
             .n_products = 2});
  const std::vector<Tensor>& sides = pass.kv.layer(run.layer).sides;
  pass.backend.run(CompressKv{.batch = pass.batch.of_panes(),
                              .kv = kv,
                              .gate = gate,
                              .bias = compressor.bias,
                              .norm = compressor.norm,
                              .row_pages = sides[compressor.side],
                              .entry_pages = sides[compressor.side + 1],
                              .rope = run.rope,
                              .rope_begin = compressor.head_dim - 2 * run.rope.inv_freq.dim(1),
                              .norm_eps = run.norm_eps});
}

Tensor select_entries(const Pass& pass, const EntryIndexer& indexer, const CompressorRun& run,
                      const Tensor& q_latent) {
  const int64_t n_rows = run.x.dim(0);
  const Tensor selected = pass.arena.take(Dtype::i32, {n_rows, indexer.n_selected});
  const ArenaScope scope(pass.arena);
  run_compressor(pass, indexer.compressor, run);
  const Tensor q = pass.arena.take(Dtype::f32, {n_rows, indexer.n_heads * indexer.head_dim});
  const Tensor weights = pass.arena.take(Dtype::f32, {n_rows, indexer.n_heads});
  pass.backend.run(Linear{.x = q_latent, .products = {{.weight = indexer.q_b, .out = q}}});
  const float scale = 1.0f / std::sqrt(static_cast<float>(indexer.n_heads * indexer.head_dim));
  pass.backend.run(
      Linear{.x = run.x, .products = {{.weight = indexer.weights, .out = weights}}, .scale = scale});
  const Tensor heads = q.reshaped({n_rows, indexer.n_heads, indexer.head_dim});
  rotate_heads(pass, heads, run.rope);
  const KvPages& pages = pass.kv.layer(run.layer);
  pass.backend.run(SelectPositions{.batch = pass.batch,
                                   .q = heads,
                                   .weights = weights,
                                   .k_pages = pages.sides[indexer.compressor.side + 1],
                                   .selected = selected,
                                   .entry_stride = static_cast<int32_t>(indexer.compressor.stride),
                                   .page_size = pages.k.dim(2)});
  return selected;
}

void rotate_heads(const Pass& pass, const Tensor& heads, const Rope& rope) {
  pass.backend.run(RopeStoreKv{
      .batch = pass.batch, .q = heads, .rope = rope, .rope_begin = heads.dim(2) - 2 * rope.inv_freq.dim(1)});
}

}  // namespace millrace
