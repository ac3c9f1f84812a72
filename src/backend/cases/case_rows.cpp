// Parts of a case: the same op over some of its rows, as another batch would hold them.
#include <algorithm>
#include <cstring>

#include "backend/cases/case_maker.h"
#include "backend/op_operands.h"

namespace millrace {
namespace {

// A tensor like `like`, of `n_rows` entries in its first dimension.
Tensor rows_like(const Tensor& like, int64_t n_rows, CaseMaker& maker) {
  switch (like.n_dims) {
    case 1:
      return maker.output(like.dtype, {n_rows});
    case 2:
      return maker.output(like.dtype, {n_rows, like.dim(1)});
    default:
      return maker.output(like.dtype, {n_rows, like.dim(1), like.dim(2)});
  }
}

void copy_entry(const Tensor& from, int64_t i, const Tensor& to, int64_t j) {
  const Tensor source = from.slice(i, i + 1);
  std::memcpy(to.slice(j, j + 1).data, source.data, static_cast<size_t>(source.n_bytes()));
}

Tensor gathered(const Tensor& whole, std::span<const int64_t> rows, CaseMaker& maker) {
  const Tensor part = rows_like(whole, static_cast<int64_t>(rows.size()), maker);
  for (size_t i = 0; i < rows.size(); ++i) copy_entry(whole, rows[i], part, static_cast<int64_t>(i));
  return part;
}

// The batch of those rows: it has the sequences of the rows and no others, in the order of the rows.
Batch select_batch(const Batch& whole, std::span<const int64_t> rows, CaseMaker& maker) {
  std::vector<int64_t> seqs;
  std::vector<int32_t> seq_of_row, row_begin, state_from;
  for (const int64_t row : rows) {
    const int64_t seq = whole.seq_of_row.i32()[row];
    if (seqs.empty() || seqs.back() != seq) {
      seqs.push_back(seq);
      row_begin.push_back(static_cast<int32_t>(seq_of_row.size()));
      // Its later rows go on from what its first ones have left.
      const bool is_first = row == whole.row_begin.i32()[seq];
      state_from.push_back((is_first ? whole.state_from : whole.state_to).i32()[seq]);
    }
    seq_of_row.push_back(static_cast<int32_t>(seqs.size()) - 1);
  }
  row_begin.push_back(static_cast<int32_t>(rows.size()));
  return {.tokens = gathered(whole.tokens, rows, maker),
          .positions = gathered(whole.positions, rows, maker),
          .seq_of_row = maker.list(seq_of_row),
          .row_begin = maker.list(row_begin),
          .page_tables = gathered(whole.page_tables, seqs, maker),
          .rope_tables = gathered(whole.rope_tables, seqs, maker),
          .state_from = maker.list(state_from),
          .state_to = gathered(whole.state_to, seqs, maker),
          .logit_rows = maker.list({})};
}

}  // namespace

int64_t n_rows_of(const Op& op) {
  Op copy = op;
  for (const Operand& operand : operands_of(copy)) {
    if (operand.extent == Extent::rows) return operand.tensor->dim(0);
  }
  return 0;
}

CaseOp select_rows(const CaseOp& whole, std::span<const int64_t> rows) {
  CaseMaker maker(0);
  Op part = whole.op;
  for (const Operand& operand : operands_of(part)) {
    if (operand.extent == Extent::rows) *operand.tensor = gathered(*operand.tensor, rows, maker);
  }
  if (Batch* batch = batch_of(part)) *batch = select_batch(*batch, rows, maker);
  return maker.finish(part);
}

void put_rows(const CaseOp& part, std::span<const int64_t> rows, CaseOp& whole) {
  Op part_op = part.op;
  const std::vector<Operand> from = operands_of(part_op);
  const std::vector<Operand> to = operands_of(whole.op);
  for (size_t k = 0; k < from.size(); ++k) {
    if (!from[k].is_written() || from[k].extent != Extent::rows) continue;
    for (size_t i = 0; i < rows.size(); ++i)
      copy_entry(*from[k].tensor, static_cast<int64_t>(i), *to[k].tensor, rows[i]);
  }
}

}  // namespace millrace
