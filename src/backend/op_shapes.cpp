#include "backend/op_shapes.h"

#include <fmt/format.h>  // join

#include <algorithm>

#include "backend/op_operands.h"

namespace millrace {
namespace {

enum class Kind { activation, vector, integer, weight, page };

bool is_of_kind(Dtype dtype, Kind kind) {
  switch (kind) {
    case Kind::activation:
    case Kind::vector:
      return dtype == Dtype::f32;
    case Kind::integer:
      return dtype == Dtype::i32;
    case Kind::weight:
      return dtype != Dtype::i32;
    case Kind::page:
      return std::ranges::find(page_types(), dtype) != page_types().end();
  }
  return false;
}

// The rules of one op; every rule that fails aborts.
class Rules {
 public:
  explicit Rules(const Op& op) : op_(op) {}

  void expect(const Tensor& tensor, const char* operand, Kind kind,
              std::initializer_list<int64_t> dims) const {
    const bool is_whole = kind != Kind::page || tensor.n_cols() % format_of(tensor.dtype).block_elems == 0;
    const bool is_shape = tensor.n_dims == static_cast<int>(dims.size()) &&
                          std::equal(dims.begin(), dims.end(), tensor.shape.begin());
    if (!is_shape || !is_whole || !is_of_kind(tensor.dtype, kind)) refuse(operand, dims);
  }
  void expect_optional(const Tensor& tensor, const char* operand, Kind kind,
                       std::initializer_list<int64_t> dims) const {
    if (tensor) expect(tensor, operand, kind, dims);
  }
  void require(bool ok, const char* rule) const {
    if (!ok) check(false, fmt::format("{}: {}", rule, describe(op_)).c_str());
  }

 private:
  [[gnu::cold]] void refuse(const char* operand, std::initializer_list<int64_t> dims) const {
    check(false, fmt::format("operand {} should have the shape ({}) and a type the op takes: {}", operand,
                             fmt::join(dims, ", "), describe(op_))
                     .c_str());
  }

  const Op& op_;
};

void check_op(const Embed& op, const Rules& rules) {
  const int64_t n_rows = op.out.dim(0);
  const int64_t hidden = op.out.n_cols();
  rules.expect(op.tokens, "tokens", Kind::integer, {n_rows});
  const int64_t block = format_of(op.table.dtype).block_elems;
  rules.expect(op.table, "table", Kind::weight, {op.table.dim(0), op.table.dim(1)});
  if (op.out.n_dims == 3) {
    rules.expect(op.out, "out", Kind::activation, {n_rows, op.out.dim(1), hidden});
  } else {
    rules.expect(op.out, "out", Kind::activation, {n_rows, hidden});
  }
  rules.require(op.first_col >= 0 && op.first_col + hidden <= op.table.dim(1), "columns of the table");
  // A row may end inside of a block, and then a part of it that goes to the end does too.
  rules.require(
      op.first_col % block == 0 && (hidden % block == 0 || op.first_col + hidden == op.table.dim(1)),
      "whole blocks of the table");
}

void check_op(const Linear& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n_in = op.x.dim(1);
  rules.require(op.n_products >= 1 && op.n_products <= 3, "a linear has 1 to 3 products");
  rules.expect(op.x, "x", Kind::activation, {n_rows, n_in});
  for (const Product& product : std::span(op.products, static_cast<size_t>(op.n_products))) {
    const int64_t n_out = product.weight.dim(0);
    rules.expect(product.weight, "weight", Kind::weight, {n_out, n_in});
    rules.expect_optional(product.bias, "bias", Kind::vector, {n_out});
    rules.expect(product.out, "out", Kind::activation, {n_rows, n_out});
  }
}

void check_op(const HeadLinear& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n_heads = op.weight.dim(0);
  const int64_t n_out = op.weight.dim(1);
  const int64_t n_carried = op.out.dim(2) - n_out;
  rules.require(n_carried >= 0, "a head of out is at least as wide as its product");
  rules.require(op.x.dim(2) >= op.weight.dim(2) + n_carried, "x has what is multiplied and carried");
  rules.expect(op.x, "x", Kind::activation, {n_rows, op.x.dim(1) == 1 ? 1 : n_heads, op.x.dim(2)});
  rules.expect(op.weight, "weight", Kind::weight, {n_heads, n_out, op.weight.dim(2)});
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_heads, op.out.dim(2)});
  rules.require(op.out.data != op.x.data || n_rows == 0, "a product of heads needs an out of its own");
}

void check_op(const LinearGated& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n_in = op.x.dim(1);
  const int64_t n_out = op.gate.dim(0);
  rules.expect(op.x, "x", Kind::activation, {n_rows, n_in});
  rules.expect(op.gate, "gate", Kind::weight, {n_out, n_in});
  rules.expect(op.up, "up", Kind::weight, {n_out, n_in});
  rules.expect_optional(op.gate_bias, "gate_bias", Kind::vector, {n_out});
  rules.expect_optional(op.up_bias, "up_bias", Kind::vector, {n_out});
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_out});
}

void check_op(const Gate& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n_cols = op.x.dim(1);
  if (op.gate.n_dims == 1) {
    rules.expect(op.gate, "gate", Kind::vector, {n_cols});
  } else {
    rules.expect(op.gate, "gate", Kind::activation, {n_rows, n_cols});
  }
  rules.expect(op.x, "x", Kind::activation, {n_rows, n_cols});
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_cols});
}

void check_op(const Norm& op, const Rules& rules) {
  const bool has_heads = op.x.n_dims == 3;
  const int64_t n_rows = op.x.dim(0);
  const int64_t n_heads = has_heads ? op.x.dim(1) : 1;
  const int64_t n_cols = op.x.n_cols();
  const auto expect_like_x = [&](const Tensor& tensor, const char* operand) {
    if (has_heads) return rules.expect_optional(tensor, operand, Kind::activation, {n_rows, n_heads, n_cols});
    rules.expect_optional(tensor, operand, Kind::activation, {n_rows, n_cols});
  };
  const auto expect_vector = [&](const Tensor& tensor, const char* operand) {
    if (tensor.n_dims == 2) return rules.expect(tensor, operand, Kind::vector, {n_heads, n_cols});
    rules.expect_optional(tensor, operand, Kind::vector, {n_cols});
  };
  expect_like_x(op.x, "x");
  expect_like_x(op.add, "add");
  expect_vector(op.weight, "weight");
  expect_vector(op.bias, "bias");
  expect_like_x(op.out, "out");
  rules.require(op.x && op.out, "a norm has an x and an out");
  rules.require(!op.bias || op.bias.n_dims == op.weight.n_dims, "a bias has the shape of the weight");
  rules.require(!op.add || op.out.data != op.x.data || n_rows == 0,
                "a norm that adds needs an out of its own");
}

void check_op(const Add& op, const Rules& rules) {
  rules.expect(op.x, "x", Kind::activation, {op.x.dim(0), op.x.dim(1)});
  rules.expect(op.y, "y", Kind::activation, {op.x.dim(0), op.x.dim(1)});
}

void check_op(const MatchRms& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n_cols = op.x.dim(1);
  rules.expect(op.x, "x", Kind::activation, {n_rows, n_cols});
  rules.expect(op.like, "like", Kind::activation, {n_rows, n_cols});
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_cols});
}

void check_op(const MixStreams& op, const Rules& rules) {
  const auto is_count = [](int n) { return n >= 1 && n <= MixStreams::kMaxStreams; };
  rules.require(is_count(op.n_streams) && is_count(op.n_inputs), "1 to 4 streams and inputs");
  const int64_t n_rows = op.x[0].dim(0);
  const int64_t n_cols = op.x[0].dim(1);
  rules.expect(op.weights, "weights", Kind::activation, {n_rows, int64_t{op.n_streams} * op.n_inputs});
  for (int j = 0; j < op.n_inputs; ++j) rules.expect(op.y[j], "y", Kind::activation, {n_rows, n_cols});
  for (int i = 0; i < op.n_streams; ++i) {
    rules.expect(op.x[i], "x", Kind::activation, {n_rows, n_cols});
    rules.expect(op.out[i], "out", Kind::activation, {n_rows, n_cols});
    for (int j = 0; j < op.n_inputs; ++j)
      rules.require(op.out[i].data != op.y[j].data || n_rows == 0, "no stream is written that is an input");
  }
}

void check_batch(const Batch& batch, const Rules& rules) {
  rules.expect(batch.tokens, "batch.tokens", Kind::integer, {batch.n_rows()});
  rules.expect(batch.positions, "batch.positions", Kind::integer, {batch.n_rows()});
  rules.expect(batch.seq_of_row, "batch.seq_of_row", Kind::integer, {batch.n_rows()});
  rules.expect(batch.row_begin, "batch.row_begin", Kind::integer, {batch.n_seqs() + 1});
  rules.expect(batch.page_tables, "batch.page_tables", Kind::integer,
               {batch.n_seqs(), batch.page_tables.dim(1)});
  rules.expect_optional(batch.entry_tables, "batch.entry_tables", Kind::integer,
                        {batch.n_seqs(), batch.page_tables.dim(1)});
  rules.expect(batch.rope_tables, "batch.rope_tables", Kind::integer, {batch.n_seqs()});
}

void check_pages(const Tensor& k_pages, const Tensor& v_pages, const Rules& rules) {
  const int64_t n_pages = k_pages.dim(0);
  const int64_t n_kv_heads = k_pages.dim(1);
  const int64_t page_size = k_pages.dim(2);
  rules.expect(k_pages, "k_pages", Kind::page, {n_pages, n_kv_heads, page_size, k_pages.dim(3)});
  rules.expect_optional(v_pages, "v_pages", Kind::page, {n_pages, n_kv_heads, page_size, v_pages.dim(3)});
  rules.require(!v_pages || k_pages.dtype == v_pages.dtype, "k and v are stored in one type");
}

void check_op(const RopeStoreKv& op, const Rules& rules) {
  const int64_t n_rows = op.batch.n_rows();
  const int64_t head_dim = op.q.dim(2);
  check_batch(op.batch, rules);
  rules.expect(op.q, "q", Kind::activation, {n_rows, op.q.dim(1), head_dim});
  rules.require((op.k || !op.k_pages) && (op.k_pages || !op.v_pages),
                "v is stored beside k, or nothing is stored");
  rules.require(static_cast<bool>(op.v) == static_cast<bool>(op.v_pages), "v goes to pages of its own");
  const int64_t n_kv_heads = op.k.dim(1);
  rules.expect_optional(op.k, "k", Kind::activation, {n_rows, n_kv_heads, head_dim});
  rules.expect_optional(op.v, "v", Kind::activation, {n_rows, n_kv_heads, op.v_pages.dim(3)});
  if (op.k_pages) {
    check_pages(op.k_pages, op.v_pages, rules);
    rules.require(op.k_pages.dim(1) == n_kv_heads && op.k_pages.dim(3) == head_dim,
                  "pages for the heads of k");
  }
  rules.expect_optional(op.q_norm, "q_norm", Kind::vector, {op.q_norm.dim(0)});
  rules.expect_optional(op.k_norm, "k_norm", Kind::vector, {op.k_norm.dim(0)});
  rules.require(op.q_norm.n_elems() <= head_dim && op.k_norm.n_elems() <= head_dim,
                "a norm of at most head_dim");
  const Tensor& inv_freq = op.rope.inv_freq;
  rules.expect_optional(inv_freq, "inv_freq", Kind::vector, {inv_freq.dim(0), inv_freq.dim(1)});
  rules.require(!inv_freq || (inv_freq.dim(0) <= 2 && op.rope_begin >= 0 &&
                              op.rope_begin + 2 * inv_freq.dim(1) <= head_dim),
                "at most two rope tables, whose pairs lie within the head");
}

void check_op(const PagedAttention& op, const Rules& rules) {
  const int64_t n_rows = op.batch.n_rows();
  const int64_t n_heads = op.q.dim(1);
  check_batch(op.batch, rules);
  check_pages(op.k_pages, op.v_pages, rules);
  rules.expect(op.q, "q", Kind::activation, {n_rows, n_heads, op.k_pages.dim(3)});
  rules.expect_optional(op.sinks, "sinks", Kind::vector, {n_heads});
  const int64_t v_head_dim = op.v_pages ? op.v_pages.dim(3) : op.out.dim(2);
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_heads, v_head_dim});
  rules.require(op.v_pages || v_head_dim <= op.k_pages.dim(3), "a value within the key");
  rules.expect_optional(op.selected, "selected", Kind::integer, {n_rows, op.selected.dim(1)});
  rules.require(!op.selected || op.entry_pages || (op.window == 0 && op.chunk == 0),
                "a selection of positions has no window besides");
  rules.expect_optional(op.entry_pages, "entry_pages", Kind::page,
                        {op.entry_pages.dim(0), 1, op.entry_pages.dim(2), op.k_pages.dim(3)});
  rules.require(!op.entry_pages || (op.k_pages.dim(1) == 1 && !op.v_pages && op.entry_stride > 1 &&
                                    op.entry_pages.dtype == op.k_pages.dtype),
                "entries stand beside one head of keys that are values too");
  rules.require(n_heads % op.k_pages.dim(1) == 0, "every key-value head serves as many query heads");
}

void check_op(const SelectPositions& op, const Rules& rules) {
  const int64_t n_rows = op.batch.n_rows();
  const int64_t n_heads = op.q.dim(1);
  const int64_t head_dim = op.k_pages.dim(3);
  check_batch(op.batch, rules);
  rules.expect(op.k_pages, "k_pages", Kind::page, {op.k_pages.dim(0), 1, op.k_pages.dim(2), head_dim});
  rules.expect(op.q, "q", Kind::activation, {n_rows, n_heads, head_dim});
  rules.expect(op.weights, "weights", Kind::activation, {n_rows, n_heads});
  rules.expect(op.selected, "selected", Kind::integer, {n_rows, op.selected.dim(1)});
  rules.require(op.selected.dim(1) >= 1, "a row selects at least one position");
  rules.require(op.entry_stride == 1 || op.page_size > 0, "entries know how long a page is");
  rules.require(!op.expands || (op.entry_stride > 1 && op.selected.dim(1) >= op.entry_stride &&
                                (op.selected.dim(1) + 1) % op.entry_stride == 0),
                "room for whole runs of positions and for one that is not whole");
}

void check_op(const CompressKv& op, const Rules& rules) {
  const int64_t n_rows = op.batch.n_rows();
  const int64_t width = op.kv.dim(1);
  const int64_t head_dim = op.entry_pages.dim(3);
  const int64_t stride = op.bias.dim(0);
  const int64_t page_size = op.row_pages.dim(2);
  check_batch(op.batch, rules);
  rules.expect(op.kv, "kv", Kind::activation, {n_rows, width});
  rules.expect(op.gate, "gate", Kind::activation, {n_rows, width});
  rules.expect(op.bias, "bias", Kind::weight, {stride, width});
  rules.expect_optional(op.norm, "norm", Kind::vector, {head_dim});
  rules.expect(op.row_pages, "row_pages", Kind::page, {op.row_pages.dim(0), 1, page_size, 2 * width});
  rules.expect(op.entry_pages, "entry_pages", Kind::page,
               {op.entry_pages.dim(0), 1, std::max<int64_t>(1, page_size / stride), head_dim});
  rules.require(width == head_dim || width == 2 * head_dim, "rows are as wide as an entry, or twice");
  rules.require(page_size % stride == 0 || stride % page_size == 0,
                "a stride divides pages, or is whole pages");
  const Tensor& inv_freq = op.rope.inv_freq;
  rules.expect_optional(inv_freq, "inv_freq", Kind::vector, {1, inv_freq.dim(1)});
  rules.require(!inv_freq || (op.rope.pairing == RopePairing::adjacent &&
                              op.rope_begin + 2 * inv_freq.dim(1) <= head_dim),
                "adjacent pairs within the head");
}

void check_op(const Route& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n_experts = op.weight.dim(0);
  const int64_t n_used = op.experts.dim(1);
  rules.expect(op.x, "x", Kind::activation, {n_rows, op.x.dim(1)});
  rules.expect(op.weight, "weight", Kind::weight, {n_experts, op.x.dim(1)});
  rules.expect_optional(op.bias, "bias", Kind::vector, {n_experts});
  rules.expect_optional(op.select_bias, "select_bias", Kind::vector, {n_experts});
  rules.expect_optional(op.expert_scale, "expert_scale", Kind::vector, {n_experts});
  rules.expect_optional(op.tokens, "tokens", Kind::integer, {n_rows});
  rules.expect_optional(op.table, "table", Kind::integer, {op.table.dim(0), n_used});
  rules.require(static_cast<bool>(op.tokens) == static_cast<bool>(op.table), "tokens look up a table");
  rules.expect(op.experts, "experts", Kind::integer, {n_rows, n_used});
  rules.expect(op.weights, "weights", Kind::vector, {n_rows, n_used});
  rules.require(op.n_groups >= 1 && n_experts % op.n_groups == 0, "groups are of one length");
  rules.require(op.n_groups_used >= 1 && op.n_groups_used <= op.n_groups, "1 to n_groups groups are used");
  rules.require(op.n_groups == 1 || op.group_score == GroupScore::max || n_experts / op.n_groups >= 2,
                "a group has the two experts that are added");
  rules.require(n_used >= 1 && n_used <= n_experts / op.n_groups * op.n_groups_used,
                "a row uses 1 to all experts of its groups");
}

void check_op(const MoeGated& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t hidden = op.x.dim(1);
  const int64_t n_used = op.experts.dim(1);
  const int64_t n_experts = op.gate.dim(0);
  const int64_t n_ff = op.out.n_cols();
  rules.expect(op.x, "x", Kind::activation, {n_rows, hidden});
  rules.expect(op.experts, "experts", Kind::integer, {n_rows, n_used});
  rules.expect_optional(op.weights, "weights", Kind::vector, {n_rows, n_used});
  rules.expect(op.gate, "gate", Kind::weight, {n_experts, op.up ? n_ff : 2 * n_ff, hidden});
  rules.expect_optional(op.up, "up", Kind::weight, {n_experts, n_ff, hidden});
  rules.expect_optional(op.gate_bias, "gate_bias", Kind::vector, {n_experts, n_ff});
  rules.expect_optional(op.up_bias, "up_bias", Kind::vector, {n_experts, n_ff});
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_used, n_ff});
}

void check_op(const MoeDown& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n_used = op.x.dim(1);
  const int64_t n_ff = op.x.dim(2);
  const int64_t hidden = op.down.dim(1);
  rules.expect(op.x, "x", Kind::activation, {n_rows, n_used, n_ff});
  rules.expect(op.experts, "experts", Kind::integer, {n_rows, n_used});
  rules.expect_optional(op.weights, "weights", Kind::vector, {n_rows, n_used});
  rules.expect(op.down, "down", Kind::weight, {op.down.dim(0), hidden, n_ff});
  rules.expect_optional(op.bias, "bias", Kind::vector, {op.down.dim(0), hidden});
  rules.expect(op.out, "out", Kind::activation, {n_rows, hidden});
}

void check_op(const HyperCollapse& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n = op.x.dim(1);
  const int64_t n_mix = op.post ? n * (2 + n) : n;
  rules.expect(op.x, "x", Kind::activation, {n_rows, n, op.x.dim(2)});
  rules.expect_optional(op.mix, "mix", Kind::activation, {n_rows, n_mix});
  rules.expect_optional(op.base, "base", Kind::vector, {n_mix});
  rules.expect_optional(op.scale, "scale", Kind::vector, {op.post ? 3 : 1});
  rules.expect(op.out, "out", Kind::activation, {n_rows, op.x.dim(2)});
  rules.expect_optional(op.post, "post", Kind::activation, {n_rows, n});
  rules.expect_optional(op.comb, "comb", Kind::activation, {n_rows, n, n});
  rules.require(static_cast<bool>(op.post) == static_cast<bool>(op.comb), "post and comb come together");
  rules.require(op.mix ? op.base && op.scale : !op.base && !op.scale && !op.post,
                "weights are made of mix, base and scale");
}

void check_op(const HyperExpand& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  const int64_t n = op.x.dim(1);
  rules.expect(op.x, "x", Kind::activation, {n_rows, n, op.x.dim(2)});
  rules.expect(op.branch, "branch", Kind::activation, {n_rows, op.x.dim(2)});
  rules.expect(op.post, "post", Kind::activation, {n_rows, n});
  rules.expect(op.comb, "comb", Kind::activation, {n_rows, n, n});
}

void check_op(const Split& op, const Rules& rules) {
  const int64_t n_rows = op.x.dim(0);
  rules.expect(op.x, "x", Kind::activation, {n_rows, op.first.dim(1) + op.second.dim(1)});
  rules.expect(op.first, "first", Kind::activation, {n_rows, op.first.dim(1)});
  rules.expect(op.second, "second", Kind::activation, {n_rows, op.second.dim(1)});
}

void check_slots(const Batch& batch, const Rules& rules) {
  check_batch(batch, rules);
  rules.expect(batch.state_from, "batch.state_from", Kind::integer, {batch.n_seqs()});
  rules.expect(batch.state_to, "batch.state_to", Kind::integer, {batch.n_seqs()});
}

void check_op(const CausalConv& op, const Rules& rules) {
  const int64_t n_rows = op.batch.n_rows();
  const int64_t n_channels = op.x.dim(1);
  const int64_t n_taps = op.weight.dim(1);
  check_slots(op.batch, rules);
  rules.expect(op.x, "x", Kind::activation, {n_rows, n_channels});
  rules.expect(op.weight, "weight", Kind::vector, {n_channels, n_taps});
  rules.expect(op.state, "state", Kind::vector, {op.state.dim(0), n_taps - 1, n_channels});
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_channels});
  rules.require(n_taps >= 2, "a convolution over time has at least two taps");
}

void check_op(const GatedDeltaRule& op, const Rules& rules) {
  const int64_t n_rows = op.batch.n_rows();
  const int64_t n_k_heads = op.k.dim(1);
  const int64_t k_head_dim = op.k.dim(2);
  const int64_t n_v_heads = op.v.dim(1);
  const int64_t v_head_dim = op.v.dim(2);
  const int64_t n_decays = op.decay.dim(2);
  check_slots(op.batch, rules);
  rules.expect(op.q, "q", Kind::activation, {n_rows, n_k_heads, k_head_dim});
  rules.expect(op.k, "k", Kind::activation, {n_rows, n_k_heads, k_head_dim});
  rules.expect(op.v, "v", Kind::activation, {n_rows, n_v_heads, v_head_dim});
  rules.expect(op.beta, "beta", Kind::activation, {n_rows, n_v_heads});
  rules.expect(op.decay, "decay", Kind::activation, {n_rows, n_v_heads, n_decays});
  rules.expect(op.decay_bias, "decay_bias", Kind::vector, {n_v_heads, n_decays});
  rules.expect(op.rate, "rate", Kind::vector, {n_v_heads});
  rules.expect(op.state, "state", Kind::vector, {op.state.dim(0), n_v_heads, k_head_dim, v_head_dim});
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_v_heads, v_head_dim});
  rules.require(n_decays == 1 || n_decays == k_head_dim, "a decay is of a head or of each key dimension");
  rules.require(n_v_heads % n_k_heads == 0, "every key head serves as many value heads");
}

void check_op(const GatherRows& op, const Rules& rules) {
  const int64_t n_cols = op.x.dim(1);
  rules.expect(op.x, "x", Kind::activation, {op.x.dim(0), n_cols});
  rules.expect(op.rows, "rows", Kind::integer, {op.rows.dim(0)});
  rules.expect(op.out, "out", Kind::activation, {op.rows.dim(0), n_cols});
}

void check_op(const BidirectionalAttention& op, const Rules& rules) {
  const int64_t n_rows = op.batch.n_rows();
  const int64_t n_heads = op.q.dim(1);
  const int64_t n_kv_heads = op.k.dim(1);
  check_batch(op.batch, rules);
  rules.expect(op.q, "q", Kind::activation, {n_rows, n_heads, op.k.dim(2)});
  rules.expect(op.k, "k", Kind::activation, {n_rows, n_kv_heads, op.k.dim(2)});
  rules.expect(op.v, "v", Kind::activation, {n_rows, n_kv_heads, op.v.dim(2)});
  rules.expect(op.out, "out", Kind::activation, {n_rows, n_heads, op.v.dim(2)});
  rules.require(n_heads % n_kv_heads == 0, "every key-value head serves as many query heads");
}

void check_op(const MeanRows& op, const Rules& rules) {
  const int64_t n_out = op.out.dim(0);
  rules.expect(op.x, "x", Kind::activation, {op.x.dim(0), op.x.dim(1)});
  rules.expect(op.begin, "begin", Kind::integer, {n_out});
  rules.expect(op.end, "end", Kind::integer, {n_out});
  rules.expect(op.out, "out", Kind::activation, {n_out, op.x.dim(1)});
}

void check_op(const TopLogits& op, const Rules& rules) {
  const int64_t n_rows = op.logits.dim(0), n_top = op.top.dim(1);
  rules.expect(op.logits, "logits", Kind::activation, {n_rows, op.logits.dim(1)});
  rules.expect(op.tokens, "tokens", Kind::integer, {n_rows, n_top});
  rules.expect(op.top, "top", Kind::activation, {n_rows, n_top});
  rules.require(n_top >= 1 && n_top <= std::min(op.logits.dim(1), TopLogits::kMost),
                "as many tokens as there are, and as an op gives");
}

void check_op(const DrawTokens& op, const Rules& rules) {
  const int64_t n_rows = op.logits.dim(0), n_top = op.top.dim(1);
  rules.expect(op.logits, "logits", Kind::activation, {n_rows, op.logits.dim(1)});
  rules.expect(op.top_tokens, "top_tokens", Kind::integer, {n_rows, n_top});
  rules.expect(op.top, "top", Kind::activation, {n_rows, n_top});
  rules.require(n_top >= 1 && n_top <= TopLogits::kMost, "as many tokens as an op gives");
  rules.expect(op.temperatures, "temperatures", Kind::activation, {n_rows});
  rules.expect(op.truncations, "truncations", Kind::activation, {n_rows, 3});
  rules.expect(op.uniforms, "uniforms", Kind::integer, {n_rows, 2});
  rules.expect(op.tokens, "tokens", Kind::integer, {n_rows});
  rules.expect(op.sums, "sums", Kind::integer, {n_rows, 2});
}

void check_op(const FeedTokens& op, const Rules& rules) {
  rules.expect(op.top, "top", Kind::integer, {op.top.dim(0), op.top.dim(1)});
  rules.expect_optional(op.drawn, "drawn", Kind::integer, {op.top.dim(0)});
  rules.expect(op.tokens, "tokens", Kind::integer, {op.tokens.dim(0)});
}

}  // namespace

std::span<const Dtype> page_types() {
  static constexpr Dtype kTypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16, Dtype::q8_0, Dtype::q4_0};
  return kTypes;
}

void check_shapes(const Op& op) {
  std::visit([rules = Rules(op)](const auto& each) { check_op(each, rules); }, op);
}

}  // namespace millrace
