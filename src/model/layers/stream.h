// The two ends of a decoder: tokens in, logits out; and the residual stream between them.
#pragma once

#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"

namespace millrace {

struct Ends {
  int64_t n_vocab = 0;
  int64_t hidden = 0;
  int64_t n_layers = 0;
  int64_t n_draft_layers = 0;  // stored behind them
  Tensor token_embd;           // (n_vocab, hidden)
  Tensor output_norm;          // (hidden)
  Tensor output;               // (n_vocab, hidden); empty: token_embd (tied)
  Tensor output_norm_bias;     // (hidden); empty: none
  NormKind norm_kind = NormKind::rms;
  float norm_eps = 1e-6f;
  float embd_scale = 1.0f;
  float branch_scale = 1.0f;  // of what attention and feed-forward add to the stream
  float logit_scale = 1.0f;
  float logit_softcap = 0.0f;
};

// The keys every decoder has: context_length, embedding_length, block_count; and the vocabulary. The family
// fills in kv_layers. The layers of nextn_predict_layers, the last ones of block_count, are left out.
ModelShape read_shape(Hparams& hparams, const Checkpoint& checkpoint);
Ends read_ends(Hparams& hparams, const ModelShape& shape, NormKind norm_kind = NormKind::rms);
void list_ends(WeightList& list, Ends& ends);

// Rows batch.logit_rows of x (n_rows, hidden): (n_logit_rows, hidden) in pass.arena.
Tensor gather_logit_rows(const Pass& pass, const Tensor& x);
// logits (n_logit_rows, n_vocab) = the head of normed (n_logit_rows, hidden).
void run_head(const Pass& pass, const Ends& ends, const Tensor& normed, const Tensor& logits);

// The residual stream of one pass. A branch (attention, feed-forward) reads `normed`, writes `branch`, and
// the next norm adds it to x: residual and norm are one op.
class Stream {
 public:
  // x = embed(tokens)
  Stream(const Pass& pass, const Ends& ends);

  // normed = norm(x + branch_scale * branch) * weight + bias, where x keeps the sum.
  void norm(const Tensor& weight, const Tensor& bias = Tensor());
  // x with what waited to be added to it: the input of a branch that has no norm before it.
  const Tensor& summed();
  // x = normed = norm(x) * weight: an encoder whose first branch reads the normed embeddings.
  void norm_embeddings(const Tensor& weight);
  // x = scale * (x + branch), and nothing waits: the end of a layer that scales what it hands on.
  void settle(float scale);
  // branch = norm(branch) * weight (Gemma's norm after each branch).
  void norm_branch(const Tensor& weight);
  // The logits of batch.logit_rows: float32 (n_logit_rows, n_vocab).
  Tensor logits();
  // Every row after the last norm: float32 (n_rows, hidden).
  Tensor rows();

  const Tensor& x() const { return x_; }            // (n_rows, hidden), without what waits to be added
  const Tensor& normed() const { return normed_; }  // (n_rows, hidden)
  const Tensor& branch() const { return branch_; }  // (n_rows, hidden)

 private:
  const Pass& pass_;
  const Ends& ends_;
  Tensor x_, normed_, branch_;  // (n_rows, hidden) each
  bool has_branch_ = false;     // whether branch_ waits to be added
};

}  // namespace millrace
