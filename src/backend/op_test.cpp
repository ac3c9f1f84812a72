// Every op, in every case of the table: the backends against the reference, and the promise that a row's bits
// do not depend on the batch around it or on the threads that compute it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "backend/backend.h"
#include "backend/cases/op_cases.h"
#include "backend/cpu/cpu.h"
#include "backend/op_error.h"
#include "backend/op_operands.h"

namespace millrace {
namespace {

using Rows = std::vector<int64_t>;

Rows range(int64_t begin, int64_t end) {
  Rows rows(static_cast<size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), begin);
  return rows;
}

// All rows in pieces of at most `n`.
std::vector<Rows> pieces(int64_t n_rows, int64_t n) {
  std::vector<Rows> parts;
  for (int64_t begin = 0; begin < n_rows; begin += n)
    parts.push_back(range(begin, std::min(begin + n, n_rows)));
  return parts;
}

// Two batches of other company: the sequences (or, where there are none, single rows) in reverse order, every
// third apart from the others.
std::vector<Rows> other_batches(const Op& op) {
  std::vector<Rows> sequences = pieces(n_rows_of(op), 1);
  if (const Batch* batch = batch_of(op)) {
    sequences.clear();
    const int32_t* begin = batch->row_begin.i32();
    for (int64_t s = 0; s < batch->n_seqs(); ++s) sequences.push_back(range(begin[s], begin[s + 1]));
  }
  std::vector<Rows> batches(2);
  for (size_t i = sequences.size(); i-- > 0;) {
    Rows& rows = batches[i % 3 == 0 ? 1 : 0];
    rows.insert(rows.end(), sequences[i].begin(), sequences[i].end());
  }
  std::erase_if(batches, [](const Rows& rows) { return rows.empty(); });
  return batches;
}

CaseOp run_whole(const OpCase& line, Backend& backend) {
  CaseOp whole = line.make();
  backend.run(whole.op);
  return whole;
}

CaseOp run_parts(const OpCase& line, Backend& backend, const std::vector<Rows>& parts) {
  CaseOp whole = line.make();
  for (const Rows& rows : parts) {
    const CaseOp part = select_rows(whole, rows);
    backend.run(part.op);
    put_rows(part, rows, whole);
  }
  return whole;
}

void expect_same_bits(CaseOp& actual, CaseOp& expected, const char* how) {
  const std::vector<Operand> a = operands_of(actual.op);
  const std::vector<Operand> e = operands_of(expected.op);
  for (size_t i = 0; i < a.size(); ++i) {
    if (!a[i].is_written()) continue;
    const size_t n_bytes = static_cast<size_t>(a[i].tensor->n_bytes());
    EXPECT_EQ(std::memcmp(a[i].tensor->data, e[i].tensor->data, n_bytes), 0) << a[i].name << ", " << how;
  }
}

void expect_same_bits_in_any_batch(const OpCase& line, Backend& backend) {
  SCOPED_TRACE(line.name);
  CaseOp whole = run_whole(line, backend);
  const int64_t n_rows = n_rows_of(whole.op);
  const auto expect_parts = [&](const std::vector<Rows>& parts, const char* how) {
    CaseOp in_parts = run_parts(line, backend, parts);
    expect_same_bits(in_parts, whole, how);
  };
  expect_parts(pieces(n_rows, 1), "row by row");
  if (n_rows > 4) expect_parts(pieces(n_rows, 4), "in fours");
  if (n_rows > 7) expect_parts(pieces(n_rows, 7), "in sevens");
  expect_parts(other_batches(whole.op), "in other batches");
}

void expect_no_nan(CaseOp& done) {
  for (const Operand& operand : operands_of(done.op)) {
    if (!operand.is_written() || operand.extent != Extent::rows || operand.tensor->dtype != Dtype::f32)
      continue;
    const std::span values(operand.tensor->f32(), static_cast<size_t>(operand.tensor->n_elems()));
    EXPECT_TRUE(std::ranges::none_of(values, [](float x) { return x != x; })) << operand.name;
  }
}

TEST(ReferenceOps, WriteEveryElementAndReadNothingHidden) {
  const auto reference = make_reference_backend();
  for (const OpCase& line : op_cases()) {
    SCOPED_TRACE(line.name);
    CaseOp done = run_whole(line, *reference);
    expect_no_nan(done);
  }
}

TEST(ReferenceOps, GiveTheSameBitsInAnyBatch) {
  const auto reference = make_reference_backend();
  for (const OpCase& line : op_cases()) expect_same_bits_in_any_batch(line, *reference);
}

void expect_near(const OpCase& line, CaseOp& actual, CaseOp& expected) {
  const std::vector<Operand> a = operands_of(actual.op);
  const std::vector<Operand> e = operands_of(expected.op);
  for (size_t i = 0; i < a.size(); ++i) {
    if (!a[i].is_written()) continue;
    const double tolerance = line.is_exact ? 5e-6 : tolerance_of(actual.op, a[i]);
    EXPECT_LE(normalised_error(*a[i].tensor, *e[i].tensor), tolerance) << a[i].name;
  }
}

TEST(CpuOps, AgreeWithTheReference) {
  const auto reference = make_reference_backend();
  for (const OpCase& line : op_cases()) {
    SCOPED_TRACE(line.name);
    CaseOp expected = run_whole(line, *reference);
    for (const std::string_view set : cpu_instruction_sets()) {
      SCOPED_TRACE(set);
      const auto cpu = make_cpu_backend(1, set);
      CaseOp actual = run_whole(line, *cpu);
      expect_near(line, actual, expected);
    }
  }
}

TEST(CpuOps, GiveTheSameBitsInAnyBatch) {
  for (const std::string_view set : cpu_instruction_sets()) {
    SCOPED_TRACE(set);
    const auto cpu = make_cpu_backend(1, set);
    for (const OpCase& line : op_cases()) expect_same_bits_in_any_batch(line, *cpu);
  }
}

TEST(CpuOps, GiveTheSameBitsOnAnyNumberOfThreads) {
  const auto one = make_cpu_backend(1);
  const auto two = make_cpu_backend(2);
  const auto three = make_cpu_backend(3);
  for (const OpCase& line : op_cases()) {
    SCOPED_TRACE(line.name);
    CaseOp expected = run_whole(line, *one);
    CaseOp on_two = run_whole(line, *two);
    CaseOp on_three = run_whole(line, *three);
    expect_same_bits(on_two, expected, "on two threads");
    expect_same_bits(on_three, expected, "on three threads");
  }
}

}  // namespace
}  // namespace millrace
