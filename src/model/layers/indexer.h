// The lightning indexer of sparse attention (DeepSeek-V3.2, 2.1): small heads score every position before a
// row, and attention reads the best ones alone. Where it pools (GLM-5-Next), they score means of the keys of
// runs of positions, and select runs; positions behind the last whole run are always read.
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
  int64_t pool = 1;            // positions that a key stands for
  Tensor q_b;                  // (n_heads * head_dim, q_rank)
  Tensor k;                    // (head_dim, hidden)
  Tensor k_norm, k_norm_bias;  // (head_dim): a layer norm
  Tensor weights;              // (n_heads, hidden)
  Tensor pool_gate;            // (head_dim, hidden): of the weight of a row in the mean, where it pools
  Tensor pool_bias;            // (pool, head_dim)
  Rope rope;                   // of the first dimensions of a head; empty where it pools

  // Entries of a list of what a row attends to.
  int64_t selected_width() const { return n_selected + pool - 1; }
  // What a layer keeps of a position: none without heads; a key; or a key and its weight, and means of runs.
  std::vector<KvSide> kv_sides() const;
};

// Widths and counts, of one that does not pool.
Indexer read_indexer(Hparams& hparams, int64_t hidden, int64_t q_rank);
void list_indexer(WeightList& list, Indexer& indexer);

struct IndexerInputs {
  Tensor x;         // (n_rows, hidden)
  Tensor q_latent;  // (n_rows, q_rank)
};
// selected = what each row attends to: int32 (n_rows, selected_width), ascending, then -1. Writes what a
// layer keeps of the rows to the side pages of `layer`.
void run_indexer(const Pass& pass, const Indexer& indexer, int64_t layer, const IndexerInputs& inputs,
                 const Tensor& selected);

}  // namespace millrace
