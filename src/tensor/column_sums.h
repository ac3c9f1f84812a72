// What was measured of the rows that a weight is multiplied with.
#pragma once

#include <cstdint>
#include <vector>

namespace millrace {

// For each matrix of the weight (one, or one an expert) the rows that passed, and for each column the sum of
// their squares.
struct ColumnSums {
  std::vector<double> squares;  // (n_matrices, n_cols)
  std::vector<int64_t> counts;  // (n_matrices)
};

}  // namespace millrace
