// Makes the operands of a case: memory, random elements, batches with shuffled pages.
#pragma once

#include <span>
#include <string_view>

#include "backend/cases/op_cases.h"

namespace millrace {

// A sequence of a batch: rows [n_past, n_past + n_rows) of its history are computed now.
struct SeqRows {
  int32_t n_past;
  int32_t n_rows;
};

class CaseMaker {
 public:
  explicit CaseMaker(uint64_t seed) : state_(seed) {}

  // About normal, mean 0: the sum of four uniform numbers, exact on every machine.
  Tensor floats(std::initializer_list<int64_t> dims, float deviation = 1.0f);
  // Whole numbers from -127 to 127, one of the two in every 32.
  Tensor bytes_as_floats(std::initializer_list<int64_t> dims);
  // Mean 1, as norm weights are.
  Tensor norm_weight(int64_t n);
  // Encoded by the format's own reference rounding. Aligned to 32 bytes and no more, as in files. Rows
  // of large weights repeat.
  Tensor weight(Dtype dtype, std::initializer_list<int64_t> dims);
  // Each in [0, n_values).
  Tensor integers(std::initializer_list<int64_t> dims, int32_t n_values);
  // `n_used` different experts a row; (n_rows, n_used).
  Tensor experts(int64_t n_rows, int64_t n_used, int32_t n_experts);
  Tensor list(std::span<const int32_t> values);
  // Not yet computed: every bit set, which is NaN as a float of any size.
  Tensor output(Dtype dtype, std::initializer_list<int64_t> dims);
  // Rows of several sequences, whose pages lie shuffled among a few more than they need. Pages that lie
  // before the window of every row are given back. Every second sequence leaves its state where it found it.
  Batch batch(std::span<const SeqRows> seqs, int64_t page_size, int32_t window);
  // Pages for that batch: (n_pages, n_kv_heads, page_size, head_dim). Elements at positions below n_stored[s]
  // of sequence s are random; all others are NaN.
  Tensor pages(const Batch& batch, std::span<const int32_t> n_stored, Dtype dtype,
               std::initializer_list<int64_t> heads_size_dim);

  // The state of the sequences of that batch in its slots: random where a sequence comes from, NaN elsewhere.
  Tensor states(const Batch& batch, std::initializer_list<int64_t> dims);

  CaseOp finish(const Op& op) { return {op, std::move(memory_)}; }

 private:
  std::vector<int32_t> shuffled(int64_t n);  // 0 to n - 1
  Tensor allocate(Dtype dtype, std::initializer_list<int64_t> dims);
  uint64_t next_bits();
  float next_float();
  int32_t next_below(int32_t n);

  uint64_t state_;
  std::vector<std::unique_ptr<std::byte[], FreeBytes>> memory_;
};

int64_t n_pages_of(const Batch& batch);

}  // namespace millrace
