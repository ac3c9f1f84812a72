// The ops: what a backend can compute, each as big as a real kernel. An op is a struct of named operands; a
// family fills one and gives it to Backend::run. Shapes stand behind the tensors; optional operands are empty
// tensors.
//
// Activations are float32 or the backend's activation type; every output element is accumulated in one order
// that depends on the shapes of the model only, never on n_rows, neighbours, tiles or threads
// (docs/adr/0002). Positions, page tables and ids are read from memory when the op runs, never baked into it.
#pragma once

#include <limits>
#include <string_view>
#include <variant>

#include "backend/batch.h"
#include "tensor/tensor.h"

namespace millrace {

// out[r] = scale * table[tokens[r]], or a part of that row, or as many copies of it as out has entries in a
// row
struct Embed {
  static constexpr std::string_view kName = "embed";
  Tensor tokens;  // int32 (n_rows), each in [0, n_vocab)
  Tensor table;   // (n_vocab, n_cols), any format
  Tensor out;     // (n_rows, hidden) or (n_rows, n_copies, hidden): from column first_col, whole blocks
  int64_t first_col = 0;
  bool has_fallback = false;  // whether a token beyond the table takes row 0
  float scale = 1.0f;
};

// One product of a Linear: out = epilogue(x * weight^T + bias).
struct Product {
  Tensor weight;  // (n_out, n_in), any format
  Tensor bias;    // optional float32 (n_out)
  Tensor out;     // (n_rows, n_out)
};

// What is applied to single elements. gelu_tanh is the approximation 0.5 x (1 + tanh(sqrt(2 / pi) (x +
// 0.044715 x^3))), gelu_erf the function itself (Hendrycks & Gimpel 2016), quick_gelu x * sigmoid(1.702 x).
enum class Activation { none, silu, sigmoid, gelu_tanh, gelu_erf, quick_gelu };

// One to three products of the same input (q, k and v are one op).
struct Linear {
  static constexpr std::string_view kName = "linear";
  Tensor x;             // (n_rows, n_in)
  Product products[3];  // the first n_products are used
  int n_products = 1;
  Activation activation = Activation::none;  // of x * weight^T + bias
  float scale = 1.0f;                        // multiplies what the activation gives
  float softcap = 0.0f;                      // when > 0: y = softcap * tanh(y / softcap), after the scale
};

// A product of its own for each head (or group of heads): out[r, h] = weight[h] * x[r, h, :n_in]. Of what x
// has beyond n_in, as much as out has room for is carried over behind it. Latent attention takes its queries
// to the space of the latents so, and its results back; or the latents to keys and values (DeepSeek-V2,
// 2.1.2).
struct HeadLinear {
  static constexpr std::string_view kName = "head_linear";
  Tensor x;       // (n_rows, n_heads, at least n_in + n_carried), or (n_rows, 1, ...): one for all heads
  Tensor weight;  // (n_heads, n_out, n_in), any format
  Tensor out;     // (n_rows, n_heads, n_out + n_carried)
};

// out = activation(x * gate^T + gate_bias) * (x * up^T + up_bias), element by element
struct LinearGated {
  static constexpr std::string_view kName = "linear_gated";
  Tensor x;          // (n_rows, n_in)
  Tensor gate;       // (n_out, n_in), any format
  Tensor up;         // (n_out, n_in), the format of gate or another
  Tensor gate_bias;  // optional float32 (n_out)
  Tensor up_bias;    // optional float32 (n_out)
  Tensor out;        // (n_rows, n_out)
  Activation activation = Activation::silu;
  float limit = 0.0f;  // when > 0: what gate gives is cut to at most it, what up gives to [-limit, limit]
};

// out = activation(gate) * x, element by element; `out` may be either of them.
// With a finite `cutoff` (the Gaussian top-k of Gemma 3n): first gate = max(0, gate - mean - cutoff *
// deviation), of the mean and the standard deviation of each row of gate, so that about a share of them is
// left.
struct Gate {
  static constexpr std::string_view kName = "gate";
  Tensor gate;  // (n_rows, n_cols), or float32 (n_cols): the same for every row
  Tensor x;     // (n_rows, n_cols)
  Tensor out;   // (n_rows, n_cols)
  Activation activation = Activation::silu;
  float cutoff = -std::numeric_limits<float>::infinity();  // in deviations; -infinity: none
};

// RMSNorm (Zhang & Sennrich 2019): x / sqrt(mean(x^2) + eps) * weight + bias.
// LayerNorm (Ba et al. 2016): (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias.
enum class NormKind { rms, layer };

// out = norm(x), over the last dimension: rows, or heads of rows.
// With `add`: first x += add_scale * add (x is written), then the norm of the sum: the residual stream in one
// pass.
struct Norm {
  static constexpr std::string_view kName = "norm";
  Tensor x;       // (n_rows, n_cols) or (n_rows, n_heads, n_cols); also written where `add` is given
  Tensor add;     // optional, the shape of x
  Tensor weight;  // optional float32 (n_cols), or (n_heads, n_cols) where each head has its own
  Tensor bias;    // optional, the shape of weight
  Tensor out;     // the shape of x; may be x itself when there is no `add`
  NormKind kind = NormKind::rms;
  float eps = 1e-6f;
  float add_scale = 1.0f;
};

// x = x_scale * x + y_scale * y
struct Add {
  static constexpr std::string_view kName = "add";
  Tensor x;  // (n_rows, n_cols)
  Tensor y;  // (n_rows, n_cols)
  float x_scale = 1.0f;
  float y_scale = 1.0f;
};

// out = x * rms(like) / max(rms(x), 1e-5^(1/2)): x with the magnitude of another row. rms(x) =
// sqrt(mean(x^2)).
struct MatchRms {
  static constexpr std::string_view kName = "match_rms";
  Tensor x;     // (n_rows, n_cols)
  Tensor like;  // (n_rows, n_cols)
  Tensor out;   // (n_rows, n_cols); may be x itself
};
inline constexpr float kLeastMeanSquare = 1e-5f;

// Streams of a row, each with the sum of others or of an input added by weights that belong to the row
// (AltUp, Baykal et al. 2023): out[i] = x[i] + sum over j, ascending, of (weights[r, i * n_inputs + j] +
// offset) * y[j].
struct MixStreams {
  static constexpr std::string_view kName = "mix_streams";
  static constexpr int kMaxStreams = 4;
  Tensor x[kMaxStreams];    // (n_rows, n_cols) each: the first n_streams
  Tensor y[kMaxStreams];    // (n_rows, n_cols) each: the first n_inputs
  Tensor weights;           // (n_rows, n_streams * n_inputs)
  Tensor out[kMaxStreams];  // (n_rows, n_cols) each; out[i] may be x[i] unless that is also a y
  int n_streams = 1;
  int n_inputs = 1;
  float offset = 0.0f;
};

enum class RopePairing { half_split, adjacent };  // (i, i + d/2), or (2i, 2i + 1)

// Rotary embedding of one kind of layer. Every scaling (linear, yarn, llama3, longrope) is in the table.
struct Rope {
  Tensor inv_freq;                    // float32 (n_tables, n_rotary / 2); empty: no rotation (NoPE)
  float magnitude[2] = {1.0f, 1.0f};  // of table 0 and 1: multiplies cos and sin
  RopePairing pairing = RopePairing::half_split;
};

// Norms the heads of q and k (optional), rotates them, and writes k and v to their pages. Without pages
// nothing is stored: q and k are normed and rotated where they are; without k, q alone: a layer that reads
// the keys of another. Angles are position * inv_freq, taken in double precision and reduced before cos and
// sin. A norm shorter than head_dim is that of the first dimensions alone.
struct RopeStoreKv {
  static constexpr std::string_view kName = "rope_store_kv";
  Batch batch;
  Tensor q;       // (n_rows, n_heads, head_dim), in place
  Tensor k;       // optional (n_rows, n_kv_heads, head_dim), in place; without it nothing is stored
  Tensor v;       // optional (n_rows, n_kv_heads, v_head_dim)
  Tensor q_norm;  // optional float32 (n <= head_dim): RMSNorm of each head, before the rotation
  Tensor k_norm;  // optional float32 (n <= head_dim)
  float norm_eps = 1e-6f;
  Rope rope;               // rotates 2 * inv_freq.dim(1) dimensions of each head
  int64_t rope_begin = 0;  // the first of them
  // Query scale by position (Llama 4, Ministral 3): q *= 1 + q_scale_beta * ln(1 + floor((pos + offset) /
  // length))
  float q_scale_beta = 0.0f;  // 0: none
  float q_scale_length = 1.0f;
  float q_scale_offset = 0.0f;
  Tensor k_pages;  // optional (n_pages, n_kv_heads, page_size, head_dim), one of page_types()
  Tensor v_pages;  // (n_pages, n_kv_heads, page_size, v_head_dim), the same type; where there is a v
};

// Causal attention over pages: row r of sequence s at position p sees the positions j <= p of s, with
// j > p - window where window > 0, and those of its own chunk, j / chunk == p / chunk, where chunk > 0 (Llama
// 4). Query head h reads key-value head h / (n_heads / n_kv_heads). Scores: scale * q.k, then softcap *
// tanh(score / softcap) where softcap > 0; softmax in float32. A sink is one score more in the sum of its
// head, of a value of zero (gpt-oss). The sum over j runs in blocks of kAttentionBlock positions aligned to
// multiples of it, joined in order; the sink comes last.
// With `selected` a row sees the positions of its list alone, and the blocks are of so many entries of the
// list: where all positions are selected, the bits are those without a selection.
// Without v_pages a position's value is the first v_head_dim dimensions of its key: the latent of latent
// attention, where every query head reads the one key.
struct PagedAttention {
  static constexpr std::string_view kName = "paged_attention";
  Batch batch;
  Tensor q;         // (n_rows, n_heads, head_dim)
  Tensor k_pages;   // (n_pages, n_kv_heads, page_size, head_dim)
  Tensor v_pages;   // optional (n_pages, n_kv_heads, page_size, v_head_dim)
  Tensor sinks;     // optional float32 (n_heads), in the units of scaled scores
  Tensor selected;  // optional int32 (n_rows, n_selected): ascending, at least one, then -1
  Tensor out;       // (n_rows, n_heads, v_head_dim)
  float scale = 1.0f;
  float softcap = 0.0f;
  int32_t window = 0;
  int32_t chunk = 0;
  // Entries that stand for runs of entry_stride positions (CompressKv) and are seen besides, before the
  // positions: those of whole runs, or the `selected` ones, which then are entries and may be none.
  Tensor entry_pages;  // optional (n_pages, 1, entries a page, head_dim), of batch.tables_of_entries()
  int32_t entry_stride = 1;
};
inline constexpr int kAttentionBlock = 256;

// The lightning indexer (DeepSeek-V3.2, 2.1). Row r of sequence s at position p scores each position j <= p
// of s by the sum over heads h of weights[r, h] * max(0, q[r, h] . k[j]), in float32, and selects the
// n_selected largest (ties: lowest position first), or all where there are no more. They are written in
// ascending order, and behind them -1.
// Where entry_stride > 1 the keys are entries that stand for so many positions each (CompressKv), and those
// of whole runs are scored and selected. With `expands` the positions that they stand for are written in
// their place, and behind them those after the last whole run (GLM-5-Next): n_selected leaves room for
// entry_stride - 1 of those, and the rest of it is a multiple of entry_stride.
struct SelectPositions {
  static constexpr std::string_view kName = "select_positions";
  Batch batch;
  Tensor q;         // (n_rows, n_heads, head_dim)
  Tensor weights;   // (n_rows, n_heads)
  Tensor k_pages;   // (n_pages, 1, page_size, head_dim), one of page_types()
  Tensor selected;  // int32 (n_rows, n_selected)
  int32_t entry_stride = 1;
  int64_t page_size = 0;  // positions a page, where entry_stride > 1
  bool expands = false;
};

// Compressed keys (DeepSeek-V4, 2.3). Each run of `stride` positions becomes one entry, a mean of what its
// rows give, weighted in every dimension by itself: sum over rows of softmax(gate + bias) * kv. Then RMSNorm
// where there is a norm, and the rotation of the run's first position. Rows twice as wide as an entry have
// two halves: run w mixes the first halves of run w - 1, where there is one, and the second halves of its
// own. All rows are stored first; a row that ends a run makes its entry, of rows as they are stored.
struct CompressKv {
  static constexpr std::string_view kName = "compress_kv";
  Batch batch;
  Tensor kv;           // (n_rows, width): width = head_dim, or 2 * head_dim
  Tensor gate;         // (n_rows, width)
  Tensor bias;         // (stride, width), any format
  Tensor norm;         // optional float32 (head_dim)
  Tensor row_pages;    // (n_pages, 1, page_size, 2 * width): kv and gate of each position
  Tensor entry_pages;  // (n_pages, 1, max(1, page_size / stride), head_dim): entry w with its last position
  Rope rope;
  int64_t rope_begin = 0;
  float norm_eps = 1e-6f;
};

// Attention in both directions, of sequences whose rows are all in the batch and that keep no pages: a row
// sees the rows of its sequence, where reach > 0 those at most `reach` positions away. Heads, scores and the
// order of the sum over positions are those of PagedAttention.
struct BidirectionalAttention {
  static constexpr std::string_view kName = "bidirectional_attention";
  Batch batch;  // each sequence from its position 0 to its last
  Tensor q;     // (n_rows, n_heads, head_dim)
  Tensor k;     // (n_rows, n_kv_heads, head_dim)
  Tensor v;     // (n_rows, n_kv_heads, v_head_dim)
  Tensor out;   // (n_rows, n_heads, v_head_dim)
  float scale = 1.0f;
  float softcap = 0.0f;
  int32_t reach = 0;
};

enum class RouteScore { softmax, sigmoid, sqrt_softplus };
enum class GroupScore { max, sum_of_two };  // of the keys of a group: the largest, or the two largest added

// Chooses experts for each row: logits = x * weight^T + bias and scores = score(logits), in float32. The keys
// are the logits, or scores + select_bias where there is one (DeepSeek V3). The experts are n_groups runs of
// the same length; where n_groups > 1, those outside of the n_groups_used groups of the largest group score
// stay out. Chosen are the n_used largest keys, in descending order (ties, of groups too: lowest index
// first). Their weights are the scores, divided by their sum + sum_eps where `renormalise`, times `scale`.
// Softmax over the chosen logits alone (Mixtral, gpt-oss) equals softmax + renormalise.
struct Route {
  static constexpr std::string_view kName = "route";
  Tensor x;             // (n_rows, hidden)
  Tensor weight;        // (n_experts, hidden), any format
  Tensor bias;          // optional float32 (n_experts)
  Tensor select_bias;   // optional float32 (n_experts)
  Tensor expert_scale;  // optional float32 (n_experts): multiplies the weight of each expert at the very end
  Tensor tokens;        // optional int32 (n_rows): the experts of a row are those of its token in
  Tensor table;         // optional int32 (n_vocab, n_used), whatever the scores
  Tensor experts;       // int32 (n_rows, n_used)
  Tensor weights;       // float32 (n_rows, n_used)
  RouteScore score = RouteScore::softmax;
  int32_t n_groups = 1;
  int32_t n_groups_used = 1;
  GroupScore group_score = GroupScore::max;
  bool renormalise = true;
  float sum_eps = 0.0f;
  float scale = 1.0f;
};

// For each row r and its j-th expert e, element by element, with y = weights[r, j] * x[r] (x[r] without
// weights): out[r, j] = activation(g) * (u + up_offset), g = y * gate[e]^T + gate_bias[e], u = y * up[e]^T +
// up_bias[e]; where limit > 0, g is cut to at most limit and u to [-limit, limit] before (gpt-oss).
struct MoeGated {
  static constexpr std::string_view kName = "moe_gated";
  Tensor x;        // (n_rows, hidden)
  Tensor experts;  // int32 (n_rows, n_used)
  Tensor weights;  // optional float32 (n_rows, n_used): of experts that weigh their input (Llama 4)
  Tensor gate;     // (n_experts, n_ff, hidden), any format
  Tensor up;       // (n_experts, n_ff, hidden); empty: gate is (n_experts, 2 * n_ff, hidden), gate before up
  Tensor gate_bias;  // optional float32 (n_experts, n_ff)
  Tensor up_bias;    // optional float32 (n_experts, n_ff)
  Tensor out;        // (n_rows, n_used, n_ff)
  Activation activation = Activation::silu;
  float limit = 0.0f;
  float up_offset = 0.0f;
};

// out[r] = sum over j of weights[r, j] * (x[r, j] * down[e]^T + bias[e]), e = experts[r, j], in an order that
// no other row changes
struct MoeDown {
  static constexpr std::string_view kName = "moe_down";
  Tensor x;        // (n_rows, n_used, n_ff)
  Tensor experts;  // int32 (n_rows, n_used)
  Tensor weights;  // optional float32 (n_rows, n_used); without them: 1
  Tensor down;     // (n_experts, hidden, n_ff), any format
  Tensor bias;     // optional float32 (n_experts, hidden)
  Tensor out;      // (n_rows, hidden)
};

// Hyper-connections (Xie et al. 2026; DeepSeek-V4, 2.2): n streams of each row take the place of the residual
// stream. Before a branch they collapse to what it reads: out = sum over i of pre[i] * x[i]. With m[j] =
// mix[j] * scale[kind of j] + base[j]:
//   pre[i] = sigmoid(m[i]) + eps                                    kind 0, i < n
//   post[i] = 2 * sigmoid(m[n + i])                                 kind 1
//   comb = the n x n matrix m[2n:] made nearly doubly stochastic    kind 2
// i.e. softmax of each row, plus eps; then columns, rows, columns ... divided by their sum + eps, so that
// columns are last and are divided n_iterations times. Without `post` and `comb` mix has pre alone. Without
// a mix either, out is the mean of the streams.
struct HyperCollapse {
  static constexpr std::string_view kName = "hyper_collapse";
  Tensor x;      // (n_rows, n, hidden)
  Tensor mix;    // optional (n_rows, n * (2 + n)), or (n_rows, n)
  Tensor base;   // float32, as long as a row of mix; where there is one, as the next
  Tensor scale;  // float32 (3), or (1)
  Tensor out;    // (n_rows, hidden)
  Tensor post;   // optional (n_rows, n)
  Tensor comb;   // optional (n_rows, n, n)
  float eps = 1e-6f;
  int32_t n_iterations = 20;
};

// And after it, they mix and take it in: x[i] = post[i] * branch + sum over j of comb[j, i] * x[j]
struct HyperExpand {
  static constexpr std::string_view kName = "hyper_expand";
  Tensor x;       // (n_rows, n, hidden), in place
  Tensor branch;  // (n_rows, hidden)
  Tensor post;    // (n_rows, n)
  Tensor comb;    // (n_rows, n, n)
};

// Cuts each row in two: first = x[:, :n_first], second = x[:, n_first:].
struct Split {
  static constexpr std::string_view kName = "split";
  Tensor x;       // (n_rows, n_first + n_second)
  Tensor first;   // (n_rows, n_first)
  Tensor second;  // (n_rows, n_second)
};

// A short convolution over the rows of a sequence, in each channel by itself, then SiLU:
// out[r, c] = silu(sum over j, ascending, of weight[c, j] * x[r - (n_taps - 1) + j, c]).
// Inputs of rows before the batch's come from the state, which is left with the newest n_taps - 1 of them.
struct CausalConv {
  static constexpr std::string_view kName = "causal_conv";
  Batch batch;
  Tensor x;       // (n_rows, n_channels)
  Tensor weight;  // float32 (n_channels, n_taps)
  Tensor state;   // float32 (n_slots, n_taps - 1, n_channels), oldest first
  Tensor out;     // (n_rows, n_channels)
};

// Which key head value head h reads: h / (n_v_heads / n_k_heads), or h modulo n_k_heads.
enum class KeyHeads { grouped, tiled };

// The gated delta rule (Yang et al. 2024), and Kimi Delta Attention (Kimi Team 2025) where the decay is of
// each key dimension. Row after row of a sequence, for each value head with its state S:
//   S = diag(a) S;  S = S + k (beta (v - S^T k))^T;  out = S^T q
// q and k are unit vectors, x / sqrt(sum(x^2) + 1e-6), and q is divided by sqrt(k_head_dim) besides;
// beta = sigmoid(beta); a = exp(rate * softplus(decay + decay_bias)), or, where floor < 0,
// a = exp(floor * sigmoid(-rate * (decay + decay_bias))). S is float32 after every row, whatever computes it.
struct GatedDeltaRule {
  static constexpr std::string_view kName = "gated_delta_rule";
  Batch batch;
  Tensor q;           // (n_rows, n_k_heads, k_head_dim)
  Tensor k;           // (n_rows, n_k_heads, k_head_dim)
  Tensor v;           // (n_rows, n_v_heads, v_head_dim)
  Tensor beta;        // (n_rows, n_v_heads)
  Tensor decay;       // (n_rows, n_v_heads, n_decays), n_decays being 1 or k_head_dim
  Tensor decay_bias;  // float32 (n_v_heads, n_decays)
  Tensor rate;        // float32 (n_v_heads), negative
  Tensor state;       // float32 (n_slots, n_v_heads, k_head_dim, v_head_dim)
  Tensor out;         // (n_rows, n_v_heads, v_head_dim)
  float floor = 0.0f;
  KeyHeads key_heads = KeyHeads::grouped;
};

// out[i] = x[rows[i]]
struct GatherRows {
  static constexpr std::string_view kName = "gather_rows";
  Tensor x;     // (n_rows, n_cols)
  Tensor rows;  // int32 (n_out)
  Tensor out;   // (n_out, n_cols)
};

// out[i] = the mean of the rows [begin[i], end[i]) of x, at least one, added in their order
struct MeanRows {
  static constexpr std::string_view kName = "mean_rows";
  Tensor x;      // (n_rows, n_cols)
  Tensor begin;  // int32 (n_out)
  Tensor end;    // int32 (n_out)
  Tensor out;    // (n_out, n_cols)
};

// The largest logits of each row, descending (ties: lowest token first). Rows with a NaN, or with +infinity,
// have none: their tokens are -1, their logits +infinity.
struct TopLogits {
  static constexpr std::string_view kName = "top_logits";
  static constexpr int64_t kMost = 1024;
  Tensor logits;  // (n_rows, n_vocab)
  Tensor tokens;  // int32 (n_rows, n_top), n_top at most n_vocab and kMost
  Tensor top;     // (n_rows, n_top): their logits
};

// Draws a token of each row by the weights of token_weights.h: the first whose weight makes the sum exceed
// uniform * the sum of all that the truncation keeps. Rows at no temperature, those whose largest logit is
// not finite, and those of which the largest logits do not tell what is kept (token_truncation.h) get -1.
struct DrawTokens {
  static constexpr std::string_view kName = "draw_tokens";
  Tensor logits;        // (n_rows, n_vocab)
  Tensor top_tokens;    // int32 (n_rows, n_top) of TopLogits
  Tensor top;           // (n_rows, n_top): their logits
  Tensor temperatures;  // float32 (n_rows); 0: nothing is drawn
  Tensor truncations;   // float32 (n_rows, 3): top_k, top_p, min_p as in Truncation
  Tensor uniforms;      // int32 (n_rows, 2): the halves of a double in [0, 1)
  Tensor tokens;        // int32 (n_rows)
  Tensor sums;          // int32 (n_rows, 2): of all weights, the halves of a double; 0 where it is not needed
};

// Puts tokens that were drawn into a batch: where tokens[i] is ~r (below 0), what was drawn of row r; its
// likeliest token where nothing was; 0 where that is none either, since its logits are not finite.
struct FeedTokens {
  static constexpr std::string_view kName = "feed_tokens";
  Tensor top;     // int32 (n_drawn, n_top): the tokens of TopLogits
  Tensor drawn;   // optional int32 (n_drawn): those of DrawTokens
  Tensor tokens;  // int32 (n_rows), in place
};

// One line an op. Whoever handles ops (backends, decorators) visits this.
using Op = std::variant<Embed, Linear, HeadLinear, LinearGated, Gate, Norm, Add, MatchRms, MixStreams,
                        RopeStoreKv, PagedAttention, BidirectionalAttention, SelectPositions, CompressKv,
                        Route, MoeGated, MoeDown, Split, CausalConv, GatedDeltaRule, HyperCollapse,
                        HyperExpand, GatherRows, MeanRows, TopLogits, DrawTokens, FeedTokens>;

}  // namespace millrace
