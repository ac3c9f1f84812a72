#include "backend/op_error.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace millrace {
namespace {

constexpr double kFloat32 = 5e-6;
constexpr double kStored16 = 1e-3;
constexpr double kStoredBlocks = 1e-2;  // one of some thousand values rounds the other way
// 8-bit activations of real models, with their outliers, are off by a little over 2e-2; random ones
// by 1.5e-2.
constexpr double kQuantised = 5e-2;

double share_that_differs(const Tensor& actual, const Tensor& expected) {
  int64_t n_different = 0;
  for (int64_t i = 0; i < actual.n_elems(); ++i) n_different += actual.i32()[i] != expected.i32()[i];
  return static_cast<double>(n_different) / static_cast<double>(std::max<int64_t>(1, actual.n_elems()));
}

bool is_quantised(const Tensor& tensor) { return format_of(tensor.dtype).block_elems > 1; }

}  // namespace

double normalised_error(const Tensor& actual, const Tensor& expected) {
  check(actual.shape == expected.shape && actual.dtype == expected.dtype, "results of one shape and type");
  if (actual.dtype == Dtype::i32) return share_that_differs(actual, expected);
  const int64_t n_cols = actual.n_cols();
  std::vector<float> a(static_cast<size_t>(n_cols)), e(static_cast<size_t>(n_cols));
  double sum_of_differences = 0;
  double sum = 0;
  for (int64_t r = 0; r < actual.n_rows(); ++r) {
    format_of(actual.dtype).decode(actual.row(r), a.data(), n_cols);
    format_of(actual.dtype).decode(expected.row(r), e.data(), n_cols);
    for (size_t i = 0; i < a.size(); ++i) {
      if (std::isnan(a[i]) && std::isnan(e[i])) continue;
      if (a[i] == e[i]) {
        if (std::isfinite(e[i])) sum += double{e[i]} * double{e[i]};
        continue;
      }
      const double difference = double{a[i]} - double{e[i]};
      if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
      sum_of_differences += difference * difference;
      sum += double{e[i]} * double{e[i]};
    }
  }
  return sum_of_differences == 0 ? 0 : std::sqrt(sum_of_differences / sum);
}

double tolerance_of(const Op& op, const Operand& output) {
  if (output.tensor->dtype == Dtype::i32) return 0;
  if (output.extent == Extent::whole && is_quantised(*output.tensor)) return kStoredBlocks;
  if (output.extent == Extent::whole && output.tensor->dtype != Dtype::f32) return kStored16;
  if (std::holds_alternative<Embed>(op)) return kFloat32;
  Op copy = op;
  const std::vector<Operand> operands = operands_of(copy);
  return std::ranges::any_of(operands, [](const Operand& each) { return is_quantised(*each.tensor); })
             ? kQuantised
             : kFloat32;
}

}  // namespace millrace
