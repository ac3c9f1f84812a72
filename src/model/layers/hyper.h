// Hyper-connections (Xie et al. 2026): several residual streams in the place of one. They collapse before a
// branch and mix after it, by weights that every row computes of itself.
#pragma once

#include "model/hparams.h"
#include "model/layers/stream.h"
#include "model/model.h"
#include "model/weights.h"

namespace millrace {

struct HyperSizes {
  int64_t hidden = 0;
  int64_t n_streams = 0;
  int32_t n_iterations = 0;  // of Sinkhorn-Knopp
  float eps = 1e-6f;
  float norm_eps = 1e-6f;

  int64_t width() const { return n_streams * hidden; }
};

// hyper_connection.count, sinkhorn_iterations and epsilon.
HyperSizes read_hyper_sizes(Hparams& hparams, int64_t hidden, float norm_eps);

// What the weights of one branch are computed with, or those of the end, which collapses only.
struct HyperConnection {
  HyperSizes sizes;
  Tensor fn;     // (n_streams * (2 + n_streams), n_streams * hidden); at the end (n_streams, ...)
  Tensor base;   // as many as fn has rows
  Tensor scale;  // (3); at the end (1)
};

// PREFIX_fn.weight and so on.
void list_hyper(WeightList& list, HyperConnection& connection, std::string_view prefix);
void list_hyper_head(WeightList& list, HyperConnection& connection, std::string_view prefix);

// The streams of one pass. A branch reads `normed` and writes `branch`, between collapse and expand.
class HyperStream {
 public:
  // Every stream = embed(tokens)
  HyperStream(const Pass& pass, const Ends& ends, const HyperSizes& sizes);

  // normed = norm(the streams, collapsed) * weight
  void collapse(const HyperConnection& connection, const Tensor& weight);
  // The streams, mixed, take in the branch.
  void expand();
  // The logits of batch.logit_rows: float32 (n_logit_rows, n_vocab). A head without weights takes the mean of
  // the streams.
  Tensor logits(const HyperConnection& head = {});

  const Tensor& normed() const { return normed_; }  // (n_rows, hidden)
  const Tensor& branch() const { return branch_; }  // (n_rows, hidden)

 private:
  const Pass& pass_;
  const Ends& ends_;
  HyperSizes sizes_;
  Tensor x_;                // (n_rows, n_streams, hidden)
  Tensor normed_, branch_;  // (n_rows, hidden)
  Tensor post_, comb_;      // (n_rows, n_streams), (n_rows, n_streams, n_streams)
};

}  // namespace millrace
