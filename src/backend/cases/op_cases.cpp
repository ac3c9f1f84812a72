#include "backend/cases/op_cases.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/backend.h"
#include "backend/cases/case_maker.h"
#include "backend/op_shapes.h"  // page_types
#include "backend/token_truncation.h"

namespace millrace {
namespace {

constexpr int64_t kRowCounts[] = {1, 2, 3, 5, 17, 33};

class Table {
 public:
  // `make(maker)` gives the op; the seed is the number of the line.
  template <class Make>
  void add(std::string name, Make make, bool is_exact = false) {
    const uint64_t seed = cases_.size() + 1;
    const auto make_again = [make, seed] {
      CaseMaker maker(seed);
      const Op op = make(maker);
      return maker.finish(op);
    };
    cases_.push_back({.name = std::move(name), .make = make_again, .is_exact = is_exact});
  }
  std::vector<OpCase> take() { return std::move(cases_); }

 private:
  std::vector<OpCase> cases_;
};

std::string_view text(Dtype dtype) { return format_of(dtype).name; }

std::vector<Dtype> weight_types() {
  std::vector<Dtype> types;
  for (const Format& format : all_formats()) {
    if (format.decode != nullptr) types.push_back(format.dtype);
  }
  return types;
}

// --- embed, linear, linear_gated -----------------------------------------------------------------------

struct LinearCase {
  int64_t n_rows;
  int64_t n_in;
  std::vector<std::pair<Dtype, int64_t>> products;  // format and n_out of each
  bool has_bias = false;
  float scale = 1.0f;
  float softcap = 0.0f;
  Activation activation = Activation::none;
};

std::string_view text(Activation activation) {
  constexpr std::string_view kNames[] = {"none", "silu", "sigmoid", "gelu_tanh", "gelu_erf", "quick_gelu"};
  return kNames[static_cast<size_t>(activation)];
}
constexpr Activation kActivations[] = {Activation::none,      Activation::silu,     Activation::sigmoid,
                                       Activation::gelu_tanh, Activation::gelu_erf, Activation::quick_gelu};

void add_linear(Table& table, const LinearCase& c) {
  std::string name = fmt::format("linear {}x{}", c.n_rows, c.n_in);
  for (const auto& [dtype, n_out] : c.products) name += fmt::format(" {}:{}", text(dtype), n_out);
  if (c.has_bias) name += " bias";
  if (c.scale != 1) name += " scale";
  if (c.softcap != 0) name += " softcap";
  if (c.activation != Activation::none) name += fmt::format(" {}", text(c.activation));
  table.add(name, [c](CaseMaker& maker) -> Op {
    Linear op;
    op.x = maker.floats({c.n_rows, c.n_in});
    op.n_products = static_cast<int>(c.products.size());
    op.activation = c.activation;
    op.scale = c.scale;
    op.softcap = c.softcap;
    for (size_t i = 0; i < c.products.size(); ++i) {
      const auto& [dtype, n_out] = c.products[i];
      op.products[i] = {.weight = maker.weight(dtype, {n_out, c.n_in}),
                        .bias = c.has_bias ? maker.floats({n_out}) : Tensor(),
                        .out = maker.output(Dtype::f32, {c.n_rows, n_out})};
    }
    return op;
  });
}

struct GatedCase {
  int64_t n_rows;
  int64_t n_in;
  int64_t n_out;
  Dtype gate;
  Dtype up;
  Activation activation = Activation::silu;
  bool has_bias = false;
};

void add_gated(Table& table, const GatedCase& c) {
  const std::string name =
      fmt::format("linear_gated {}x{}->{} {} {} {}{}", c.n_rows, c.n_in, c.n_out, text(c.gate), text(c.up),
                  text(c.activation), c.has_bias ? " bias" : "");
  table.add(name, [c](CaseMaker& maker) -> Op {
    return LinearGated{.x = maker.floats({c.n_rows, c.n_in}),
                       .gate = maker.weight(c.gate, {c.n_out, c.n_in}),
                       .up = maker.weight(c.up, {c.n_out, c.n_in}),
                       .gate_bias = c.has_bias ? maker.floats({c.n_out}) : Tensor(),
                       .up_bias = c.has_bias ? maker.floats({c.n_out}) : Tensor(),
                       .out = maker.output(Dtype::f32, {c.n_rows, c.n_out}),
                       .activation = c.activation};
  });
}

void add_embed(Table& table, Dtype dtype, int64_t n_rows, int64_t hidden, float scale) {
  table.add(fmt::format("embed {} {}x{} scale {}", text(dtype), n_rows, hidden, scale),
            [=](CaseMaker& maker) -> Op {
              return Embed{.tokens = maker.integers({n_rows}, 50),
                           .table = maker.weight(dtype, {50, hidden}),
                           .out = maker.output(Dtype::f32, {n_rows, hidden}),
                           .scale = scale};
            });
}

void add_embed_part(Table& table, Dtype dtype, int64_t n_rows) {
  const int64_t block = std::max<int64_t>(format_of(dtype).block_elems, 24);
  table.add(fmt::format("embed {} {} rows, columns {} to {}", text(dtype), n_rows, block, 3 * block),
            [=](CaseMaker& maker) -> Op {
              return Embed{.tokens = maker.integers({n_rows}, 60),
                           .table = maker.weight(dtype, {50, 4 * block}),
                           .out = maker.output(Dtype::f32, {n_rows, 2 * block}),
                           .first_col = block,
                           .has_fallback = true,
                           .scale = 4.0f};
            });
}

// Products whose only inexactness is float32's: they would show a bit that is unpacked wrongly, which the
// tolerance of quantised activations hides.
void add_exact(Table& table, Dtype dtype, int64_t n_rows, int64_t n_in) {
  const std::string shape = fmt::format("{}x{} {} exact", n_rows, n_in, text(dtype));
  table.add(
      "linear " + shape,
      [=](CaseMaker& maker) -> Op {
        Linear op;
        op.x = maker.bytes_as_floats({n_rows, n_in});
        op.products[0] = {.weight = maker.weight(dtype, {50, n_in}),
                          .out = maker.output(Dtype::f32, {n_rows, 50})};
        return op;
      },
      true);
  table.add(
      "moe_down " + shape,
      [=](CaseMaker& maker) -> Op {
        return MoeDown{.x = maker.bytes_as_floats({n_rows, 2, n_in}),
                       .experts = maker.experts(n_rows, 2, 4),
                       .weights = maker.floats({n_rows, 2}),
                       .down = maker.weight(dtype, {4, 50, n_in}),
                       .out = maker.output(Dtype::f32, {n_rows, 50})};
      },
      true);
}

// Every format with every number of rows; formats with short or partial blocks also with n_in that is no
// multiple of 64.
void add_weight_cases(Table& table) {
  for (const Dtype dtype : weight_types()) {
    const int64_t block = format_of(dtype).block_elems;
    const int64_t short_in = block == 1 ? 44 : format_of(dtype).has_partial_blocks ? 48 : block;
    for (const int64_t n_rows : kRowCounts) {
      add_linear(table, {.n_rows = n_rows, .n_in = 256, .products = {{dtype, 48}}});
      add_linear(table, {.n_rows = n_rows, .n_in = 3 * short_in, .products = {{dtype, 37}}});
    }
    add_linear(table, {.n_rows = 4, .n_in = short_in, .products = {{dtype, 64}}});
    add_linear(table, {.n_rows = 1, .n_in = 1536, .products = {{dtype, 130}}});
    add_linear(table, {.n_rows = 64, .n_in = 512 + short_in, .products = {{dtype, 64}}});
    for (const int64_t n_rows : {1, 5, 17}) {
      add_exact(table, dtype, n_rows, 512);
      add_gated(table, {.n_rows = n_rows, .n_in = 512, .n_out = 40, .gate = dtype, .up = dtype});
      add_embed(table, dtype, n_rows, 3 * short_in, n_rows == 5 ? 11.3f : 1.0f);
      add_embed_part(table, dtype, n_rows);
    }
  }
}

void add_linear_options(Table& table) {
  for (const int64_t n_rows : {1, 3, 20}) {
    add_linear(table, {n_rows, 256, {{Dtype::q4_k, 64}, {Dtype::q4_k, 33}, {Dtype::q6_k, 33}}});
    add_linear(table, {n_rows, 256, {{Dtype::q8_0, 48}, {Dtype::f32, 48}}, true});
    add_linear(table, {n_rows, 96, {{Dtype::bf16, 64}, {Dtype::bf16, 16}, {Dtype::bf16, 16}}, true});
    add_linear(table, {.n_rows = n_rows,
                       .n_in = 96,
                       .products = {{Dtype::f16, 100}},
                       .has_bias = true,
                       .scale = 0.25f,
                       .softcap = 2.5f});
    add_linear(table, {.n_rows = n_rows, .n_in = 256, .products = {{Dtype::q6_k, 100}}, .softcap = 3.0f});
    add_gated(table, {n_rows, 256, 50, Dtype::q4_k, Dtype::q6_k, Activation::gelu_tanh});
    add_gated(table, {n_rows, 96, 50, Dtype::f32, Dtype::f32, Activation::gelu_tanh, true});
    add_gated(table, {n_rows, 96, 50, Dtype::q8_0, Dtype::f16, Activation::silu, true});
    for (const Activation activation : kActivations) {
      add_gated(table, {n_rows, 96, 50, Dtype::bf16, Dtype::bf16, activation});
      add_linear(table, {.n_rows = n_rows,
                         .n_in = 96,
                         .products = {{Dtype::bf16, 50}},
                         .has_bias = n_rows > 1,
                         .scale = n_rows > 3 ? 0.5f : 1.0f,
                         .activation = activation});
    }
  }
  add_linear(table, {.n_rows = 0, .n_in = 256, .products = {{Dtype::q4_k, 48}}});
  // Several tiles of any kernel in each direction, and rows of weights that do not begin at wide words.
  add_linear(table, {.n_rows = 140, .n_in = 768, .products = {{Dtype::bf16, 150}, {Dtype::q4_k, 30}}});
  add_linear(table, {.n_rows = 70, .n_in = 300, .products = {{Dtype::bf16, 20}, {Dtype::f16, 20}}});
  add_linear(table, {.n_rows = 70, .n_in = 37, .products = {{Dtype::bf16, 140}}});
}

// --- rows ----------------------------------------------------------------------------------------------

void add_norm(Table& table, int64_t n_rows, int64_t n_cols, float eps) {
  const std::string shape = fmt::format("{}x{} eps {}", n_rows, n_cols, eps);
  table.add("norm " + shape, [=](CaseMaker& maker) -> Op {
    return Norm{.x = maker.floats({n_rows, n_cols}),
                .weight = maker.norm_weight(n_cols),
                .out = maker.output(Dtype::f32, {n_rows, n_cols}),
                .eps = eps};
  });
  table.add("norm in place " + shape, [=](CaseMaker& maker) -> Op {
    const Tensor x = maker.floats({n_rows, n_cols}, 30);
    return Norm{.x = x, .weight = maker.norm_weight(n_cols), .out = x, .eps = eps};
  });
  table.add("norm with add " + shape, [=](CaseMaker& maker) -> Op {
    return Norm{.x = maker.floats({n_rows, n_cols}),
                .add = maker.floats({n_rows, n_cols}),
                .weight = maker.norm_weight(n_cols),
                .out = maker.output(Dtype::f32, {n_rows, n_cols}),
                .eps = eps};
  });
}

void add_norm_options(Table& table, int64_t n_rows, int64_t n_cols) {
  for (const NormKind kind : {NormKind::rms, NormKind::layer}) {
    const std::string shape =
        fmt::format("{} {}x{}", kind == NormKind::rms ? "rms" : "layer", n_rows, n_cols);
    table.add("norm " + shape + " bias, scaled add", [=](CaseMaker& maker) -> Op {
      return Norm{.x = maker.floats({n_rows, n_cols}),
                  .add = maker.floats({n_rows, n_cols}),
                  .weight = maker.norm_weight(n_cols),
                  .bias = maker.floats({n_cols}),
                  .out = maker.output(Dtype::f32, {n_rows, n_cols}),
                  .kind = kind,
                  .add_scale = 0.22f};
    });
    table.add("norm " + shape + " without weight", [=](CaseMaker& maker) -> Op {
      return Norm{.x = maker.floats({n_rows, n_cols}),
                  .out = maker.output(Dtype::f32, {n_rows, n_cols}),
                  .kind = kind};
    });
    table.add("norm of heads " + shape, [=](CaseMaker& maker) -> Op {
      const Tensor x = maker.floats({n_rows, 3, n_cols});
      return Norm{.x = x, .weight = maker.floats({3, n_cols}), .out = x, .kind = kind};
    });
    table.add("norm of heads, one weight " + shape, [=](CaseMaker& maker) -> Op {
      const Tensor x = maker.floats({n_rows, 2, n_cols});
      return Norm{.x = x, .weight = maker.floats({n_cols}), .out = x, .kind = kind};
    });
  }
}

void add_gate(Table& table, int64_t n_rows, int64_t n_cols, Activation activation) {
  table.add(fmt::format("gate {}x{} {}", n_rows, n_cols, text(activation)), [=](CaseMaker& maker) -> Op {
    return Gate{.gate = maker.floats({n_rows, n_cols}, 3),
                .x = maker.floats({n_rows, n_cols}),
                .out = maker.output(Dtype::f32, {n_rows, n_cols}),
                .activation = activation};
  });
}

void add_gate_options(Table& table, int64_t n_rows, int64_t n_cols) {
  for (const float cutoff : {1.28f, -0.5f}) {
    table.add(fmt::format("gate {}x{} cutoff {}", n_rows, n_cols, cutoff), [=](CaseMaker& maker) -> Op {
      const Tensor x = maker.floats({n_rows, n_cols});
      return Gate{.gate = maker.floats({n_rows, n_cols}),
                  .x = x,
                  .out = x,
                  .activation = Activation::gelu_tanh,
                  .cutoff = cutoff};
    });
  }
  table.add(fmt::format("gate {}x{} of one row for all", n_rows, n_cols), [=](CaseMaker& maker) -> Op {
    return Gate{.gate = maker.floats({n_cols}),
                .x = maker.floats({n_rows, n_cols}),
                .out = maker.output(Dtype::f32, {n_rows, n_cols}),
                .activation = Activation::none};
  });
}

void add_match_rms(Table& table, int64_t n_rows, int64_t n_cols, float deviation) {
  table.add(fmt::format("match_rms {}x{} deviation {}", n_rows, n_cols, deviation),
            [=](CaseMaker& maker) -> Op {
              const Tensor x = maker.floats({n_rows, n_cols}, deviation);
              return MatchRms{.x = x, .like = maker.floats({n_rows, n_cols}, 3), .out = x};
            });
}

// Streams among themselves, and one input for all of them.
void add_mix_streams(Table& table, int64_t n_rows, int64_t n_cols) {
  for (const int n_streams : {1, 3, 4}) {
    table.add(fmt::format("mix_streams {}x{} of {}", n_rows, n_cols, n_streams), [=](CaseMaker& maker) -> Op {
      MixStreams op{.weights = maker.floats({n_rows, n_streams * n_streams}),
                    .n_streams = n_streams,
                    .n_inputs = n_streams};
      for (int i = 0; i < n_streams; ++i) {
        op.x[i] = op.y[i] = maker.floats({n_rows, n_cols});
        op.out[i] = maker.output(Dtype::f32, {n_rows, n_cols});
      }
      return op;
    });
    table.add(fmt::format("mix_streams {}x{} one input into {}", n_rows, n_cols, n_streams),
              [=](CaseMaker& maker) -> Op {
                MixStreams op{.weights = maker.floats({n_rows, n_streams}),
                              .n_streams = n_streams,
                              .n_inputs = 1,
                              .offset = 1.0f};
                op.y[0] = maker.floats({n_rows, n_cols});
                for (int i = 0; i < n_streams; ++i) op.x[i] = op.out[i] = maker.floats({n_rows, n_cols});
                return op;
              });
  }
}

void add_row_cases(Table& table) {
  for (const int64_t n_rows : kRowCounts) {
    for (const int64_t n_cols : {32, 100, 577}) {
      add_norm(table, n_rows, n_cols, n_cols == 100 ? 1e-5f : 1e-6f);
      add_norm_options(table, n_rows, n_cols);
      for (const Activation activation : kActivations) add_gate(table, n_rows, n_cols, activation);
      add_gate_options(table, n_rows, n_cols);
      add_match_rms(table, n_rows, n_cols, 2.0f);
      add_match_rms(table, n_rows, n_cols, 1e-3f);  // below the least magnitude
      add_mix_streams(table, n_rows, n_cols);
      table.add(fmt::format("add {}x{} scaled", n_rows, n_cols), [=](CaseMaker& maker) -> Op {
        return Add{.x = maker.floats({n_rows, n_cols}),
                   .y = maker.floats({n_rows, n_cols}),
                   .x_scale = 0.7f,
                   .y_scale = -1.5f};
      });
      table.add(fmt::format("add {}x{}", n_rows, n_cols), [=](CaseMaker& maker) -> Op {
        return Add{.x = maker.floats({n_rows, n_cols}), .y = maker.floats({n_rows, n_cols})};
      });
      table.add(fmt::format("gather_rows {}x{}", n_rows, n_cols), [=](CaseMaker& maker) -> Op {
        return GatherRows{.x = maker.floats({9, n_cols}),
                          .rows = maker.integers({n_rows}, 9),
                          .out = maker.output(Dtype::f32, {n_rows, n_cols})};
      });
    }
  }
}

// --- rope_store_kv, paged_attention --------------------------------------------------------------------

struct KvCase {
  std::vector<SeqRows> seqs;
  int64_t n_heads = 4;
  int64_t n_kv_heads = 2;
  int64_t head_dim = 64;
  int64_t v_head_dim = 64;
  int64_t page_size = 16;
  Dtype dtype = Dtype::f16;
};

// "0+5,37+1" or, where all are alike, "8 times 4095+1".
std::string text(const std::vector<SeqRows>& seqs) {
  const auto one = [](const SeqRows& seq) { return fmt::format("{}+{}", seq.n_past, seq.n_rows); };
  const bool are_alike =
      std::ranges::all_of(seqs, [&](const SeqRows& seq) { return one(seq) == one(seqs[0]); });
  if (are_alike && seqs.size() > 1) return fmt::format("{} times {}", seqs.size(), one(seqs[0]));
  std::string list;
  for (const SeqRows& seq : seqs) list += (list.empty() ? "" : ",") + one(seq);
  return list;
}

std::string text(const KvCase& c) {
  return fmt::format("[{}] heads {}/{} dim {}/{} page {} {}", text(c.seqs), c.n_heads, c.n_kv_heads,
                     c.head_dim, c.v_head_dim, c.page_size, text(c.dtype));
}

// The least dimension from `dim` on that pages of the type can have.
int64_t storable(int64_t dim, Dtype dtype) {
  const int64_t block = format_of(dtype).block_elems;
  return (dim + block - 1) / block * block;
}

struct RopeCase {
  int64_t n_rotary = 64;
  RopePairing pairing = RopePairing::half_split;
  int64_t n_tables = 1;
  bool has_norms = false;
  float q_scale_beta = 0;
};

// theta^(-2i / n_rotary); the second table is longrope's idea of it, four times as slow.
Tensor inverse_frequencies(const RopeCase& rope, CaseMaker& maker) {
  if (rope.n_rotary == 0) return {};
  const Tensor table = maker.floats({rope.n_tables, rope.n_rotary / 2});
  for (int64_t i = 0; i < table.n_elems(); ++i) {
    const int64_t pair = i % table.n_cols();
    const double theta =
        std::pow(10000.0, -2.0 * static_cast<double>(pair) / static_cast<double>(rope.n_rotary));
    table.f32()[i] = static_cast<float>(i < table.n_cols() ? theta : theta / 4);
  }
  return table;
}

void add_rope(Table& table, const KvCase& c, const RopeCase& rope) {
  const std::string name = fmt::format("rope_store_kv {} rotary {}{}{}{}{}", text(c), rope.n_rotary,
                                       rope.pairing == RopePairing::adjacent ? " adjacent" : "",
                                       rope.n_tables == 2 ? " longrope" : "", rope.has_norms ? " norms" : "",
                                       rope.q_scale_beta != 0 ? " q scale" : "");
  table.add(name, [c, rope](CaseMaker& maker) -> Op {
    Batch batch = maker.batch(c.seqs, c.page_size, 1);  // the pages of earlier positions are not its business
    if (rope.n_tables == 2) batch.rope_tables = maker.integers({batch.n_seqs()}, 2);
    const int64_t n_rows = batch.n_rows();
    const std::vector<int32_t> n_stored(c.seqs.size(), 0);
    return RopeStoreKv{
        .batch = batch,
        .q = maker.floats({n_rows, c.n_heads, c.head_dim}),
        .k = maker.floats({n_rows, c.n_kv_heads, c.head_dim}),
        .v = maker.floats({n_rows, c.n_kv_heads, c.v_head_dim}),
        .q_norm = rope.has_norms ? maker.norm_weight(c.head_dim) : Tensor(),
        .k_norm = rope.has_norms ? maker.norm_weight(c.head_dim) : Tensor(),
        .rope = {.inv_freq = inverse_frequencies(rope, maker),
                 .magnitude = {rope.n_tables == 2 ? 1.1f : 1.0f, 1.3f},
                 .pairing = rope.pairing},
        .q_scale_beta = rope.q_scale_beta,
        .q_scale_length = 8,
        .q_scale_offset = 1,
        .k_pages = maker.pages(batch, n_stored, c.dtype, {c.n_kv_heads, c.page_size, c.head_dim}),
        .v_pages = maker.pages(batch, n_stored, c.dtype, {c.n_kv_heads, c.page_size, c.v_head_dim})};
  });
}

// A layer that reads the keys of another: it rotates its queries alone.
void add_rope_of_queries(Table& table, const KvCase& c, bool has_norm) {
  table.add(fmt::format("rope_store_kv {} queries alone{}", text(c), has_norm ? " norm" : ""),
            [=](CaseMaker& maker) -> Op {
              const Batch batch = maker.batch(c.seqs, c.page_size, 1);
              return RopeStoreKv{.batch = batch,
                                 .q = maker.floats({batch.n_rows(), c.n_heads, c.head_dim}),
                                 .q_norm = has_norm ? maker.norm_weight(c.head_dim) : Tensor(),
                                 .rope = {.inv_freq = inverse_frequencies({.n_rotary = c.head_dim}, maker)}};
            });
}

struct AttentionOptions {
  int32_t window = 0;
  float softcap = 0;
  int32_t chunk = 0;
  float sink = 0;  // the deviation of the sinks; 0: none
};

std::string text(const AttentionOptions& options) {
  std::string text;
  if (options.window > 0) text += fmt::format(" window {}", options.window);
  if (options.softcap > 0) text += " softcap";
  if (options.chunk > 0) text += fmt::format(" chunk {}", options.chunk);
  if (options.sink > 0) text += fmt::format(" sinks of {}", options.sink);
  return text;
}

void add_attention(Table& table, const KvCase& c, const AttentionOptions& options = {}) {
  table.add("paged_attention " + text(c) + text(options), [=](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, c.page_size, options.window);
    std::vector<int32_t> n_stored;
    for (const SeqRows& seq : c.seqs) n_stored.push_back(seq.n_past + seq.n_rows);
    const int64_t n_rows = batch.n_rows();
    return PagedAttention{
        .batch = batch,
        .q = maker.floats({n_rows, c.n_heads, c.head_dim}),
        .k_pages = maker.pages(batch, n_stored, c.dtype, {c.n_kv_heads, c.page_size, c.head_dim}),
        .v_pages = maker.pages(batch, n_stored, c.dtype, {c.n_kv_heads, c.page_size, c.v_head_dim}),
        .sinks = options.sink > 0 ? maker.floats({c.n_heads}, options.sink) : Tensor(),
        .out = maker.output(Dtype::f32, {n_rows, c.n_heads, c.v_head_dim}),
        .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)),
        .softcap = options.softcap,
        .window = options.window,
        .chunk = options.chunk};
  });
}

// Rotation where the heads are: nothing is stored.
void add_rope_in_place(Table& table, const std::vector<SeqRows>& seqs, bool has_norms) {
  const std::string norms = has_norms ? " norms" : "";
  table.add(fmt::format("rope_store_kv [{}] without pages{}", text(seqs), norms),
            [=](CaseMaker& maker) -> Op {
              const Batch batch = maker.batch(seqs, 16, 0);
              return RopeStoreKv{.batch = batch,
                                 .q = maker.floats({batch.n_rows(), 4, 64}),
                                 .k = maker.floats({batch.n_rows(), 2, 64}),
                                 .q_norm = has_norms ? maker.norm_weight(64) : Tensor(),
                                 .k_norm = has_norms ? maker.norm_weight(64) : Tensor(),
                                 .rope = {.inv_freq = inverse_frequencies({}, maker)}};
            });
}

struct BidirectionalCase {
  std::vector<SeqRows> seqs;  // each from its beginning
  int64_t n_heads = 4;
  int64_t n_kv_heads = 2;
  int64_t head_dim = 64;
  int64_t v_head_dim = 64;
  int32_t reach = 0;
  float softcap = 0;
};

void add_bidirectional(Table& table, const BidirectionalCase& c) {
  const std::string name =
      fmt::format("bidirectional_attention [{}] heads {}/{} dim {}/{}{}{}", text(c.seqs), c.n_heads,
                  c.n_kv_heads, c.head_dim, c.v_head_dim,
                  c.reach > 0 ? fmt::format(" reach {}", c.reach) : "", c.softcap > 0 ? " softcap" : "");
  table.add(name, [c](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, 16, 0);
    const int64_t n_rows = batch.n_rows();
    return BidirectionalAttention{.batch = batch,
                                  .q = maker.floats({n_rows, c.n_heads, c.head_dim}),
                                  .k = maker.floats({n_rows, c.n_kv_heads, c.head_dim}),
                                  .v = maker.floats({n_rows, c.n_kv_heads, c.v_head_dim}),
                                  .out = maker.output(Dtype::f32, {n_rows, c.n_heads, c.v_head_dim}),
                                  .scale = 1 / std::sqrt(static_cast<float>(c.head_dim)),
                                  .softcap = c.softcap,
                                  .reach = c.reach};
  });
}

// Ragged batches: beginnings, continuations, single rows deep in a history, an empty sequence.
const std::vector<SeqRows> kOneRow = {{40, 1}};
const std::vector<SeqRows> kPrompt = {{0, 33}};
const std::vector<SeqRows> kMixed = {{0, 5}, {37, 1}, {16, 17}, {3, 0}, {100, 1}, {15, 2}};
const std::vector<SeqRows> kLong = {{255, 3}, {700, 1}, {256, 1}, {500, 40}};

void add_kv_cases(Table& table) {
  for (const Dtype dtype : page_types()) {
    for (const int64_t some_dim : {16, 64, 80, 128, 256}) {
      const int64_t dim = storable(some_dim, dtype);
      for (const std::vector<SeqRows>* seqs : {&kOneRow, &kPrompt, &kMixed, &kLong}) {
        const KvCase c{.seqs = *seqs,
                       .n_heads = dim == 64 ? 6 : 4,
                       .n_kv_heads = dim == 64 ? 3 : (some_dim == 80 ? 4 : 1),
                       .head_dim = dim,
                       .v_head_dim = dim,
                       .page_size = dim == 128 ? 32 : 16,
                       .dtype = dtype};
        add_attention(table, c);
        if (seqs == &kOneRow || seqs == &kMixed) add_rope(table, c, {.n_rotary = dim});
        if (seqs != &kOneRow && (dim == 64 || dim == 256)) {
          add_attention(table, c, {.window = 20});
          add_attention(table, c, {.softcap = 5.0f});
          add_attention(table, c, {.window = 300, .softcap = 5.0f});
          add_attention(table, c, {.chunk = 24});
          add_attention(table, c, {.sink = 1.0f});
          add_attention(table, c, {.window = 20, .sink = 30.0f});
        }
      }
    }
    const KvCase mixed{.seqs = kMixed, .n_heads = 8, .n_kv_heads = 8, .page_size = 32, .dtype = dtype};
    add_attention(table, mixed);
    add_attention(table, mixed, {.window = 1});
    add_attention(table, mixed, {.window = 9, .chunk = 16, .sink = 1.0f});
    const int64_t other_dim = storable(48, dtype) == 48 ? 48 : 96;
    add_attention(table,
                  {.seqs = kLong, .n_heads = 7, .n_kv_heads = 1, .v_head_dim = other_dim, .dtype = dtype});
    add_rope(table, mixed, {.n_rotary = 32});
    add_rope_of_queries(table, mixed, dtype == Dtype::f16);
    add_rope(table, mixed, {.n_rotary = 0, .q_scale_beta = 0.1f});
    add_rope(table, mixed, {.pairing = RopePairing::adjacent});
    add_rope(table, mixed, {.n_rotary = 48, .pairing = RopePairing::adjacent, .has_norms = true});
    add_rope(table, mixed, {.n_tables = 2});
    add_rope(table, mixed, {.n_tables = 2, .has_norms = true, .q_scale_beta = 0.1f});
    add_rope(table, {.seqs = {{1000000, 2}}, .v_head_dim = other_dim, .dtype = dtype}, {.n_tables = 1});
  }
  add_rope_in_place(table, kMixed, false);
  add_rope_in_place(table, kMixed, true);
}

// Texts: one word, an empty one, of a block and a little more, of more than two.
const std::vector<SeqRows> kTexts = {{0, 1}, {0, 33}, {0, 0}, {0, 5}, {0, 70}, {0, 2}};
const std::vector<SeqRows> kLongTexts = {{0, 3}, {0, 257}, {0, 520}};

void add_bidirectional_cases(Table& table) {
  for (const int32_t reach : {0, 1, 8, 300}) {
    add_bidirectional(table, {.seqs = kTexts, .reach = reach});
    add_bidirectional(table, {kTexts, 6, 6, 16, 16, reach});
    add_bidirectional(table, {kLongTexts, 2, 1, 16, 16, reach});
  }
  add_bidirectional(table, {kTexts, 3, 1, 80, 48});
  add_bidirectional(table, {.seqs = kTexts, .reach = 40, .softcap = 5.0f});
}

void add_mean_rows(Table& table, std::vector<int32_t> begin, std::vector<int32_t> end, int64_t n_cols) {
  table.add(fmt::format("mean_rows {}x{}", begin.size(), n_cols), [=](CaseMaker& maker) -> Op {
    return MeanRows{.x = maker.floats({40, n_cols}),
                    .begin = maker.list(begin),
                    .end = maker.list(end),
                    .out = maker.output(Dtype::f32, {static_cast<int64_t>(begin.size()), n_cols})};
  });
}

// --- split, causal_conv, gated_delta_rule ---------------------------------------------------------------

void add_split(Table& table, int64_t n_rows, int64_t n_first, int64_t n_second) {
  table.add(fmt::format("split {}x{}+{}", n_rows, n_first, n_second), [=](CaseMaker& maker) -> Op {
    return Split{.x = maker.floats({n_rows, n_first + n_second}),
                 .first = maker.output(Dtype::f32, {n_rows, n_first}),
                 .second = maker.output(Dtype::f32, {n_rows, n_second})};
  });
}

void add_conv(Table& table, const std::vector<SeqRows>& seqs, int64_t n_channels, int64_t n_taps) {
  table.add(fmt::format("causal_conv [{}] {} channels {} taps", text(seqs), n_channels, n_taps),
            [=](CaseMaker& maker) -> Op {
              const Batch batch = maker.batch(seqs, 16, 1);
              return CausalConv{.batch = batch,
                                .x = maker.floats({batch.n_rows(), n_channels}),
                                .weight = maker.floats({n_channels, n_taps}),
                                .state = maker.states(batch, {2 * batch.n_seqs(), n_taps - 1, n_channels}),
                                .out = maker.output(Dtype::f32, {batch.n_rows(), n_channels})};
            });
}

struct RuleCase {
  std::vector<SeqRows> seqs;
  int64_t n_k_heads = 2;
  int64_t n_v_heads = 4;
  int64_t k_head_dim = 16;
  int64_t v_head_dim = 16;
  bool has_decay_of_keys = false;
  float floor = 0.0f;
  KeyHeads key_heads = KeyHeads::grouped;
};

void add_rule(Table& table, const RuleCase& c) {
  const std::string name =
      fmt::format("gated_delta_rule [{}] heads {}/{} dim {}/{}{}{}{}", text(c.seqs), c.n_v_heads, c.n_k_heads,
                  c.k_head_dim, c.v_head_dim, c.has_decay_of_keys ? " decay of keys" : "",
                  c.floor < 0 ? " floor" : "", c.key_heads == KeyHeads::tiled ? " tiled" : "");
  table.add(name, [c](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, 16, 1);
    const int64_t n_rows = batch.n_rows(), n_decays = c.has_decay_of_keys ? c.k_head_dim : 1;
    const Tensor rate = maker.floats({c.n_v_heads});
    for (int64_t h = 0; h < c.n_v_heads; ++h) rate.f32()[h] = -std::exp(rate.f32()[h]);
    return GatedDeltaRule{
        .batch = batch,
        .q = maker.floats({n_rows, c.n_k_heads, c.k_head_dim}),
        .k = maker.floats({n_rows, c.n_k_heads, c.k_head_dim}),
        .v = maker.floats({n_rows, c.n_v_heads, c.v_head_dim}),
        .beta = maker.floats({n_rows, c.n_v_heads}),
        .decay = maker.floats({n_rows, c.n_v_heads, n_decays}, 2.0f),
        .decay_bias = maker.floats({c.n_v_heads, n_decays}),
        .rate = rate,
        .state = maker.states(batch, {2 * batch.n_seqs(), c.n_v_heads, c.k_head_dim, c.v_head_dim}),
        .out = maker.output(Dtype::f32, {n_rows, c.n_v_heads, c.v_head_dim}),
        .floor = c.floor,
        .key_heads = c.key_heads};
  });
}

void add_recurrent_cases(Table& table) {
  for (const int64_t n_rows : kRowCounts) add_split(table, n_rows, 32, 13);
  for (const std::vector<SeqRows>* seqs : {&kOneRow, &kPrompt, &kMixed}) {
    add_conv(table, *seqs, 100, 4);
    add_conv(table, *seqs, 1030, 2);
    add_rule(table, {.seqs = *seqs});
    add_rule(table, {.seqs = *seqs, .n_v_heads = 2, .k_head_dim = 128, .v_head_dim = 128});
    add_rule(
        table,
        {.seqs = *seqs, .n_v_heads = 6, .k_head_dim = 24, .v_head_dim = 70, .key_heads = KeyHeads::tiled});
    add_rule(table, {.seqs = *seqs, .n_v_heads = 2, .v_head_dim = 33, .has_decay_of_keys = true});
    add_rule(table, {.seqs = *seqs, .n_v_heads = 2, .has_decay_of_keys = true, .floor = -5.0f});
  }
}

// --- experts -------------------------------------------------------------------------------------------

struct RouteCase {
  int64_t n_rows;
  int64_t n_experts;
  int64_t n_used;
  Dtype dtype = Dtype::f32;
  RouteScore score = RouteScore::softmax;
  bool has_bias = false;
  bool has_select_bias = false;
  int32_t n_groups = 1;
  int32_t n_groups_used = 1;
  GroupScore group_score = GroupScore::max;
  bool renormalise = true;
  float scale = 1.0f;
  bool has_expert_scale = false;
};

std::string_view text(RouteScore score) {
  constexpr std::string_view kNames[] = {"softmax", "sigmoid", "sqrt_softplus"};
  return kNames[static_cast<size_t>(score)];
}

void add_route(Table& table, const RouteCase& c) {
  const std::string groups = c.n_groups == 1
                                 ? ""
                                 : fmt::format(" groups {} of {} by {}", c.n_groups_used, c.n_groups,
                                               c.group_score == GroupScore::max ? "max" : "sum of two");
  const std::string name =
      fmt::format("route {} rows {} of {} {} {}{}{}{}{}{}", c.n_rows, c.n_used, c.n_experts, text(c.dtype),
                  text(c.score), c.has_bias ? " bias" : "", c.has_select_bias ? " select bias" : "", groups,
                  c.renormalise ? " renormalised" : "", c.has_expert_scale ? " scaled by expert" : "");
  table.add(name, [c](CaseMaker& maker) -> Op {
    return Route{.x = maker.floats({c.n_rows, 256}),
                 .weight = maker.weight(c.dtype, {c.n_experts, 256}),
                 .bias = c.has_bias ? maker.floats({c.n_experts}) : Tensor(),
                 .select_bias = c.has_select_bias ? maker.floats({c.n_experts}) : Tensor(),
                 .expert_scale = c.has_expert_scale ? maker.norm_weight(c.n_experts) : Tensor(),
                 .experts = maker.output(Dtype::i32, {c.n_rows, c.n_used}),
                 .weights = maker.output(Dtype::f32, {c.n_rows, c.n_used}),
                 .score = c.score,
                 .n_groups = c.n_groups,
                 .n_groups_used = c.n_groups_used,
                 .group_score = c.group_score,
                 .renormalise = c.renormalise,
                 .sum_eps = c.has_select_bias ? 1e-2f : 0.0f,
                 .scale = c.scale};
  });
}

struct MoeCase {
  int64_t n_rows;
  int64_t n_used;
  int32_t n_experts;
  int64_t n_in;
  int64_t n_out;
  Dtype dtype;
  Activation activation = Activation::silu;
  bool has_bias = false;
  bool weighs_input = false;
  float limit = 0;
};

std::string text(const MoeCase& c) {
  return fmt::format("{} rows {} of {} {}->{} {}{}{}{}", c.n_rows, c.n_used, c.n_experts, c.n_in, c.n_out,
                     text(c.dtype), c.has_bias ? " bias" : "", c.weighs_input ? " weighs input" : "",
                     c.limit > 0 ? " limit" : "");
}

void add_moe(Table& table, const MoeCase& c) {
  const auto bias = [c](CaseMaker& maker) {
    return c.has_bias ? maker.floats({c.n_experts, c.n_out}) : Tensor();
  };
  table.add("moe_gated " + text(c), [=](CaseMaker& maker) -> Op {
    return MoeGated{.x = maker.floats({c.n_rows, c.n_in}),
                    .experts = maker.experts(c.n_rows, c.n_used, c.n_experts),
                    .weights = c.weighs_input ? maker.floats({c.n_rows, c.n_used}) : Tensor(),
                    .gate = maker.weight(c.dtype, {c.n_experts, c.n_out, c.n_in}),
                    .up = maker.weight(c.dtype, {c.n_experts, c.n_out, c.n_in}),
                    .gate_bias = bias(maker),
                    .up_bias = bias(maker),
                    .out = maker.output(Dtype::f32, {c.n_rows, c.n_used, c.n_out}),
                    .activation = c.activation,
                    .limit = c.limit,
                    .up_offset = c.limit > 0 ? 1.0f : 0.0f};
  });
  table.add("moe_down " + text(c), [=](CaseMaker& maker) -> Op {
    return MoeDown{.x = maker.floats({c.n_rows, c.n_used, c.n_in}),
                   .experts = maker.experts(c.n_rows, c.n_used, c.n_experts),
                   .weights = c.weighs_input ? Tensor() : maker.floats({c.n_rows, c.n_used}),
                   .down = maker.weight(c.dtype, {c.n_experts, c.n_out, c.n_in}),
                   .bias = bias(maker),
                   .out = maker.output(Dtype::f32, {c.n_rows, c.n_out})};
  });
}

void add_fused_moe(Table& table, int64_t n_rows, Dtype dtype) {
  table.add(fmt::format("moe_gated {} rows, gate before up, {}", n_rows, text(dtype)),
            [=](CaseMaker& maker) -> Op {
              return MoeGated{.x = maker.floats({n_rows, 256}),
                              .experts = maker.experts(n_rows, 2, 5),
                              .gate = maker.weight(dtype, {5, 2 * 37, 256}),
                              .out = maker.output(Dtype::f32, {n_rows, 2, 37})};
            });
}

void add_expert_cases(Table& table) {
  for (const int64_t n_rows : kRowCounts) {
    add_route(table, {.n_rows = n_rows, .n_experts = 8, .n_used = 2});
    add_route(table, {.n_rows = n_rows, .n_experts = 60, .n_used = 4, .renormalise = false});
    add_route(table, {.n_rows = n_rows, .n_experts = 20, .n_used = 3, .has_expert_scale = true});
    add_route(table, {.n_rows = n_rows,
                      .n_experts = 33,
                      .n_used = 8,
                      .score = RouteScore::sigmoid,
                      .has_select_bias = true,
                      .scale = 2.5f});
    add_route(table, {.n_rows = n_rows,
                      .n_experts = 32,
                      .n_used = 6,
                      .score = RouteScore::sigmoid,
                      .has_select_bias = true,
                      .n_groups = 8,
                      .n_groups_used = 3,
                      .group_score = GroupScore::sum_of_two,
                      .scale = 2.5f});
    add_route(table, {.n_rows = n_rows, .n_experts = 24, .n_used = 4, .n_groups = 3, .n_groups_used = 1});
    add_route(table, {.n_rows = n_rows,
                      .n_experts = 40,
                      .n_used = 3,
                      .score = RouteScore::sqrt_softplus,
                      .has_bias = true,
                      .has_select_bias = true});
  }
  add_route(table, {.n_rows = 5, .n_experts = 4, .n_used = 4});
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16, Dtype::q8_0})
    add_route(table, {.n_rows = 5, .n_experts = 16, .n_used = 1, .dtype = dtype});
  for (const Dtype dtype : weight_types()) {
    add_moe(table, {.n_rows = 1, .n_used = 2, .n_experts = 8, .n_in = 256, .n_out = 40, .dtype = dtype});
    add_moe(table, {3, 4, 9, 512, 33, dtype, Activation::gelu_tanh});
    add_moe(table, {17, 2, 5, 256, 48, dtype});
    add_fused_moe(table, 6, dtype);
    add_moe(table, {5, 3, 4, 256, 41, dtype, Activation::quick_gelu, true, false, 0.5f});
  }
  for (const int64_t n_rows : {1, 5, 17}) {
    add_moe(table, {n_rows, 1, 4, 256, 72, Dtype::bf16, Activation::silu, false, true});
    add_moe(table, {n_rows, 2, 4, 96, 72, Dtype::f32, Activation::silu, true, true, 2.0f});
  }
  add_moe(table, {.n_rows = 5, .n_used = 1, .n_experts = 3, .n_in = 33, .n_out = 50, .dtype = Dtype::f32});
  add_moe(table,
          {.n_rows = 150, .n_used = 2, .n_experts = 3, .n_in = 256, .n_out = 40, .dtype = Dtype::q6_k});
  add_moe(table, {.n_rows = 33, .n_used = 8, .n_experts = 8, .n_in = 96, .n_out = 64, .dtype = Dtype::q8_0});
}

// --- latent attention ----------------------------------------------------------------------------------

struct HeadCase {
  int64_t n_rows;
  int64_t n_heads;
  int64_t n_in;
  int64_t n_out;
  Dtype dtype = Dtype::f32;
  int64_t n_carried = 0;
  bool is_shared = false;  // all heads read one x, of which a part is not used
};

void add_head_linear(Table& table, const HeadCase& c) {
  const std::string name =
      fmt::format("head_linear {}x{} {}->{} {} carries {}{}", c.n_rows, c.n_heads, c.n_in, c.n_out,
                  text(c.dtype), c.n_carried, c.is_shared ? " of one" : "");
  table.add(name, [c](CaseMaker& maker) -> Op {
    const int64_t n_left = c.n_in + c.n_carried + (c.is_shared ? 3 : 0);
    return HeadLinear{.x = maker.floats({c.n_rows, c.is_shared ? 1 : c.n_heads, n_left}),
                      .weight = maker.weight(c.dtype, {c.n_heads, c.n_out, c.n_in}),
                      .out = maker.output(Dtype::f32, {c.n_rows, c.n_heads, c.n_out + c.n_carried})};
  });
}

// Queries and keys whose last n_rotary dimensions turn; the first v_head_dim of a key are its value.
void add_latent(Table& table, const KvCase& c, int64_t n_rotary) {
  const std::string name = fmt::format("{} latent rotary {}", text(c), n_rotary);
  const RopeCase rope{.n_rotary = n_rotary};
  table.add("rope_store_kv " + name, [=](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, c.page_size, 1);
    const std::vector<int32_t> n_stored(c.seqs.size(), 0);
    return RopeStoreKv{
        .batch = batch,
        .q = maker.floats({batch.n_rows(), c.n_heads, c.head_dim}),
        .k = maker.floats({batch.n_rows(), 1, c.head_dim}),
        .k_norm = maker.norm_weight(c.v_head_dim),
        .rope = {.inv_freq = inverse_frequencies(rope, maker), .pairing = RopePairing::adjacent},
        .rope_begin = c.head_dim - n_rotary,
        .k_pages = maker.pages(batch, n_stored, c.dtype, {1, c.page_size, c.head_dim})};
  });
  table.add("paged_attention " + name, [=](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, c.page_size, 0);
    std::vector<int32_t> n_stored;
    for (const SeqRows& seq : c.seqs) n_stored.push_back(seq.n_past + seq.n_rows);
    return PagedAttention{.batch = batch,
                          .q = maker.floats({batch.n_rows(), c.n_heads, c.head_dim}),
                          .k_pages = maker.pages(batch, n_stored, c.dtype, {1, c.page_size, c.head_dim}),
                          .out = maker.output(Dtype::f32, {batch.n_rows(), c.n_heads, c.v_head_dim}),
                          .scale = 1 / std::sqrt(static_cast<float>(c.head_dim))};
  });
}

void add_latent_cases(Table& table) {
  for (const int64_t n_rows : kRowCounts) {
    add_head_linear(table, {.n_rows = n_rows, .n_heads = 3, .n_in = 40, .n_out = 33, .n_carried = 7});
  }
  for (const Dtype dtype : weight_types()) {
    add_head_linear(table, {.n_rows = 1, .n_heads = 4, .n_in = 256, .n_out = 70, .dtype = dtype});
    add_head_linear(table, {5, 2, 512, 40, dtype, 64});
    add_head_linear(table, {9, 3, 256, 40, dtype, 8, true});
  }
  for (const Dtype dtype : page_types()) {
    for (const std::vector<SeqRows>* seqs : {&kOneRow, &kMixed, &kLong}) {
      add_latent(table, {*seqs, 5, 1, storable(48, dtype), 32, 16, dtype}, 16);
    }
    add_latent(
        table,
        {.seqs = kMixed, .n_heads = 70, .n_kv_heads = 1, .head_dim = 576, .v_head_dim = 512, .dtype = dtype},
        64);
  }
}

// --- indexer, hyper-connections ------------------------------------------------------------------------

void add_select(Table& table, const KvCase& c, int64_t n_selected) {
  table.add(fmt::format("select_positions {} selects {}", text(c), n_selected), [=](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, c.page_size, 0);
    std::vector<int32_t> n_stored;
    for (const SeqRows& seq : c.seqs) n_stored.push_back(seq.n_past + seq.n_rows);
    return SelectPositions{.batch = batch,
                           .q = maker.floats({batch.n_rows(), c.n_heads, c.head_dim}),
                           .weights = maker.floats({batch.n_rows(), c.n_heads}),
                           .k_pages = maker.pages(batch, n_stored, c.dtype, {1, c.page_size, c.head_dim}),
                           .selected = maker.output(Dtype::i32, {batch.n_rows(), n_selected})};
  });
}

// Attention over about a third of the positions.
void add_selected(Table& table, const KvCase& c, int64_t n_selected) {
  table.add(fmt::format("paged_attention {} selects {}", text(c), n_selected), [=](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, c.page_size, 0);
    std::vector<int32_t> n_stored;
    for (const SeqRows& seq : c.seqs) n_stored.push_back(seq.n_past + seq.n_rows);
    const Tensor selected = maker.output(Dtype::i32, {batch.n_rows(), n_selected});  // every bit set is -1
    for (int64_t r = 0; r < batch.n_rows(); ++r) {
      const int32_t position = batch.positions.i32()[r];
      for (int64_t i = 0; i < n_selected && 3 * i + r % 3 <= position; ++i)
        selected.i32()[r * n_selected + i] = static_cast<int32_t>(3 * i + r % 3);
      selected.i32()[r * n_selected] = position < 3 ? 0 : selected.i32()[r * n_selected];
    }
    return PagedAttention{
        .batch = batch,
        .q = maker.floats({batch.n_rows(), c.n_heads, c.head_dim}),
        .k_pages = maker.pages(batch, n_stored, c.dtype, {c.n_kv_heads, c.page_size, c.head_dim}),
        .v_pages = maker.pages(batch, n_stored, c.dtype, {c.n_kv_heads, c.page_size, c.v_head_dim}),
        .selected = selected,
        .out = maker.output(Dtype::f32, {batch.n_rows(), c.n_heads, c.v_head_dim}),
        .scale = 0.2f};
  });
}

// Runs of `stride` positions as entries; rows with two halves overlap. Means alone are neither normed nor
// rotated.
enum class Entries { halves, plain, means };
void add_compress(Table& table, const KvCase& c, int64_t stride, Entries entries) {
  const bool has_halves = entries == Entries::halves, is_mean = entries == Entries::means;
  const std::string name = fmt::format("compress_kv {} stride {}{}", text(c), stride,
                                       has_halves ? " halves"
                                       : is_mean  ? " means"
                                                  : "");
  table.add(name, [=](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, c.page_size, 0);
    std::vector<int32_t> n_past;
    for (const SeqRows& seq : c.seqs) n_past.push_back(seq.n_past);
    const int64_t width = has_halves ? 2 * c.head_dim : c.head_dim;
    const int64_t n_slots = std::max<int64_t>(1, c.page_size / stride);
    CompressKv op{
        .batch = batch,
        .kv = maker.floats({batch.n_rows(), width}),
        .gate = maker.floats({batch.n_rows(), width}),
        .bias = maker.weight(Dtype::bf16, {stride, width}),
        .norm = maker.norm_weight(c.head_dim),
        .row_pages = maker.pages(batch, n_past, c.dtype, {1, c.page_size, 2 * width}),
        .entry_pages = maker.output(c.dtype, {n_pages_of(batch), 1, n_slots, c.head_dim}),
        .rope = {.inv_freq = inverse_frequencies({.n_rotary = 8}, maker), .pairing = RopePairing::adjacent},
        .rope_begin = c.head_dim - 8};
    if (is_mean) op.norm = op.rope.inv_freq = Tensor();
    return op;
  });
}

// A window of positions, and entries before: all of the past, or the selected ones.
void add_entries(Table& table, const KvCase& c, int32_t stride, int64_t n_selected) {
  const std::string name =
      fmt::format("paged_attention {} entries of {} selects {}", text(c), stride, n_selected);
  table.add(name, [=](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(c.seqs, c.page_size, 0);
    std::vector<int32_t> n_stored;
    for (const SeqRows& seq : c.seqs) n_stored.push_back(seq.n_past + seq.n_rows);
    const int64_t n_slots = std::max<int64_t>(1, c.page_size / stride);
    PagedAttention op{.batch = batch,
                      .q = maker.floats({batch.n_rows(), c.n_heads, c.head_dim}),
                      .k_pages = maker.pages(batch, n_stored, c.dtype, {1, c.page_size, c.head_dim}),
                      .sinks = maker.floats({c.n_heads}),
                      .out = maker.output(Dtype::f32, {batch.n_rows(), c.n_heads, c.head_dim}),
                      .scale = 0.2f,
                      .window = 20,
                      .entry_pages = maker.weight(c.dtype, {n_pages_of(batch), 1, n_slots, c.head_dim}),
                      .entry_stride = stride};
    if (n_selected == 0) return op;
    op.selected = maker.output(Dtype::i32, {batch.n_rows(), n_selected});  // every bit set is -1
    for (int64_t r = 0; r < batch.n_rows(); ++r) {
      const int32_t n_entries = (batch.positions.i32()[r] + 1) / stride;
      for (int32_t i = 0; i < n_selected && 2 * i < n_entries; ++i)
        op.selected.i32()[r * n_selected + i] = 2 * i;
    }
    return op;
  });
}

// The entries of runs, and the positions that they stand for.
void add_select_entries(Table& table, const KvCase& c, int32_t stride, int64_t n_entries) {
  for (const bool expands : {false, true}) {
    const std::string name = fmt::format("select_positions {} entries of {} selects {}{}", text(c), stride,
                                         n_entries, expands ? " expanded" : "");
    table.add(name, [=](CaseMaker& maker) -> Op {
      const Batch batch = maker.batch(c.seqs, c.page_size, 0);
      const int64_t n_selected = expands ? n_entries * stride + stride - 1 : n_entries;
      return SelectPositions{
          .batch = batch,
          .q = maker.floats({batch.n_rows(), c.n_heads, c.head_dim}),
          .weights = maker.floats({batch.n_rows(), c.n_heads}),
          .k_pages = maker.weight(c.dtype, {n_pages_of(batch), 1, c.page_size / stride, c.head_dim}),
          .selected = maker.output(Dtype::i32, {batch.n_rows(), n_selected}),
          .entry_stride = stride,
          .page_size = c.page_size,
          .expands = expands};
    });
  }
}

void add_entry_cases(Table& table) {
  for (const Dtype dtype : page_types()) {
    for (const std::vector<SeqRows>* seqs : {&kPrompt, &kMixed, &kLong}) {
      const int64_t dim = storable(24, dtype);
      const KvCase c{*seqs, 6, 1, dim, dim, 16, dtype};
      add_compress(table, c, 4, Entries::halves);
      add_compress(table, c, 32, Entries::plain);
      add_compress(table, c, 4, Entries::means);
      add_entries(table, c, 2, 0);
      add_entries(table, c, 32, 0);
      add_entries(table, c, 2, 9);
      add_entries(table, c, 2, 300);
      add_select_entries(table, c, 4, 7);
      add_select_entries(table, c, 2, 800);
    }
  }
  table.add("embed copies", [](CaseMaker& maker) -> Op {
    return Embed{.tokens = maker.integers({5}, 50),
                 .table = maker.weight(Dtype::bf16, {50, 96}),
                 .out = maker.output(Dtype::f32, {5, 3, 96}),
                 .scale = 2};
  });
  table.add("rope_store_kv of queries alone", [](CaseMaker& maker) -> Op {
    const Batch batch = maker.batch(kMixed, 16, 0);
    return RopeStoreKv{
        .batch = batch,
        .q = maker.floats({batch.n_rows(), 5, 24}),
        .rope = {.inv_freq = inverse_frequencies({.n_rotary = 8}, maker), .pairing = RopePairing::adjacent},
        .rope_begin = 16};
  });
  table.add("route by token", [](CaseMaker& maker) -> Op {
    return Route{.x = maker.floats({9, 256}),
                 .weight = maker.weight(Dtype::f32, {16, 256}),
                 .tokens = maker.integers({9}, 50),
                 .table = maker.experts(50, 3, 16),
                 .experts = maker.output(Dtype::i32, {9, 3}),
                 .weights = maker.output(Dtype::f32, {9, 3}),
                 .score = RouteScore::sqrt_softplus,
                 .sum_eps = 1e-20f,
                 .scale = 1.5f};
  });
  table.add("linear_gated with a limit", [](CaseMaker& maker) -> Op {
    return LinearGated{.x = maker.floats({7, 96}),
                       .gate = maker.weight(Dtype::f32, {50, 96}),
                       .up = maker.weight(Dtype::f32, {50, 96}),
                       .out = maker.output(Dtype::f32, {7, 50}),
                       .limit = 0.7f};
  });
}

void add_hyper(Table& table, int64_t n_rows, int64_t n, int64_t hidden) {
  const std::string shape = fmt::format("{}x{}x{}", n_rows, n, hidden);
  table.add("hyper_collapse " + shape, [=](CaseMaker& maker) -> Op {
    return HyperCollapse{.x = maker.floats({n_rows, n, hidden}),
                         .mix = maker.floats({n_rows, n * (2 + n)}),
                         .base = maker.floats({n * (2 + n)}),
                         .scale = maker.floats({3}),
                         .out = maker.output(Dtype::f32, {n_rows, hidden}),
                         .post = maker.output(Dtype::f32, {n_rows, n}),
                         .comb = maker.output(Dtype::f32, {n_rows, n, n})};
  });
  table.add("hyper_collapse to the head " + shape, [=](CaseMaker& maker) -> Op {
    return HyperCollapse{.x = maker.floats({n_rows, n, hidden}),
                         .mix = maker.floats({n_rows, n}),
                         .base = maker.floats({n}),
                         .scale = maker.floats({1}),
                         .out = maker.output(Dtype::f32, {n_rows, hidden})};
  });
  table.add("hyper_collapse to the mean " + shape, [=](CaseMaker& maker) -> Op {
    return HyperCollapse{.x = maker.floats({n_rows, n, hidden}),
                         .out = maker.output(Dtype::f32, {n_rows, hidden})};
  });
  table.add("hyper_expand " + shape, [=](CaseMaker& maker) -> Op {
    return HyperExpand{.x = maker.floats({n_rows, n, hidden}),
                       .branch = maker.floats({n_rows, hidden}),
                       .post = maker.floats({n_rows, n}),
                       .comb = maker.floats({n_rows, n, n})};
  });
}

void add_index_and_hyper_cases(Table& table) {
  for (const Dtype dtype : page_types()) {
    for (const std::vector<SeqRows>* seqs : {&kOneRow, &kMixed, &kLong}) {
      const int64_t dim = storable(24, dtype);
      const KvCase c{*seqs, 6, 1, dim, dim, 16, dtype};
      add_select(table, c, 16);
      add_select(table, c, 300);
      add_selected(table, c, 10);
      add_selected(table, c, 600);
    }
  }
  for (const int64_t n_rows : kRowCounts) {
    add_hyper(table, n_rows, 4, 64);
    add_hyper(table, n_rows, 3, 37);
  }
}

// --- logits ----------------------------------------------------------------------------------------------

// Some logits are equal, one row has a NaN, one +infinity, one nothing but -infinity.
Tensor logits_of(CaseMaker& maker, int64_t n_rows, int64_t n_vocab) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Tensor logits = maker.floats({n_rows, n_vocab}, 3.0f);
  for (int64_t i = 0; i < logits.n_elems(); i += 2)
    logits.f32()[i] = std::round(4.0f * logits.f32()[i]) / 4.0f;
  for (int64_t i = 0; i < logits.n_elems(); i += 7) logits.f32()[i] = -kInfinity;
  const auto middle_of = [&](int64_t r) { return logits.f32() + r * n_vocab + n_vocab / 2; };
  if (n_rows > 3) *middle_of(1) = std::copysign(std::numeric_limits<float>::quiet_NaN(), -1.0f);
  if (n_rows > 4) *middle_of(2) = kInfinity;
  if (n_rows > 5) std::fill_n(logits.f32() + 3 * n_vocab, n_vocab, -kInfinity);
  return logits;
}

void add_top_logits(Table& table, int64_t n_rows, int64_t n_vocab, int64_t n_top) {
  table.add(fmt::format("top_logits {}x{} {}", n_rows, n_vocab, n_top), [=](CaseMaker& maker) -> Op {
    return TopLogits{.logits = logits_of(maker, n_rows, n_vocab),
                     .tokens = maker.output(Dtype::i32, {n_rows, n_top}),
                     .top = maker.output(Dtype::f32, {n_rows, n_top})};
  });
}

// Rows of every kind of truncation in turn. `n_top` may tell too little.
void add_draw_tokens(Table& table, int64_t n_rows, int64_t n_vocab, int64_t n_top) {
  table.add(fmt::format("draw_tokens {}x{} {}", n_rows, n_vocab, n_top), [=](CaseMaker& maker) -> Op {
    static constexpr Truncation kTruncations[] = {{},
                                                  {.top_k = 20, .top_p = 0.9f},
                                                  {.top_p = 0.9f},
                                                  {.min_p = 0.1f},
                                                  {.top_p = 0.7f, .min_p = 0.02f},
                                                  {.top_k = 40},
                                                  {.top_k = 20, .top_p = 0.95f, .min_p = 0.05f},
                                                  {.top_p = 0.0f}};
    DrawTokens op{.logits = logits_of(maker, n_rows, n_vocab),
                  .top_tokens = maker.output(Dtype::i32, {n_rows, n_top}),
                  .top = maker.output(Dtype::f32, {n_rows, n_top}),
                  .temperatures = maker.norm_weight(n_rows),
                  .truncations = maker.output(Dtype::f32, {n_rows, 3}),
                  .uniforms = maker.output(Dtype::i32, {n_rows, 2}),
                  .tokens = maker.output(Dtype::i32, {n_rows}),
                  .sums = maker.output(Dtype::i32, {n_rows, 2})};
    make_reference_backend()->run(TopLogits{.logits = op.logits, .tokens = op.top_tokens, .top = op.top});
    const Tensor uniforms = maker.integers({n_rows}, 1000);
    for (int64_t r = 0; r < n_rows; ++r) {
      std::ranges::copy(numbers_of(kTruncations[r % std::ssize(kTruncations)]), op.truncations.f32() + 3 * r);
      // The last one draws at the very end.
      const double uniform = r + 1 == n_rows ? 1.0 - 0x1p-53 : uniforms.i32()[r] / 1000.0;
      write_halves(uniform, op.uniforms.i32() + 2 * r);
    }
    if (n_rows > 6) op.temperatures.f32()[4] = 0.0f;
    return op;
  });
}

// Every third token is there already; of the others some are drawn, some the likeliest, some neither.
void add_feed_tokens(Table& table, int64_t n_rows, int64_t n_top, bool has_drawn) {
  const std::string name = fmt::format("feed_tokens {} {}{}", n_rows, n_top, has_drawn ? " drawn" : "");
  table.add(name, [=](CaseMaker& maker) -> Op {
    const int64_t n_drawn = n_rows / 2 + 1;
    const auto tokens_or_none = [&](std::initializer_list<int64_t> dims) {
      const Tensor tokens = maker.integers(dims, 1000);
      for (int64_t i = 0; i < tokens.n_elems(); i += 3) tokens.i32()[i] = -1;
      return tokens;
    };
    FeedTokens op{.top = tokens_or_none({n_drawn, n_top}),
                  .drawn = has_drawn ? tokens_or_none({n_drawn}) : Tensor(),
                  .tokens = maker.integers({n_rows}, static_cast<int32_t>(n_drawn))};
    for (int64_t i = 0; i < n_rows; ++i)
      if (i % 3 != 1) op.tokens.i32()[i] = ~op.tokens.i32()[i];
    return op;
  });
}

void add_logit_cases(Table& table) {
  for (const int64_t n_rows : {1, 7, 17}) {
    for (const int64_t n_vocab : {50, 1025, 20011}) {
      for (const int64_t n_top : {1, 2, 50}) add_top_logits(table, n_rows, n_vocab, n_top);
      for (const int64_t n_top : {1, 50}) add_draw_tokens(table, n_rows, n_vocab, n_top);
    }
  }
  for (const int64_t n_rows : {1, 7, 300}) {
    for (const bool has_drawn : {false, true}) add_feed_tokens(table, n_rows, has_drawn ? 1 : 5, has_drawn);
  }
  add_top_logits(table, 2, 1025, 1024);
  add_top_logits(table, 2, 20011, 1000);
  add_draw_tokens(table, 9, 20011, 1000);
}

}  // namespace

std::vector<OpCase> op_cases() {
  Table table;
  add_weight_cases(table);
  add_linear_options(table);
  add_row_cases(table);
  add_kv_cases(table);
  add_recurrent_cases(table);
  add_bidirectional_cases(table);
  for (const int64_t n_cols : {32, 577}) {
    add_mean_rows(table, {3}, {4}, n_cols);
    add_mean_rows(table, {0, 0, 39, 7, 7, 12}, {40, 1, 40, 24, 9, 15}, n_cols);
  }
  add_expert_cases(table);
  add_latent_cases(table);
  add_index_and_hyper_cases(table);
  add_entry_cases(table);
  add_logit_cases(table);
  return table.take();
}

// Llama 3 8B's layers, a small mixture, and histories of one and eight sequences.
std::vector<OpCase> op_bench_cases() {
  Table table;
  for (const int64_t n_rows : {1, 4, 8, 16, 128}) {
    for (const Dtype dtype : weight_types())
      add_linear(table, {.n_rows = n_rows, .n_in = 4096, .products = {{dtype, 14336}}});
  }
  for (const int64_t n_rows : {1, 8, 128}) {
    add_gated(table, {n_rows, 4096, 14336, Dtype::q4_k, Dtype::q4_k});
    add_linear(table, {n_rows, 4096, {{Dtype::q4_k, 4096}, {Dtype::q4_k, 1024}, {Dtype::q6_k, 1024}}});
    add_moe(table, {n_rows, 8, 64, 2048, 768, Dtype::q4_k});
    add_route(table, {.n_rows = n_rows, .n_experts = 128, .n_used = 8});
    add_norm(table, n_rows, 4096, 1e-5f);
    add_gate(table, n_rows, 4096, Activation::sigmoid);
    add_match_rms(table, n_rows, 2048, 2.0f);
    add_mix_streams(table, n_rows, 2048);
    for (const int64_t n_top : {1, 128}) {
      add_top_logits(table, n_rows, 151936, n_top);
      add_draw_tokens(table, n_rows, 151936, n_top);
    }
    add_feed_tokens(table, n_rows, 1, true);
  }
  const KvCase kv{.seqs = {{4095, 1}}, .n_heads = 32, .n_kv_heads = 8, .head_dim = 128, .v_head_dim = 128};
  KvCase many = kv;
  many.seqs.assign(8, {4095, 1});
  KvCase prompt = kv;
  prompt.seqs = {{512, 128}};
  for (const KvCase& c : {kv, many, prompt}) {
    add_attention(table, c);
    add_rope(table, c, {.n_rotary = 128});
  }
  KvCase whole_prompt = kv;
  whole_prompt.seqs = {{0, 2048}};
  add_attention(table, whole_prompt);
  for (const int64_t head_dim : {64, 128})
    add_attention(table, {.seqs = {{1536, 512}},
                          .n_heads = 32,
                          .n_kv_heads = 8,
                          .head_dim = head_dim,
                          .v_head_dim = head_dim});
  // DeepSeek-V2-Lite: its latents, and the keys and values that they expand to.
  for (const KvCase& c : {kv, prompt}) {
    add_latent(table, {.seqs = c.seqs, .n_heads = 16, .n_kv_heads = 1, .head_dim = 576, .v_head_dim = 512},
               64);
    add_attention(table,
                  {.seqs = c.seqs, .n_heads = 16, .n_kv_heads = 16, .head_dim = 192, .v_head_dim = 128});
    add_head_linear(table, {.n_rows = c.seqs[0].n_rows,
                            .n_heads = 16,
                            .n_in = 128,
                            .n_out = 512,
                            .dtype = Dtype::q8_0,
                            .n_carried = 64});
  }
  // Qwen3-Next's layers.
  for (const std::vector<SeqRows>& seqs :
       {std::vector<SeqRows>{{4095, 1}}, std::vector<SeqRows>(8, {4095, 1}),
        std::vector<SeqRows>{{0, 128}}}) {
    add_conv(table, seqs, 8192, 4);
    add_rule(table, {.seqs = seqs, .n_k_heads = 16, .n_v_heads = 32, .k_head_dim = 128, .v_head_dim = 128});
  }
  add_bidirectional(table, {.seqs = std::vector<SeqRows>(8, {0, 64}), .n_heads = 12, .n_kv_heads = 12});
  add_bidirectional(table, {.seqs = {{0, 512}}, .n_heads = 12, .n_kv_heads = 12});
  add_mean_rows(table, {0, 8, 16, 24, 32}, {8, 16, 24, 32, 40}, 1024);
  return table.take();
}

}  // namespace millrace
