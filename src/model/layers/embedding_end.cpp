#include "model/layers/embedding_end.h"

namespace millrace {
void read_pooling(Hparams& hparams, ModelShape& shape) {
  shape.pooling = static_cast<Pooling>(hparams.count_or("pooling_type", 0, {0, 4}));
  if (shape.pooling != Pooling::none) shape.n_embedding = shape.hidden;
}

void read_encoder(Hparams& hparams, ModelShape& shape) {
  read_pooling(hparams, shape);
  shape.n_embedding = shape.hidden;
  shape.is_causal = false;
  if (hparams.flag_or("attention.causal", false)) {
    hparams.refuse("attention.causal", "this architecture attends in both directions");
  }
}

void list_dense(WeightList& list, EmbeddingEnd& end, const Checkpoint& checkpoint, ModelShape& shape) {
  const int64_t n_inner = n_rows_of(checkpoint, "dense_2.weight");
  const int64_t n_out = n_rows_of(checkpoint, "dense_3.weight");
  list.add_optional(end.dense_2, "dense_2.weight", {n_inner, shape.hidden});
  list.add_optional(end.dense_3, "dense_3.weight", {n_out, n_inner});
  if (n_inner > 0) shape.n_embedding = n_out > 0 ? n_out : n_inner;
}

void list_classifier(WeightList& list, EmbeddingEnd& end, const Checkpoint& checkpoint, ModelShape& shape) {
  const int64_t n_cls = n_rows_of(checkpoint, "cls.weight");
  const int64_t n_scores = n_rows_of(checkpoint, "cls.output.weight");
  list.add_optional(end.cls, "cls.weight", {n_cls, shape.hidden});
  list.add_optional(end.cls_bias, "cls.bias", {n_cls});
  list.add_optional(end.cls_output, "cls.output.weight", {n_scores, n_cls > 0 ? n_cls : shape.hidden});
  list.add_optional(end.cls_output_bias, "cls.output.bias", {n_scores});
  shape.n_scores = n_scores > 0 ? n_scores : n_cls;
}

Tensor run_embedding_end(const Pass& pass, const EmbeddingEnd& end, const Tensor& rows) {
  const int64_t n_pools = pass.batch.pool_begin.dim(0);
  Tensor x = pass.arena.take(Dtype::f32, {n_pools, rows.dim(1)});
  pass.backend.run(MeanRows{.x = rows, .begin = pass.batch.pool_begin, .end = pass.batch.pool_end, .out = x});
  enum class Then { nothing, tanh };
  const auto project = [&](const Tensor& weight, const Tensor& bias, Then then) {
    if (!weight) return;
    const Tensor out = pass.arena.take(Dtype::f32, {n_pools, weight.dim(0)});
    // A cap of 1 is the plain tanh.
    pass.backend.run(Linear{.x = x,
                            .products = {{.weight = weight, .bias = bias, .out = out}},
                            .softcap = then == Then::tanh ? 1.0f : 0.0f});
    x = out;
  };
  if (pass.wants_scores) {
    project(end.cls, end.cls_bias, Then::tanh);
    project(end.cls_output, end.cls_output_bias, Then::nothing);
  } else {
    project(end.dense_2, Tensor(), Then::nothing);
    project(end.dense_3, Tensor(), Then::nothing);
  }
  return x;
}

}  // namespace millrace
