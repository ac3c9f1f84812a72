// The rows of one step. Prefill and decode are rows of different length: there is no phase.
#pragma once

#include "tensor/tensor.h"

namespace millrace {

// All members are int32 and lie where the backend computes, so that a captured step reads them afresh.
// Rows of one sequence are neighbours, in the order of their positions.
struct Batch {
  Tensor tokens;       // (n_rows) token ids
  Tensor positions;    // (n_rows) position of the row in its sequence
  Tensor seq_of_row;   // (n_rows) which sequence of this batch
  Tensor row_begin;    // (n_seqs + 1) rows of sequence s: [row_begin[s], row_begin[s + 1])
  Tensor page_tables;  // (n_seqs, max_pages) page of each run of page_size positions; -1 where there is none
  Tensor rope_tables;  // (n_seqs) which of a layer's frequency tables the sequence uses (longrope); else 0
  Tensor state_from;   // (n_seqs) slot with the state before the rows (kv/state_cache.h); -1: the beginning
  Tensor state_to;     // (n_seqs) slot that receives the state after them, perhaps the same one
  Tensor logit_rows;   // (n_logit_rows) rows whose logits are wanted, ascending
  // As page_tables, for what has a window (kv/page_pool.h); -1 also where it has passed by.
  Tensor pane_tables{};
  // As page_tables, for entries that stand for runs of positions (CompressKv), where those lie in panes;
  // empty: entries lie in the pages of their positions.
  Tensor entry_tables{};
  // Of a model that gives embeddings, instead of logit_rows: pool i is the mean of the rows
  // [pool_begin[i], pool_end[i]).
  Tensor pool_begin{};   // (n_pools)
  Tensor pool_end{};     // (n_pools)
  Tensor token_types{};  // (n_rows) segment of each row (BERT); empty for a model that has none

  int64_t n_rows() const { return tokens.dim(0); }
  int64_t n_seqs() const { return rope_tables.dim(0); }
  const Tensor& tables_of_entries() const { return entry_tables ? entry_tables : page_tables; }
  // As layers with a window see it.
  Batch of_panes() const {
    Batch batch = *this;
    batch.page_tables = pane_tables;
    batch.entry_tables = page_tables;
    return batch;
  }
};

}  // namespace millrace
