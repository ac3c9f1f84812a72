// The table of cases that tests and times every op on every backend. One line of the table is one op with
// deterministic random operands, made afresh whenever it is asked for, so that two backends start from the
// same bits.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/ops.h"

namespace millrace {

struct FreeBytes {
  void operator()(std::byte* bytes) const { ::operator delete[](bytes, std::align_val_t{64}); }
};

// An op and the memory of its operands. Outputs hold NaN until the op has run, as do the page slots that no
// row may look at.
struct CaseOp {
  Op op;
  std::vector<std::unique_ptr<std::byte[], FreeBytes>> memory;
};

struct OpCase {
  std::string name;
  std::function<CaseOp()> make;  // the same bits at every call
  // The activations are whole numbers that 8-bit blocks hold exactly: quantised weights must then be
  // multiplied as exactly as float32 can.
  bool is_exact = false;
};

// Small and odd shapes, every option and every weight format, for tests.
std::vector<OpCase> op_cases();
// Shapes of real models, for benchmarks: a weight is larger than the caches.
std::vector<OpCase> op_bench_cases();

// Rows of the op of a case: from its first operand that has rows.
int64_t n_rows_of(const Op& op);
// The op of those rows alone, in that order, with copies of its row operands; everything else is shared with
// `whole`, which must outlive it. Rows of one sequence must be neighbours and ascending.
CaseOp select_rows(const CaseOp& whole, std::span<const int64_t> rows);
// Copies what `part`, which is select_rows(whole, rows), has written to those rows of `whole`.
void put_rows(const CaseOp& part, std::span<const int64_t> rows, CaseOp& whole);

}  // namespace millrace
