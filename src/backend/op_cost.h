// What an op costs: the memory it must move and the arithmetic of its products.
#pragma once

#include "backend/ops.h"

namespace millrace {

struct OpCost {
  int64_t read_bytes = 0;
  int64_t written_bytes = 0;
  int64_t flops = 0;  // of products and sums of products, a multiplication and an addition each; nothing else

  OpCost& operator+=(const OpCost& other);
  bool operator==(const OpCost&) const = default;
};

// Whether positions and experts can be read, or are still to come (memory is being planned): then the cost is
// the most that any of their values can lead to.
enum class Elements { readable, unknown };

// Every operand counts once, with the part of it that the op touches: the rows of a table that are looked up,
// the pages of visible positions, the weights of experts that some row uses.
OpCost cost_of(const Op& op, Elements elements);

}  // namespace millrace
