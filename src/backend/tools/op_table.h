// What ops of each name cost, summed up.
#pragma once

#include <array>
#include <string>

#include "backend/op_cost.h"
#include "backend/op_operands.h"
#include "base/json.h"

namespace millrace {

struct OpTotals {
  int64_t n_ops = 0;
  OpCost cost;
  double seconds = 0;  // 0 where nothing was timed

  double gb_per_second() const;
  double gflops_per_second() const;
};

class OpTable {
 public:
  void add(const Op& op, const OpCost& cost, double seconds);

  // Of the ops of that name ("linear").
  const OpTotals& of(std::string_view name) const;
  OpTotals total() const;

  // One line a name that occurs, the slowest first, and the total: for people.
  std::string text() const;
  // {"linear": {"n_ops", "seconds", "read_bytes", "written_bytes", "flops", "gb_per_second",
  // "gflops_per_second"}, ..., "total": {...}}
  Json json() const;

 private:
  std::array<OpTotals, kNOps> totals_{};  // by the op's number in the variant
};

}  // namespace millrace
