#include "model/layers/hyper.h"

#include <fmt/format.h>

namespace millrace {
namespace {

void list_parts(WeightList& list, HyperConnection& connection, std::string_view prefix, int64_t n_mix,
                int64_t n_scales) {
  list.add(connection.fn, fmt::format("{}_fn.weight", prefix), {n_mix, connection.sizes.width()});
  list.add(connection.base, fmt::format("{}_base.weight", prefix), {n_mix});
  list.add(connection.scale, fmt::format("{}_scale.weight", prefix), {n_scales});
}

// A linear function of the normed streams x (n_rows, n_streams, hidden): (n_rows, rows of fn).
Tensor run_mix(const Pass& pass, const HyperConnection& connection, const Tensor& x) {
  const int64_t n_rows = x.dim(0);
  const Tensor mix = pass.arena.take(Dtype::f32, {n_rows, connection.fn.dim(0)});
  const ArenaScope scope(pass.arena);
  const Tensor normed = pass.arena.take(Dtype::f32, {n_rows, connection.sizes.width()});
  pass.backend.run(Norm{
      .x = x.reshaped({n_rows, connection.sizes.width()}), .out = normed, .eps = connection.sizes.norm_eps});
  pass.backend.run(Linear{.x = normed, .products = {{.weight = connection.fn, .out = mix}}});
  return mix;
}

}  // namespace

HyperSizes read_hyper_sizes(Hparams& hparams, int64_t hidden, float norm_eps) {
  return {
      .hidden = hidden,
      .n_streams = hparams.count("hyper_connection.count", {1, 64}),
      .n_iterations = static_cast<int32_t>(hparams.count("hyper_connection.sinkhorn_iterations", {1, 1000})),
      .eps = static_cast<float>(hparams.real("hyper_connection.epsilon", {0.0, 1.0})),
      .norm_eps = norm_eps};
}

void list_hyper(WeightList& list, HyperConnection& connection, std::string_view prefix) {
  const int64_t n = connection.sizes.n_streams;
  list_parts(list, connection, prefix, n * (2 + n), 3);
}

void list_hyper_head(WeightList& list, HyperConnection& connection, std::string_view prefix) {
  list_parts(list, connection, prefix, connection.sizes.n_streams, 1);
}

HyperStream::HyperStream(const Pass& pass, const Ends& ends, const HyperSizes& sizes)
    : pass_(pass), ends_(ends), sizes_(sizes) {
  const int64_t n_rows = pass.batch.n_rows(), n = sizes.n_streams;
  x_ = pass.arena.take(Dtype::f32, {n_rows, n, sizes.hidden});
  normed_ = pass.arena.take(Dtype::f32, {n_rows, sizes.hidden});
  branch_ = pass.arena.take(Dtype::f32, {n_rows, sizes.hidden});
  post_ = pass.arena.take(Dtype::f32, {n_rows, n});
  comb_ = pass.arena.take(Dtype::f32, {n_rows, n, n});
  pass.backend.run(
      Embed{.tokens = pass.batch.tokens, .table = ends.token_embd, .out = x_, .scale = ends.embd_scale});
}

void HyperStream::collapse(const HyperConnection& connection, const Tensor& weight) {
  const ArenaScope scope(pass_.arena);
  pass_.backend.run(HyperCollapse{.x = x_,
                                  .mix = run_mix(pass_, connection, x_),
                                  .base = connection.base,
                                  .scale = connection.scale,
                                  .out = normed_,
                                  .post = post_,
                                  .comb = comb_,
                                  .eps = sizes_.eps,
                                  .n_iterations = sizes_.n_iterations});
  pass_.backend.run(Norm{.x = normed_, .weight = weight, .out = normed_, .eps = ends_.norm_eps});
}

void HyperStream::expand() {
  pass_.backend.run(HyperExpand{.x = x_, .branch = branch_, .post = post_, .comb = comb_});
}

Tensor HyperStream::logits(const HyperConnection& head) {
  const int64_t n_rows = pass_.batch.logit_rows.dim(0);
  const Tensor logits = pass_.arena.take(Dtype::f32, {n_rows, ends_.n_vocab});
  const ArenaScope scope(pass_.arena);
  const Tensor x = pass_.arena.take(Dtype::f32, {n_rows, sizes_.width()});
  pass_.backend.run(
      GatherRows{.x = x_.reshaped({x_.dim(0), sizes_.width()}), .rows = pass_.batch.logit_rows, .out = x});
  const Tensor streams = x.reshaped({n_rows, sizes_.n_streams, sizes_.hidden});
  const Tensor collapsed = pass_.arena.take(Dtype::f32, {n_rows, sizes_.hidden});
  pass_.backend.run(HyperCollapse{.x = streams,
                                  .mix = head.fn ? run_mix(pass_, head, streams) : Tensor(),
                                  .base = head.base,
                                  .scale = head.scale,
                                  .out = collapsed,
                                  .eps = sizes_.eps});
  pass_.backend.run(
      Norm{.x = collapsed, .weight = ends_.output_norm, .out = collapsed, .eps = ends_.norm_eps});
  const Tensor& output = ends_.output ? ends_.output : ends_.token_embd;
  pass_.backend.run(Linear{.x = collapsed, .products = {{.weight = output, .out = logits}}});
  return logits;
}

}  // namespace millrace
