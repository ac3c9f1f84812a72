// For tests: operands that can be worked out by hand, and the oracle that computes with them.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "backend/backend.h"

namespace millrace::testing {

using Floats = std::vector<float>;
using Ints = std::vector<int32_t>;

inline Tensor view(Floats& values, std::initializer_list<int64_t> dims) {
  return {values.data(), Dtype::f32, dims};
}
inline Tensor view(Ints& values, std::initializer_list<int64_t> dims) {
  return {values.data(), Dtype::i32, dims};
}

inline void compute(const Op& op) { make_reference_backend()->run(op); }

// One sequence whose rows are the positions [n_past, n_past + n_rows), in pages of 2 positions: page p of the
// sequence is page n_pages - 1 - p of the cache.
struct OneSequence {
  OneSequence(int32_t n_past, int32_t n_rows, int32_t n_pages)
      : positions(static_cast<size_t>(n_rows)), zeros(positions.size()), row_begin{0, n_rows} {
    std::iota(positions.begin(), positions.end(), n_past);
    for (int32_t page = n_pages; page-- > 0;) pages.push_back(page);
  }
  Batch batch() {
    const int64_t n_rows = static_cast<int64_t>(positions.size());
    return {.tokens = view(zeros, {n_rows}),
            .positions = view(positions, {n_rows}),
            .seq_of_row = view(zeros, {n_rows}),
            .row_begin = view(row_begin, {2}),
            .page_tables = view(pages, {1, static_cast<int64_t>(pages.size())}),
            .rope_tables = view(rope_table, {1}),
            .logit_rows = view(rope_table, {0})};
  }
  Ints positions, zeros, row_begin, pages, rope_table{0};
};

inline void expect_near(const Floats& actual, const Floats& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-5f) << "element " << i;
}

}  // namespace millrace::testing
