// How ranks can divide an op: one line an op. What has no line (a norm over whole rows, a choice of experts)
// runs whole on every rank.
#pragma once

#include <vector>

#include "backend/op_operands.h"

namespace millrace::ranks {

// An operand that each rank has a part of.
struct CutOperand {
  Tensor* tensor;
  Access access;
  Extent extent;
  int axis;
  int64_t n_units;  // whole parts that the dimension can be cut into: heads, blocks of a format
  int group;        // operands of one group are cut alike
};

// Operands that are cut together, all others being whole. Of most ops one side can be cut, or nothing.
struct Side {
  std::vector<CutOperand> operands;
  bool gives_sum = false;  // what the op writes is then a part of a sum over the ranks
  // Of the operands of group 1: segments, and key-value heads, of which a rank may share one with others.
  int64_t n_segments = 1;
  int64_t n_kv_heads = 0;
};

// Those of an op whose batch has one row say what can be cut; those of any other have the same operands.
std::vector<Side> sides_of(Op& op);

}  // namespace millrace::ranks
