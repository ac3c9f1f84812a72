// How far the result of an op may lie from the reference's.
#pragma once

#include "backend/op_operands.h"

namespace millrace {

// rms(actual - expected) / rms(expected) over all elements of two tensors of one shape and type. Elements
// that are NaN in both count as equal; NaN in one of them gives infinity. Of integers: the share that
// differs.
double normalised_error(const Tensor& actual, const Tensor& expected);

// The normalised error that a sound backend keeps within for `output` of `op`. Quantised weights may be
// multiplied in 8-bit integers (activations in blocks with a scale); everything else is float32 arithmetic,
// but a value stored in 16 bits or fewer may round the other way.
double tolerance_of(const Op& op, const Operand& output);

}  // namespace millrace
