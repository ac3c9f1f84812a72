// Grouped-query attention as most families have it: project, norm and rotate heads, attend over pages,
// project.
#pragma once

#include "model/hparams.h"
#include "model/layers/rope.h"
#include "model/model.h"
#include "model/weights.h"

namespace millrace {

struct AttentionSizes {
  int64_t hidden = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t head_dim = 0;    // of queries and keys
  int64_t v_head_dim = 0;  // of values

  int64_t q_width() const { return n_heads * head_dim; }
  int64_t k_width() const { return n_kv_heads * head_dim; }
  int64_t v_width() const { return n_kv_heads * v_head_dim; }
  int64_t out_width() const { return n_heads * v_head_dim; }
  KvLayer kv_layer() const { return {n_kv_heads, head_dim, v_head_dim}; }
};

// attention.head_count, head_count_kv, key_length and value_length, the same in every layer. Throws
// Error(bad_model) when the heads do not divide.
AttentionSizes read_attention_sizes(Hparams& hparams, int64_t hidden);

// One layer: its weights, and what a family may set for it. Optional tensors are empty.
struct Attention {
  AttentionSizes sizes;
  Tensor q, k,
      v;  // (n_heads * head_dim, hidden), (n_kv_heads * head_dim, hidden), (n_kv_heads * v_head_dim, hidden)
  Tensor qkv;  // those below each other, where the file has them so
  Tensor out;  // (hidden, n_heads * v_head_dim)
  // Of each head first the query, then a gate: q is (2 * n_heads * head_dim, hidden), and what attention
  // gives is multiplied by sigmoid(gate).
  bool has_gate = false;
  Tensor q_bias, k_bias, v_bias, out_bias;
  // Norms of queries and keys before the rotation: (head_dim), the same for every head; (n_heads, head_dim),
  // each head its own; or (n_heads * head_dim), over all heads at once.
  Tensor q_norm, k_norm;
  NormKind norm_kind = NormKind::rms;
  Tensor sinks;  // (n_heads)
  Rope rope;     // empty: no rotation
  float norm_eps = 1e-6f;
  float scale = 1.0f;
  float softcap = 0.0f;  // 0: none
  int64_t window = 0;    // 0: none
  int64_t chunk = 0;     // 0: none
  float q_scale_beta = 0.0f;
  float q_scale_length = 1.0f;
  float q_scale_offset = 0.0f;
  bool norms_values = false;  // RMSNorm without weight of each head of v; without a v they are the keys
  int64_t kv_source = -1;     // the layer whose keys and values this one reads; -1: its own

  bool reads_other() const { return kv_source >= 0; }
  // What the layer keeps: nothing where it reads another.
  KvLayer kv_layer() const {
    KvLayer layer = sizes.kv_layer();
    if (reads_other()) layer.n_kv_heads = 0;
    layer.window = window;
    return layer;
  }
};

// Sizes, and the scale of the scores: attention.scale, or 1 / sqrt(head_dim).
Attention read_attention(Hparams& hparams, int64_t hidden, float norm_eps);

// Adds q, k, v and the output projection to the list.
void list_projections(WeightList& list, Attention& attention);
// The same with q, k and v as one tensor, which split_qkv cuts into views once it is bound.
void list_fused_projections(WeightList& list, Attention& attention);
void split_qkv(Attention& attention);
enum class Presence { needed, optional };
void list_qkv_bias(WeightList& list, Attention& attention, Presence presence);
void list_head_norms(WeightList& list, Attention& attention, Presence presence = Presence::needed);
// Of a layer that reads the keys of another. Published files hold projections of keys even there; nobody
// reads them.
void list_reader(WeightList& list, Attention& attention);
void list_row_norms(WeightList& list, Attention& attention);  // over all heads at once

// Sets the window of each layer from attention.sliding_window and sliding_window_pattern. `period` is the
// pattern where the file has none (Hparams::pattern_or).
std::vector<int64_t> read_windows(Hparams& hparams, int64_t n_layers, int64_t period);

// For each of the last `n_readers` layers the last one before them that slides as it does (windows[i] > 0) or
// does not; -1 for the layers before. Throws Error(bad_model) where there is none.
std::vector<int64_t> kv_sources(const std::vector<int64_t>& windows, int64_t n_readers);

// out = attention(x); both (n_rows, hidden). Writes the keys and values of the rows to the pages of `layer`.
void run_attention(const Pass& pass, const Attention& attention, int64_t layer, const Tensor& x,
                   const Tensor& out);

}  // namespace millrace
