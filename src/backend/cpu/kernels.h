// What an instruction set offers the backend: a table of functions, filled once per set by kernels_*.cpp from
// the same text. Plain data only: this header is read by files compiled for AVX-512, and an inline function
// that the linker took from there would crash an older machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::cpu {

// One row of activations in int8 blocks of 32, the partner of the formats with a float scale per block.
struct InputScale32 {
  float scale;
  int32_t sum;       // of the block's int8 values
  float scaled_sum;  // scale * sum, what a block's minimum is multiplied by
};

// The same in blocks of 256, the partner of the formats whose blocks carry integer scales inside: sums of
// each 16 and of each 32 int8 values; those of four that follow each other in the order 0, 2, 1, 3.
struct InputSums256 {
  int16_t of16[16];
  int16_t of32[8];
};
// The sums of each 16 in their order, each as two bfloat16 values that add up to it: what tiles read.
struct alignas(64) InputPairs256 {
  uint32_t of16[16];
};

// Which view of the activations a weight format is multiplied with.
enum class InputKind { f32, int8_32, int8_256, bf16_pairs };

inline constexpr int kSpan = 256;  // elements of a row that kernels keep close at a time
inline constexpr int kQuarter = kSpan / 4;

// Kernels read, for nothing, up to so many columns behind the last.
inline constexpr int kColumnsBehind = 31;

inline constexpr int kPartsBf16 = 3;               // bfloat16 values that add up to a float32 one
inline constexpr int kBlockBf16 = 32;              // elements of a row that a tile holds of each
inline constexpr int kPairsBf16 = kBlockBf16 / 2;  // lines of a tile
inline constexpr int kTileColumnsAmx = 16;         // columns of a tile

// The activations of one op, a column each; only the views that its weights need are filled. The int8 views
// lie span by span, n_spans = n_in / kSpan rounded up, the last one perhaps not full; a span lies by
// quarters, so that a tile's columns lie in one piece.
struct Inputs {
  int64_t n_in;
  int64_t n_columns;
  const float* f32;             // (n_rows, n_in)
  const int32_t* rows;          // (n_columns) rows of f32, or nullptr where column c is row c
  const int8_t* int8_32;        // (n_spans, n_columns, kSpan)
  const InputScale32* scale32;  // (n_spans, n_columns, kSpan / 32)
  const int8_t* int8_256;       // (n_spans, 4, quarter_stride) bytes
  int64_t quarter_stride;
  const float* scale256;          // (n_spans, n_columns)
  const InputSums256* sums256;    // (n_spans, n_columns)
  const InputPairs256* pairs256;  // (n_spans, n_columns)
  // (tiles of columns, blocks of 32 rounded up, kPartsBf16, kPairsBf16, bf16_line), the larger parts first; a
  // line holds the elements 2 i and 2 i + 1 of each column, zeros behind n_in.
  const uint32_t* bf16;
  int64_t bf16_line;  // columns of a tile: kTileColumnsAmx, or 4 where there are no more
};

inline constexpr int kMaxLanes = 16;
inline constexpr int kStripGroups = 2;
inline constexpr int kMaxStrip = kMaxLanes * kStripGroups;

// A strip of weight rows times columns of activations. Rows come in groups of Kernels::n_lanes.
struct StripProduct {
  const std::byte* groups[kStripGroups];  // first row of each group
  int n_groups;
  int64_t row_bytes;
  const Inputs* inputs;
  int64_t first_column;  // of the inputs
  int n_columns;
  // The elements that are multiplied, of int8 views; others take all. From a first_span beyond 0 on, what
  // `out` holds is added to.
  int64_t first_span;
  int64_t end_span;
  bool reads_near;  // as Kernels::reads_near, where what lies behind the strip is multiplied next
  float* out;       // (n_columns, out_stride), of which n_groups * n_lanes are written, more than once
  int64_t out_stride;
};

struct Matmul {
  InputKind input;
  // Every sum is accumulated in the order of the row, whatever n_columns and n_groups.
  void (*multiply)(const StripProduct& product);
  // The same, with the same bits, of groups that interleave() has made; nullptr where a format has none.
  void (*multiply_interleaved)(const StripProduct& product);
  // Lays n_lanes rows out as they are read fastest (text/interleaved.inl): as many bytes as they have.
  void (*interleave)(const std::byte* group, int64_t row_bytes, std::byte* out);
  // Row `lane` of such a group as it lay before.
  void (*take_row)(const std::byte* group, int64_t row_bytes, int lane, std::byte* out);
};

// Some places in Kernels::matmul, which is by Dtype; cpu.cpp checks them.
enum : size_t {
  kMatmulBf16 = 2,
  kMatmulQ4_0 = 4,
  kMatmulQ4_1,
  kMatmulQ5_0,
  kMatmulQ5_1,
  kMatmulQ8_0,
  kMatmulQ2K,
  kMatmulQ3K,
  kMatmulQ4K,
  kMatmulQ5K,
  kMatmulQ6K,
  kMatmulIq4Nl,
  kMatmulIq4Xs,
  kMatmulMxfp4,
  kMatmulQ4Z = 19,
  kMatmulQ8Z
};

struct NormRow {
  const float* x;
  const float* weight;  // or nullptr
  const float* bias;    // or nullptr
  float* out;
  int64_t n;
  float eps;
};

// mean + n_deviations * standard deviation of x, one order of addition.
struct CutoffRow {
  const float* x;
  int64_t n;
  float n_deviations;
};

inline constexpr int kNActivations = 6;  // the order of Activation of backend/ops.h

inline constexpr int kAttentionPositions = 256;  // kAttentionBlock of backend/ops.h

inline constexpr int kPanelPositions = 64;  // of a block, that are decoded at a time

// Head sizes as scratch memory holds them: whole vectors of any instruction set.
constexpr int padded(int head_dim) { return (head_dim + kMaxLanes - 1) / kMaxLanes * kMaxLanes; }

// The same of keys as tiles hold them, blocks of 32.
constexpr int padded_keys(int head_dim) { return (head_dim + kBlockBf16 - 1) / kBlockBf16 * kBlockBf16; }
constexpr int padded_queries(int n) { return (n + kTileColumnsAmx - 1) / kTileColumnsAmx * kTileColumnsAmx; }

// Queries as `attend` reads them, laid out once for all blocks of positions.
struct AttentionQueries {
  int head_dim;
  int n;
  const float* const* queries;  // (n) of head_dim
  float* panel;                 // padded_queries(n) * padded_keys(head_dim)
};

// One block of positions against some queries; see text/attention.inl. `head_dim` etc. in scratch and results
// are padded().
struct AttentionBlock {
  int head_dim;
  int v_head_dim;
  int n_positions;                 // of the block that are read, at most kAttentionPositions, at least 1
  const std::byte* const* k_rows;  // (n_positions)
  const std::byte* const* v_rows;  // (n_positions)
  int n_queries;
  const float* const* queries;  // (n_queries) of head_dim
  const int32_t* begin;         // (n_queries) visible positions [begin, end) of the block
  const int32_t* end;
  float scale;
  float softcap;
  const float* q_panel;  // what lay_out_queries has written
  float* k_panel;        // scratch: kAttentionPositions * padded_keys(head_dim)
  float* v_panel;        // scratch: kAttentionPositions * v_head_dim
  float* scores;         // scratch: (n_queries + 1) * kAttentionPositions
  float* max;            // results (n_queries); left alone where a query sees nothing
  float* sum;
  float* out;  // (n_queries, v_head_dim) not divided by the sum
};

// Joins the result of a later block into that of the earlier ones.
struct AttentionJoin {
  float* max;
  float* sum;
  float* out;
  float block_max;
  float block_sum;
  const float* block_out;
  int v_head_dim;
};

// The scores that an indexer gives one block of positions: out[j] = sum over heads h, in order, of weights[h]
// * max(0, queries[h] . key j).
struct IndexBlock {
  int head_dim;
  int n_positions;                 // at most kAttentionPositions, at least 1
  const std::byte* const* k_rows;  // (n_positions)
  int n_heads;
  const float* const* queries;  // (n_heads) of head_dim
  const float* weights;         // (n_heads)
  float* k_panel;               // scratch: kPanelPositions * padded(head_dim)
  float* products;              // scratch: n_heads * kAttentionPositions
  float* out;                   // (n_positions rounded up to whole vectors)
};

// One row of the short convolution: out = silu(sum over j of taps[j] * inputs[j]), element by element.
struct ConvRow {
  const float* const* taps;    // (n_taps) of n
  const float* const* inputs;  // (n_taps) of n
  int n_taps;
  float* out;
  int64_t n;
};

// One row of one head of the gated delta rule; see text/recurrent.inl.
struct DeltaRuleRow {
  float* state;        // (k_head_dim, v_head_dim), in place
  const float* q;      // (k_head_dim), as k a unit vector
  const float* k;      // (k_head_dim)
  const float* decay;  // (k_head_dim) factors
  const float* v;      // (v_head_dim)
  float* out;          // (v_head_dim)
  float beta;
  int64_t k_head_dim;
  int64_t v_head_dim;
};

// What reads and writes the pages of one type.
struct PageKernels {
  void (*store)(const float* x, std::byte* out, int64_t n);  // whole blocks where the type has them
  void (*attend)(const AttentionBlock& block);
  void (*lay_out_queries)(const AttentionQueries& queries);  // nullptr: they are read where they lie
  void (*index_scores)(const IndexBlock& block);
};

struct Kernels {
  const char* name;
  int n_lanes;  // rows of a group
  // Whether interleaved weights of one column are asked for just before they are read, into the first level
  // of cache, and not a group before, into the second: what the memory of these processors was measured to
  // like.
  bool reads_near;

  Matmul matmul[21];  // by Dtype; `multiply` is nullptr for int32

  // A span of a row: n values of x, at most kSpan, to q (kSpan); of quantize256 a whole one, to quarters that
  // stand quarter_stride bytes apart. quantize256 returns the scale.
  void (*quantize32)(const float* x, int64_t n, int8_t* q, InputScale32* scales);
  float (*quantize256)(const float* x, int8_t* q, int64_t quarter_stride, InputSums256* sums,
                       InputPairs256* pairs);
  bool reads_pairs;  // or Inputs::pairs256, and what quantize256 is given, may be nullptr

  // A block of a tile of Inputs::bf16, of at most `line` columns; nullptr where no weight is multiplied with
  // it.
  void (*split_bf16)(const float* const* columns, int n_columns, int64_t n_in, int64_t block, uint32_t* lines,
                     int64_t line);

  void (*rms_norm)(const NormRow& row);
  void (*layer_norm)(const NormRow& row);
  float (*cutoff)(const CutoffRow& row);
  float (*mean_square)(const float* x, int64_t n);
  void (*cut)(const float* x, float by, float* out, int64_t n);  // out = max(0, x - by)
  void (*stream)(const float* from, float* to, int64_t n);       // to = from, past the caches
  void (*finish_streams)();  // what was streamed is seen by whoever sees what this thread writes next
  void (*add)(float* x, const float* y, int64_t n);                         // x += y
  void (*scale)(float* x, float by, int64_t n);                             // x *= by
  void (*weighted_add)(float* x, const float* y, float weight, int64_t n);  // x = fma(weight, y, x)
  void (*softcap)(float* x, float cap, int64_t n);                          // x = cap * tanh(x / cap)
  void (*activate[kNActivations])(float* x, int64_t n);
  void (*gate[kNActivations])(const float* gate, const float* x, float* out,
                              int64_t n);  // activation(gate) * x
  void (*exp)(float* x, int64_t n);
  void (*rotate_halves)(float* x, const float* cos, const float* sin, int64_t n_pairs);

  PageKernels pages[21];  // by Dtype; nullptr where pages cannot have the type
  void (*join)(const AttentionJoin& join);

  void (*convolve)(const ConvRow& row);
  void (*delta_rule)(const DeltaRuleRow& row);
};

const Kernels& scalar_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
const Kernels& amx_kernels();

}  // namespace millrace::cpu
