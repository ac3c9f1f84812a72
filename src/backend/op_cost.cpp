#include "backend/op_cost.h"

#include <algorithm>
#include <set>

#include "backend/op_operands.h"

namespace millrace {
namespace {

// --- what attention sees -------------------------------------------------------------------------------

struct Visible {
  int64_t n_positions = 0;  // keys to read, summed over sequences
  int64_t n_pairs = 0;      // row and position, summed over rows
};

// With entries a selection is one of entries, not of positions.
bool selects_positions(const PagedAttention& op) { return op.selected && !op.entry_pages; }

Visible most_visible(const PagedAttention& op) {
  const int64_t n_rows = op.batch.n_rows();
  const int64_t n_held = op.batch.page_tables.dim(1) * op.k_pages.dim(2);
  int64_t n_seen = n_held;
  if (op.window > 0) n_seen = std::min<int64_t>(n_seen, op.window);
  if (op.chunk > 0) n_seen = std::min<int64_t>(n_seen, op.chunk);
  if (selects_positions(op)) {  // every row may have others
    n_seen = std::min(n_seen, op.selected.dim(1));
    return {.n_positions = n_rows * n_seen, .n_pairs = n_rows * n_seen};
  }
  const int64_t n_read = std::min(n_held, n_seen + n_rows - 1);
  return {.n_positions = op.batch.n_seqs() * n_read, .n_pairs = n_rows * n_seen};
}

Visible visible(const PagedAttention& op, Elements elements) {
  if (elements == Elements::unknown) return most_visible(op);
  const int32_t* positions = op.batch.positions.i32();
  const int32_t* row_begin = op.batch.row_begin.i32();
  const auto n_seen = [&](int64_t position) {
    int64_t n = op.chunk > 0 ? position % op.chunk + 1 : position + 1;
    if (op.window > 0) n = std::min<int64_t>(n, op.window);
    if (selects_positions(op)) n = std::min(n, op.selected.dim(1));
    return n;
  };
  Visible visible;
  for (int64_t s = 0; s < op.batch.n_seqs(); ++s) {
    if (row_begin[s] == row_begin[s + 1]) continue;
    const int64_t first = positions[row_begin[s]];
    const int64_t last = positions[row_begin[s + 1] - 1];
    visible.n_positions += last - first + n_seen(first);
    for (int32_t r = row_begin[s]; r < row_begin[s + 1]; ++r) visible.n_pairs += n_seen(positions[r]);
  }
  if (selects_positions(op)) visible.n_positions = visible.n_pairs;  // every row has others
  return visible;
}

// The same of entries that stand for runs of positions.
Visible visible_entries(const PagedAttention& op, Elements elements) {
  if (!op.entry_pages) return {};
  const auto n_seen = [&](int64_t n) { return op.selected ? std::min(n, op.selected.dim(1)) : n; };
  Visible visible;
  if (elements == Elements::unknown) {
    const int64_t n_held = op.batch.page_tables.dim(1) * op.entry_pages.dim(2);
    visible = {.n_positions = op.batch.n_seqs() * n_held, .n_pairs = op.batch.n_rows() * n_seen(n_held)};
  } else {
    const int32_t* row_begin = op.batch.row_begin.i32();
    for (int64_t s = 0; s < op.batch.n_seqs(); ++s) {
      int64_t n_whole = 0;  // runs before the row's end
      for (int32_t r = row_begin[s]; r < row_begin[s + 1]; ++r) {
        n_whole = (op.batch.positions.i32()[r] + 1) / op.entry_stride;
        visible.n_pairs += n_seen(n_whole);
      }
      visible.n_positions += n_whole;
    }
  }
  if (op.selected) visible.n_positions = visible.n_pairs;  // every row has others
  return visible;
}

// Positions, or entries that stand for some, which an indexer scores, summed over rows.
int64_t n_scored(const SelectPositions& op, Elements elements) {
  const int64_t n_rows = op.batch.n_rows();
  if (elements == Elements::unknown) return n_rows * op.batch.page_tables.dim(1) * op.k_pages.dim(2);
  int64_t n = 0;
  for (int64_t r = 0; r < n_rows; ++r) n += (op.batch.positions.i32()[r] + 1) / op.entry_stride;
  return n;
}

// Row and position, summed over rows.
int64_t n_pairs(const BidirectionalAttention& op, Elements elements) {
  const auto n_seen = [&](int64_t n) { return op.reach > 0 ? std::min<int64_t>(n, 2 * op.reach + 1) : n; };
  if (elements == Elements::unknown) return op.batch.n_rows() * n_seen(op.batch.n_rows());
  int64_t n = 0;
  for (int64_t s = 0; s < op.batch.n_seqs(); ++s) {
    const int64_t n_rows = op.batch.row_begin.i32()[s + 1] - op.batch.row_begin.i32()[s];
    n += n_rows * n_seen(n_rows);
  }
  return n;
}

int64_t n_experts_used(const Tensor& experts, int64_t n_experts, Elements elements) {
  if (elements == Elements::unknown) return std::min(n_experts, experts.n_elems());
  return static_cast<int64_t>(std::set<int32_t>(experts.i32(), experts.i32() + experts.n_elems()).size());
}

// --- bytes of an operand that the op touches -----------------------------------------------------------

template <class AnyOp>
int64_t touched_bytes(const AnyOp&, const Tensor& operand, Elements) {
  return operand.n_bytes();
}

int64_t touched_bytes(const Embed& op, const Tensor& operand, Elements) {
  return &operand == &op.table ? op.out.dim(0) * n_bytes_of(operand.dtype, op.out.dim(1)) : operand.n_bytes();
}

int64_t touched_bytes(const GatherRows& op, const Tensor& operand, Elements) {
  return &operand == &op.x ? op.out.n_bytes() : operand.n_bytes();
}

int64_t touched_bytes(const RopeStoreKv& op, const Tensor& operand, Elements) {
  const bool is_page = &operand == &op.k_pages || &operand == &op.v_pages;
  return is_page ? op.batch.n_rows() * operand.dim(1) * operand.row_bytes() : operand.n_bytes();
}

int64_t touched_bytes(const PagedAttention& op, const Tensor& operand, Elements elements) {
  if (&operand == &op.entry_pages) return visible_entries(op, elements).n_positions * operand.row_bytes();
  const bool is_page = &operand == &op.k_pages || &operand == &op.v_pages;
  if (!is_page) return operand.n_bytes();
  return visible(op, elements).n_positions * operand.dim(1) * operand.row_bytes();
}

int64_t touched_bytes(const SelectPositions& op, const Tensor& operand, Elements elements) {
  return &operand == &op.k_pages ? n_scored(op, elements) * operand.row_bytes() : operand.n_bytes();
}

// A state is read, and written again, once for each sequence.
int64_t touched_bytes(const CausalConv& op, const Tensor& operand, Elements) {
  if (&operand != &op.state) return operand.n_bytes();
  return operand.n_bytes() / operand.dim(0) * op.batch.n_seqs();
}

int64_t touched_bytes(const GatedDeltaRule& op, const Tensor& operand, Elements) {
  if (&operand != &op.state) return operand.n_bytes();
  return operand.n_bytes() / operand.dim(0) * op.batch.n_seqs();
}

int64_t used_bytes(const Tensor& weight, const Tensor& experts, Elements elements) {
  const int64_t n_experts = weight.dim(0);
  return weight.n_bytes() / n_experts * n_experts_used(experts, n_experts, elements);
}

int64_t touched_bytes(const MoeGated& op, const Tensor& operand, Elements elements) {
  const bool is_of_experts =
      &operand == &op.gate || &operand == &op.up || &operand == &op.gate_bias || &operand == &op.up_bias;
  return is_of_experts ? used_bytes(operand, op.experts, elements) : operand.n_bytes();
}

int64_t touched_bytes(const MoeDown& op, const Tensor& operand, Elements elements) {
  const bool is_of_experts = &operand == &op.down || &operand == &op.bias;
  return is_of_experts ? used_bytes(operand, op.experts, elements) : operand.n_bytes();
}

// --- arithmetic ----------------------------------------------------------------------------------------

template <class AnyOp>
int64_t flops(const AnyOp&, Elements) {
  return 0;
}

int64_t flops(const Linear& op, Elements) {
  int64_t n = 0;
  for (int i = 0; i < op.n_products; ++i) n += 2 * op.products[i].out.n_elems() * op.x.n_cols();
  return n;
}

int64_t flops(const HeadLinear& op, Elements) { return 2 * op.x.dim(0) * op.weight.n_elems(); }

int64_t flops(const LinearGated& op, Elements) { return 4 * op.out.n_elems() * op.x.n_cols(); }
int64_t flops(const Route& op, Elements) { return 2 * op.x.n_elems() * op.weight.dim(0); }
int64_t flops(const MoeGated& op, Elements) { return 4 * op.out.n_elems() * op.x.n_cols(); }
int64_t flops(const MoeDown& op, Elements) { return 2 * op.x.n_elems() * op.out.n_cols(); }

int64_t flops(const SelectPositions& op, Elements elements) {
  return 2 * n_scored(op, elements) * op.q.dim(1) * op.q.dim(2);
}

int64_t flops(const HyperCollapse& op, Elements) { return 2 * op.x.n_elems(); }
int64_t flops(const HyperExpand& op, Elements) { return 2 * op.x.n_elems() * (op.x.dim(1) + 1); }
int64_t flops(const CausalConv& op, Elements) { return 2 * op.out.n_elems() * op.weight.dim(1); }

// Decay, S^T k, the update and S^T q touch each element of S: one, two, two and two.
int64_t flops(const GatedDeltaRule& op, Elements) { return 7 * op.out.n_elems() * op.k.dim(2); }

int64_t flops(const PagedAttention& op, Elements elements) {
  const int64_t n_pairs = visible(op, elements).n_pairs + visible_entries(op, elements).n_pairs;
  return 2 * n_pairs * op.q.dim(1) * (op.q.dim(2) + op.out.dim(2));
}

int64_t flops(const BidirectionalAttention& op, Elements elements) {
  return 2 * n_pairs(op, elements) * op.q.dim(1) * (op.q.dim(2) + op.out.dim(2));
}

}  // namespace

OpCost& OpCost::operator+=(const OpCost& other) {
  read_bytes += other.read_bytes;
  written_bytes += other.written_bytes;
  flops += other.flops;
  return *this;
}

OpCost cost_of(const Op& op, Elements elements) {
  Op copy = op;  // operands_of points into it
  return std::visit(
      [&](const auto& each) {
        OpCost cost{.flops = flops(each, elements)};
        for (const Operand& operand : operands_of(copy)) {
          const int64_t n_bytes = touched_bytes(each, *operand.tensor, elements);
          const bool is_written_in_part = operand.access == Access::update && operand.extent == Extent::whole;
          if (operand.access != Access::write && !is_written_in_part) cost.read_bytes += n_bytes;
          if (operand.is_written()) cost.written_bytes += n_bytes;
        }
        return cost;
      },
      copy);
}

}  // namespace millrace
