// What every backend may rely on: the operands of an op have the shapes and types that its struct states.
#pragma once

#include <span>

#include "backend/ops.h"

namespace millrace {

// Aborts and names the operand, its shape and the expected one where they differ: always a bug of the caller.
// Looks at shapes only, never at elements. Cheap: a few comparisons an operand.
void check_shapes(const Op& op);

// The types that pages may have. Rows of the quantised ones are whole blocks.
std::span<const Dtype> page_types();

}  // namespace millrace
