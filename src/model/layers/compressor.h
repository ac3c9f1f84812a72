// Compressed keys (DeepSeek-V4, 2.3): runs of positions as entries, and small heads that select which of them
// a row reads. What entries are made of stays in side pages of the layer (docs/adr/0005).
#pragma once

#include "model/model.h"
#include "model/weights.h"

namespace millrace {

struct Compressor {
  int64_t stride = 0;  // positions that an entry stands for; 0: there are no entries
  int64_t head_dim = 0;
  int64_t width = 0;  // of what a row gives: head_dim, or twice
  size_t side = 0;    // its rows are in this side of the layer's pages, its entries in the next one
  Tensor kv, gate;    // (width, hidden)
  Tensor bias;        // (stride, width)
  Tensor norm;        // (head_dim)
};

// Scores entries of its own, which stand for the same runs.
struct EntryIndexer {
  int64_t n_heads = 0;
  int64_t head_dim = 0;
  int64_t n_selected = 0;
  Tensor q_b;      // (n_heads * head_dim, q_rank)
  Tensor weights;  // (n_heads, hidden)
  Compressor compressor;
};

// A compressor of runs, with its two sides among those of `layer`: rows in panes, for as long as an entry is
// made of them, and entries in pages.
Compressor make_compressor(KvLayer& layer, int64_t stride, int64_t head_dim, int64_t width);
void list_compressor(WeightList& list, Compressor& compressor, int64_t hidden, std::string_view prefix);
void list_entry_indexer(WeightList& list, EntryIndexer& indexer, int64_t hidden, int64_t q_rank);

struct CompressorRun {
  int64_t layer;
  Tensor x;   // (n_rows, hidden)
  Rope rope;  // of entries, in their last dimensions
  float norm_eps;
};
// Stores what the rows give, and makes the entries that are whole.
void run_compressor(const Pass& pass, const Compressor& compressor, const CompressorRun& run);
// The entries that each row reads: int32 (n_rows, n_selected). `q_latent` is (n_rows, q_rank).
Tensor select_entries(const Pass& pass, const EntryIndexer& indexer, const CompressorRun& run,
                      const Tensor& q_latent);

// Turns the last dimensions of every head of (n_rows, n_heads, head_dim).
void rotate_heads(const Pass& pass, const Tensor& heads, const Rope& rope);

}  // namespace millrace
