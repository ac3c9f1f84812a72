// For tests: a case that can be run again and again from the same beginning, and what must hold of the
// results.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "backend/backend.h"
#include "backend/cases/op_cases.h"
#include "backend/op_error.h"
#include "backend/op_operands.h"

namespace millrace::testing {

using Rows = std::vector<int64_t>;

inline Rows range(int64_t begin, int64_t end) {
  Rows rows(static_cast<size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), begin);
  return rows;
}

// What must stay together: sequences, or single rows of an op that knows none.
inline std::vector<Rows> sequences_of(const Op& op) {
  std::vector<Rows> sequences;
  if (const Batch* batch = batch_of(op)) {
    const int32_t* begin = batch->row_begin.i32();
    for (int64_t s = 0; s < batch->n_seqs(); ++s) sequences.push_back(range(begin[s], begin[s + 1]));
  } else {
    for (int64_t r = 0; r < n_rows_of(op); ++r) sequences.push_back({r});
  }
  return sequences;
}

// All rows in pieces of at most `n` rows, or of whole sequences where the op may not be divided otherwise.
inline std::vector<Rows> pieces(const Op& op, size_t n) {
  std::vector<Rows> parts;
  size_t n_in_part = n;
  const auto add = [&](const Rows& rows) {
    if (n_in_part == n) parts.emplace_back(), n_in_part = 0;
    parts.back().insert(parts.back().end(), rows.begin(), rows.end());
    ++n_in_part;
  };
  if (needs_whole_sequences(op)) {
    for (const Rows& sequence : sequences_of(op)) add(sequence);
  } else {
    for (int64_t r = 0; r < n_rows_of(op); ++r) add({r});
  }
  std::erase_if(parts, [](const Rows& rows) { return rows.empty(); });
  return parts;
}

// Two batches of other company: the sequences in reverse order, every third apart from the others.
inline std::vector<Rows> other_batches(const Op& op) {
  const std::vector<Rows> sequences = sequences_of(op);
  std::vector<Rows> batches(2);
  for (size_t i = sequences.size(); i-- > 0;) {
    Rows& rows = batches[i % 3 == 0 ? 1 : 0];
    rows.insert(rows.end(), sequences[i].begin(), sequences[i].end());
  }
  std::erase_if(batches, [](const Rows& rows) { return rows.empty(); });
  return batches;
}

// What an op has written: the bytes of each such operand.
using Results = std::vector<std::vector<std::byte>>;

class Trial {
 public:
  explicit Trial(const OpCase& line) : case_(line.make()), is_exact_(line.is_exact), beginning_(written()) {}

  const Op& op() const { return case_.op; }

  Results run(Backend& backend) {
    restore();
    backend.run(case_.op);
    return written();
  }

  Results run_parts(Backend& backend, const std::vector<Rows>& parts) {
    restore();
    for (const Rows& rows : parts) {
      const CaseOp part = select_rows(case_, rows);
      backend.run(part.op);
      put_rows(part, rows, case_);
    }
    return written();
  }

  // `of_bf16`: what a backend keeps within that multiplies in bfloat16 weights other than float32, and where
  // a case is not exact x too; and in 16 bits keys and values other than float32.
  void expect_near(Results& actual, Results& expected, std::optional<double> of_bf16 = {}) {
    const std::optional<double> of_rounding = of_bf16 ? rounding_of(case_.op, *of_bf16) : std::nullopt;
    for_each_written([&](size_t i, const Operand& operand) {
      Tensor a = *operand.tensor, e = *operand.tensor;
      a.data = actual[i].data();
      e.data = expected[i].data();
      const double tolerance = of_rounding ? *of_rounding
                               : is_exact_ ? 5e-6
                                           : tolerance_of(case_.op, operand);
      EXPECT_LE(normalised_error(a, e), tolerance) << operand.name;
    });
  }

  void expect_same_bits(const Results& actual, const Results& expected, const char* how) {
    for_each_written([&](size_t i, const Operand& operand) {
      EXPECT_TRUE(actual[i] == expected[i]) << operand.name << " has other bits " << how;
    });
  }

  void expect_same_bits_in_any_batch(Backend& backend) {
    const Results whole = run(backend);
    const int64_t n_rows = n_rows_of(case_.op);
    expect_same_bits(run_parts(backend, pieces(case_.op, 1)), whole, "one by one");
    if (n_rows > 4) expect_same_bits(run_parts(backend, pieces(case_.op, 4)), whole, "in fours");
    if (n_rows > 7) expect_same_bits(run_parts(backend, pieces(case_.op, 7)), whole, "in sevens");
    expect_same_bits(run_parts(backend, other_batches(case_.op)), whole, "in other batches");
  }

  void expect_no_nan() {
    for_each_written([&](size_t, const Operand& operand) {
      if (operand.extent != Extent::rows || operand.tensor->dtype != Dtype::f32) return;
      const std::span values(operand.tensor->f32(), static_cast<size_t>(operand.tensor->n_elems()));
      EXPECT_TRUE(std::ranges::none_of(values, [](float x) { return x != x; })) << operand.name;
    });
  }

 private:
  std::optional<double> rounding_of(const Op& op, double of_bf16) const {
    if (const auto* attention = std::get_if<PagedAttention>(&op)) {
      const Dtype dtype = attention->k_pages.dtype;
      if (dtype == Dtype::f32) return {};
      return dtype == Dtype::bf16 ? of_bf16 : of_bf16 / 6;  // float16 keeps three bits more
    }
    const auto weights = multiplied_weights(op);
    if (std::ranges::all_of(weights, [](const Tensor& weight) { return weight.dtype == Dtype::f32; }))
      return {};
    // Of products of gate and up, both are off, and sums may be small beside what they add.
    return is_exact_ ? of_bf16 : 5 * of_bf16;
  }

  template <class Body>
  void for_each_written(Body body) {
    size_t i = 0;
    for (const Operand& operand : operands_of(case_.op)) {
      if (operand.is_written()) body(i++, operand);
    }
  }

  Results written() {
    Results results;
    for_each_written([&](size_t, const Operand& operand) {
      results.emplace_back(operand.tensor->data, operand.tensor->data + operand.tensor->n_bytes());
    });
    return results;
  }

  void restore() {
    for_each_written(
        [&](size_t i, const Operand& operand) { std::ranges::copy(beginning_[i], operand.tensor->data); });
  }

  CaseOp case_;
  bool is_exact_;
  Results beginning_;
};

// Calls `body` with every case, its name in the messages.
template <class Body>
void for_each_case(Body body) {
  for (const OpCase& line : op_cases()) {
    SCOPED_TRACE(line.name);
    Trial trial(line);
    body(trial);
  }
}

}  // namespace millrace::testing
