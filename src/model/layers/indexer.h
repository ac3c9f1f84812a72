// The lightning indexer of sparse attention (DeepSeek-V3.2, 2.1): small heads score every position before a
// row, and attention reads the best ones alone.
#pragma once

#include "model/hparams.h"
#include "model/model.h"
#include "model/weights.h"

namespace millrace {

struct Indexer {
  int64_t hidden = 0;
  int64_t q_rank = 0;  // of the latent of the queries, which attention has too
  int64_t n_heads = 0;
  int64_t head_dim = 0;
  int64_t n_selected = 0;      // positions that a row attends to, where there are more
  Tensor q_b;                  // (n_heads * head_dim, q_rank)
  Tensor k;                    // (head_dim, hidden)
  Tensor k_norm, k_norm_bias;  // (head_dim): a layer norm
  Tensor weights;              // (n_heads, hidden)
  Rope rope;                   // of the first dimensions of a head

  KvSide kv_side() const { return {.width = head_dim}; }
};

// Widths and counts.
Indexer read_indexer(Hparams& hparams, int64_t hidden, int64_t q_rank);
void list_indexer(WeightList& list, Indexer& indexer);

struct IndexerInputs {
  Tensor x;         // (n_rows, hidden)
  Tensor q_latent;  // (n_rows, q_rank)
};
// selected = what each row attends to: int32 (n_rows, n_selected), ascending, then -1. Writes the index keys
// of the rows to side pages 0 of `layer`.
void run_indexer(const Pass& pass, const Indexer& indexer, int64_t layer, const IndexerInputs& inputs,
                 const Tensor& selected);

}  // namespace millrace
