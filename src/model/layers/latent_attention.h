// Multi-head latent attention (DeepSeek-V2, 2.1): a position keeps one latent, of which the keys and values
// of all heads are linear functions, and one rotated key that the heads share. The functions are absorbed
// into queries and results, so that attention reads the latents themselves; or they are expanded, once, and
// pages keep keys and values of all heads. Which of the two is chosen when a model is loaded, and holds
// whatever the number of rows (docs/adr/0004).
#pragma once

#include "model/layers/indexer.h"
#include "tensor/buffer.h"

namespace millrace {

// The key that chooses the expanded form.
inline constexpr std::string_view kExpandsLatents = "millrace.expands_latents";

struct LatentSizes {
  int64_t hidden = 0;
  int64_t n_heads = 0;
  int64_t q_rank = 0;      // of the queries' own latent; 0: they have none
  int64_t kv_rank = 0;     // of the latent that is kept
  int64_t nope_dim = 0;    // of a query and key of a head: what does not rotate,
  int64_t rope_dim = 0;    // and what does
  int64_t v_head_dim = 0;  // of a value of a head
  LatentForm form = LatentForm::absorbed;

  int64_t head_dim() const { return nope_dim + rope_dim; }
  int64_t key_dim() const { return kv_rank + rope_dim; }  // a latent, and what of a key rotates
  int64_t q_width() const { return n_heads * head_dim(); }
  int64_t out_width() const { return n_heads * v_head_dim; }
};

// Ranks and widths, in the spelling of files that keep latents and of those before. Throws
// Error(bad_model) where they contradict each other.
LatentSizes read_latent_sizes(Hparams& hparams, int64_t hidden);

// One layer: its weights, and what a family may set for it.
struct LatentAttention {
  LatentSizes sizes;
  Tensor q;                   // (q_width, hidden), or in its place:
  Tensor q_a, q_a_norm, q_b;  // (q_rank, hidden), (q_rank), (q_width, q_rank)
  Tensor kv_a, kv_a_norm;     // (key_dim, hidden), (kv_rank)
  Tensor k_b;                 // (n_heads, kv_rank, nope_dim): from a query to latents, or
  Tensor k_up;                // (n_heads, nope_dim, kv_rank): from a latent to a key, made where expanded
  Tensor v_b;                 // (n_heads, v_head_dim, kv_rank): from a latent to a value
  Tensor kv_b;                // (n_heads * (nope_dim + v_head_dim), kv_rank): both, in old files
  Tensor out;                 // (hidden, out_width)
  Indexer indexer;            // n_heads 0: the layer has none
  Rope rope;                  // empty: no rotation
  float scale = 1.0f;
  float norm_eps = 1e-6f;  // of the norms inside of attention: most models have a constant there
  float q_scale_beta = 0.0f;
  float q_scale_length = 1.0f;

  KvLayer kv_layer() const;
};

// One whose scores are scaled by 1 / sqrt(head_dim), and that does not rotate.
LatentAttention read_still_latent_attention(Hparams& hparams, int64_t hidden);

void list_latent_attention(WeightList& list, LatentAttention& attention);

// Makes what the form of a layer needs of the weights that its file has, in memory that is returned: files
// have k_b and v_b, or kv_b. Throws Error(bad_model) where the file has neither or both.
Buffer make_latent_weights(LatentAttention& attention, int64_t layer);

// out = attention(x). Writes what the form keeps of the rows to the pages of `layer`.
struct LatentRun {
  int64_t layer;
  Tensor x;    // (n_rows, hidden)
  Tensor out;  // (n_rows, hidden)
  Tensor
      selected;  // optional int32 (n_rows, n): what each row reads, written first where there is an indexer
};
void run_latent_attention(const Pass& pass, const LatentAttention& attention, const LatentRun& run);

}  // namespace millrace
