// What an op reads and writes, by name: the one description of operands that shape checks, costs, decorators
// and tests share. A new op adds one function in op_operands.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backend/ops.h"

namespace millrace {

// update: read, then written. A whole operand that is updated is written in some places and keeps the others.
enum class Access { read, write, update };
// rows: entry r of the first dimension belongs to row r of the op. model: a part of the model, whole: the
// same elements at every step.
enum class Extent { rows, whole, model };

struct Operand {
  std::string_view name;
  Tensor* tensor;
  Access access;
  Extent extent;

  bool is_written() const { return access != Access::read; }
};

// The operands that are there (optional ones may not be), pointing into `op`. Of a Batch: none; it is the
// step's and not the op's.
std::vector<Operand> operands_of(Op& op);
// The batch of an op that has one, else nullptr.
const Batch* batch_of(const Op& op);
Batch* batch_of(Op& op);
// The numbers of a batch that ops read.
std::vector<Tensor*> numbers_of(Batch& batch);

// Whether a row reads what other rows of its sequence bring along: such an op may be divided between
// sequences only.
bool needs_whole_sequences(const Op& op);

// The weights that an op multiplies activations with, none of most.
std::vector<Tensor> multiplied_weights(const Op& op);

std::string_view name_of(const Op& op);
inline constexpr size_t kNOps = std::variant_size_v<Op>;
// The name of the op that is number `index` in the variant.
std::string_view name_of_op(size_t index);
// "linear x (3, 64) F32, weight (32, 64) Q4_0, out (3, 32) F32", for messages.
std::string describe(const Op& op);

}  // namespace millrace
