#include "backend/tools/checking_backend.h"

#include <vector>

#include "backend/op_error.h"
#include "backend/op_operands.h"

namespace millrace {

std::string CheckingBackend::Difference::text() const {
  return fmt::format("op {} differs: its {} is off by {:.3g} (rms, relative), {:.3g} allowed: {}", op_index,
                     output, error, tolerance, op);
}

void CheckingBackend::run(const Op& op) {
  // First the reference, on copies of whatever the op writes: the inputs are still as they were.
  Op expected = op;
  std::vector<std::vector<std::byte>> copies;
  for (const Operand& operand : operands_of(expected)) {
    if (!operand.is_written()) continue;
    Tensor& tensor = *operand.tensor;
    copies.emplace_back(tensor.data, tensor.data + tensor.n_bytes());
    tensor.data = copies.back().data();
  }
  reference_.run(expected);
  inner_.run(op);
  Op actual = op;
  if (!first_difference_) compare(actual, expected);
  ++n_ops_;
}

void CheckingBackend::compare(Op& actual, Op& expected) {
  const std::vector<Operand> a = operands_of(actual);
  const std::vector<Operand> e = operands_of(expected);
  for (size_t i = 0; i < a.size(); ++i) {
    if (!a[i].is_written()) continue;
    const double error = normalised_error(*a[i].tensor, *e[i].tensor);
    const double tolerance = tolerance_of(actual, a[i]);
    if (error <= tolerance) continue;
    first_difference_ = Difference{.op_index = n_ops_,
                                   .op = describe(actual),
                                   .output = std::string(a[i].name),
                                   .error = error,
                                   .tolerance = tolerance};
    return;
  }
}

}  // namespace millrace
