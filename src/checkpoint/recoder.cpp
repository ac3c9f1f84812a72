#include "checkpoint/recoder.h"

#include <algorithm>
#include <vector>

namespace millrace {
namespace {

constexpr int64_t kTaskElems = 1 << 16;

// Rows [begin, end) of a tensor on their way.
class RowRange {
 public:
  RowRange(const Tensor& from, const Tensor& to, std::span<const float> importance)
      : from_(from), to_(to), importance_(importance), row_(cols()), back_(cols()) {}

  // Stops before the first row that cannot be encoded and returns it, or `end`.
  int64_t recode(int64_t begin, int64_t end, RecodeError& error) {
    for (int64_t i = begin; i < end; ++i) {
      std::byte* out = to_.row(i);
      format_of(from_.dtype).decode(from_.row(i), row_.data(), from_.n_cols());
      format_of(to_.dtype).encode(row_.data(), out, from_.n_cols(), importance_of(i));
      format_of(to_.dtype).decode(out, back_.data(), from_.n_cols());
      const RecodeError of_row = difference();
      if (!std::isfinite(of_row.squares)) return i;
      error.add(of_row);
    }
    return end;
  }

 private:
  size_t cols() const { return static_cast<size_t>(from_.n_cols()); }

  std::span<const float> importance_of(int64_t row) const {
    if (importance_.empty()) return {};
    const int64_t n_rows_each = from_.n_dims < 2 ? 1 : from_.dim(from_.n_dims - 2);
    return importance_.subspan(static_cast<size_t>(row / n_rows_each) * cols(), cols());
  }

  // In eight sums, which vectorises; always the same eight.
  RecodeError difference() const {
    constexpr size_t kSums = 8;
    double squares[kSums] = {}, norm[kSums] = {};
    float largest[kSums] = {};
    for (size_t k = 0; k < cols(); k += kSums) {
      const size_t n = std::min(kSums, cols() - k);
      for (size_t j = 0; j < n; ++j) {
        const float value = row_[k + j], d = back_[k + j] - value;
        squares[j] += static_cast<double>(d) * static_cast<double>(d);
        norm[j] += static_cast<double>(value) * static_cast<double>(value);
        largest[j] = std::max(largest[j], std::fabs(d));
      }
    }
    RecodeError sum;
    for (size_t j = 0; j < kSums; ++j) sum.add({squares[j], norm[j], static_cast<double>(largest[j])});
    return sum;
  }

  const Tensor& from_;
  const Tensor& to_;
  std::span<const float> importance_;
  std::vector<float> row_, back_;
};

}  // namespace

void RecodeError::add(const RecodeError& other) {
  squares += other.squares;
  norm += other.norm;
  largest = std::max(largest, other.largest);
}

RecodeError Recoder::recode(std::string_view name, const Tensor& from, const Tensor& to,
                            std::span<const float> importance) {
  if (from.n_elems() == 0) return {};
  const int64_t n_rows = from.n_rows();
  const int64_t n_rows_each = std::max<int64_t>(1, kTaskElems / from.n_cols());
  const auto n_tasks = static_cast<size_t>((n_rows + n_rows_each - 1) / n_rows_each);
  std::vector<RecodeError> errors(n_tasks);
  std::vector<int64_t> unsound(n_tasks, n_rows);
  pool_.run(static_cast<int>(n_tasks), [&](int task, int) {
    const int64_t begin = task * n_rows_each, end = std::min(n_rows, begin + n_rows_each);
    const auto t = static_cast<size_t>(task);
    const int64_t stopped = RowRange(from, to, importance).recode(begin, end, errors[t]);
    if (stopped != end) unsound[t] = stopped;
  });
  if (const int64_t row = *std::ranges::min_element(unsound); row != n_rows) {
    fail(ErrorKind::bad_model, "row {} of tensor {} holds a number that {} cannot hold, or none: NaN", row,
         printable(name), format_of(to.dtype).name);
  }
  RecodeError sum;
  for (const RecodeError& each : errors) sum.add(each);
  return sum;
}

}  // namespace millrace
