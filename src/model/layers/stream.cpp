#include "model/layers/stream.h"

namespace millrace {

ModelShape read_shape(Hparams& hparams, const Checkpoint& checkpoint) {
  ModelShape shape;
  shape.family = hparams.arch();
  shape.n_draft_layers = hparams.count_or("nextn_predict_layers", 0, {0, 64});
  shape.n_layers = hparams.count("block_count", {1, 4096}) - shape.n_draft_layers;
  if (shape.n_layers < 1) hparams.refuse("nextn_predict_layers", "no layer is left");
  shape.hidden = hparams.count("embedding_length");
  shape.n_ctx_train = hparams.count("context_length", {1, INT32_MAX});
  shape.n_vocab = n_vocab_of(checkpoint, shape.hidden);
  return shape;
}

Ends read_ends(Hparams& hparams, const ModelShape& shape, NormKind norm_kind) {
  const std::string_view eps =
      norm_kind == NormKind::rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
  return {.n_vocab = shape.n_vocab,
          .hidden = shape.hidden,
          .n_layers = shape.n_layers,
          .n_draft_layers = shape.n_draft_layers,
          .norm_kind = norm_kind,
          .norm_eps = static_cast<float>(hparams.real(eps, {0.0, 1.0}))};
}

void list_ends(WeightList& list, Ends& ends) {
  list.end_layers();
  list.leave_out_layers(ends.n_layers, ends.n_layers + ends.n_draft_layers);
  list.add(ends.token_embd, "token_embd.weight", {ends.n_vocab, ends.hidden});
  list.add(ends.output_norm, "output_norm.weight", {ends.hidden});
  list.add_optional(ends.output, "output.weight", {ends.n_vocab, ends.hidden});
}

Tensor gather_logit_rows(const Pass& pass, const Tensor& x) {
  const Tensor& rows = pass.batch.logit_rows;
  const Tensor out = pass.arena.take(Dtype::f32, {rows.dim(0), x.dim(1)});
  pass.backend.run(GatherRows{.x = x, .rows = rows, .out = out});
  return out;
}

void run_head(const Pass& pass, const Ends& ends, const Tensor& normed, const Tensor& logits) {
  const Tensor& head = ends.output ? ends.output : ends.token_embd;
  pass.backend.run(Linear{.x = normed,
                          .products = {{.weight = head, .out = logits}},
                          .scale = ends.logit_scale,
                          .softcap = ends.logit_softcap});
}

Stream::Stream(const Pass& pass, const Ends& ends) : pass_(pass), ends_(ends) {
  const int64_t n_rows = pass.batch.n_rows();
  x_ = pass.arena.take(Dtype::f32, {n_rows, ends.hidden});
  normed_ = pass.arena.take(Dtype::f32, {n_rows, ends.hidden});
  branch_ = pass.arena.take(Dtype::f32, {n_rows, ends.hidden});
  pass.backend.run(
      Embed{.tokens = pass.batch.tokens, .table = ends.token_embd, .out = x_, .scale = ends.embd_scale});
}

void Stream::norm(const Tensor& weight, const Tensor& bias) {
  pass_.backend.run(Norm{.x = x_,
                         .add = has_branch_ ? branch_ : Tensor(),
                         .weight = weight,
                         .bias = bias,
                         .out = normed_,
                         .kind = ends_.norm_kind,
                         .eps = ends_.norm_eps,
                         .add_scale = ends_.branch_scale});
  has_branch_ = true;  // of what the caller computes next
}

const Tensor& Stream::summed() {
  if (has_branch_) pass_.backend.run(Add{.x = x_, .y = branch_, .y_scale = ends_.branch_scale});
  has_branch_ = true;  // of what the caller computes next
  return x_;
}

void Stream::norm_embeddings(const Tensor& weight) {
  norm(weight);
  pass_.backend.run(
      Norm{.x = x_, .weight = weight, .out = x_, .kind = ends_.norm_kind, .eps = ends_.norm_eps});
}

void Stream::norm_branch(const Tensor& weight) {
  pass_.backend.run(
      Norm{.x = branch_, .weight = weight, .out = branch_, .kind = ends_.norm_kind, .eps = ends_.norm_eps});
}

void Stream::settle(float scale) {
  pass_.backend.run(Add{.x = x_, .y = branch_, .x_scale = scale, .y_scale = scale * ends_.branch_scale});
  has_branch_ = false;
}

Tensor Stream::logits() {
  const int64_t n_rows = pass_.batch.logit_rows.dim(0);
  const Tensor logits = pass_.arena.take(Dtype::f32, {n_rows, ends_.n_vocab});
  if (n_rows == 0) return logits;

  const ArenaScope scope(pass_.arena);
  const Tensor x = gather_logit_rows(pass_, x_);
  const Tensor normed = pass_.arena.take(Dtype::f32, {n_rows, ends_.hidden});
  pass_.backend.run(Norm{.x = x,
                         .add = has_branch_ ? gather_logit_rows(pass_, branch_) : Tensor(),
                         .weight = ends_.output_norm,
                         .bias = ends_.output_norm_bias,
                         .out = normed,
                         .kind = ends_.norm_kind,
                         .eps = ends_.norm_eps,
                         .add_scale = ends_.branch_scale});
  run_head(pass_, ends_, normed, logits);
  return logits;
}

Tensor Stream::rows() {
  norm(ends_.output_norm, ends_.output_norm_bias);
  return normed_;
}

}  // namespace millrace
