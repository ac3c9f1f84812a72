// Tensors in other formats: decoded, encoded and decoded again for the error, row by row on several threads.
// The bits do not depend on how many.
#pragma once

#include <cmath>
#include <span>
#include <string_view>

#include "base/thread_pool.h"
#include "tensor/tensor.h"

namespace millrace {

// What a format lost.
struct RecodeError {
  double squares = 0.0;  // sum of squared differences
  double norm = 0.0;     // sum of squared elements
  double largest = 0.0;  // difference

  // Root of the mean square of the differences, as a part of that of the elements.
  double relative_rmse() const { return norm > 0.0 ? std::sqrt(squares / norm) : 0.0; }
  void add(const RecodeError& other);
};

class Recoder {
 public:
  // Throws Error(usage) for n_threads < 1.
  explicit Recoder(int n_threads) : pool_(n_threads) {}

  // Writes the elements of `from` to `to`: the same shape in another format. `importance` is empty, or one
  // weight for each column of each matrix of the last two dimensions: (n_matrices, n_cols). Throws
  // Error(bad_model), with the tensor's `name`, where `from` holds a number that `to` cannot hold, or none.
  RecodeError recode(std::string_view name, const Tensor& from, const Tensor& to,
                     std::span<const float> importance);

 private:
  ThreadPool pool_;
};

}  // namespace millrace
