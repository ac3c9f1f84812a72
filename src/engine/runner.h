// Runs planned rows: fills a batch, calls the model, hands out the logits.
#pragma once

#include <span>
#include <vector>

#include "engine/scheduler.h"
#include "model/model.h"

namespace millrace {

// Sizes that bound every batch of a runner.
struct BatchLimits {
  int64_t max_rows;
  int64_t max_sequences;
  int64_t max_logit_rows;
  int64_t max_pages;  // of one sequence
};

// What sequences leave behind in a model's layers: pages for each position, a slot for the whole.
struct SequenceMemory {
  struct Shape {
    KvCache::Shape kv;
    StateCache::Shape states;

    int64_t kv_bytes() const { return KvCache::n_bytes(kv); }
    int64_t state_bytes() const { return StateCache::n_bytes(states); }
  };

  explicit SequenceMemory(const Shape& shape) : kv(shape.kv), states(shape.states) {}

  KvCache kv;
  StateCache states;
};

class Runner {
 public:
  // Everything is allocated here; `model`, `backend` and `memory` must outlive the runner. Throws
  // Error(does_not_fit) with the numbers where the arena and `memory` exceed the memory there is.
  Runner(const Model& model, Backend& backend, const SequenceMemory& memory, const BatchLimits& limits);

  // Computes the rows. Returns the logits, float32 (n, n_vocab), valid until the next run: one row for each
  // planned sequence that wants logits, in the order of the plan.
  Tensor run(std::span<const PlannedRows> rows);
  // The same with the logits of every row, at most limits.max_logit_rows.
  Tensor run_all_logits(const PlannedRows& rows);

  // Bytes of activations that the widest step takes, exactly. Allocates next to nothing.
  static int64_t arena_bytes(const Model& model, const SequenceMemory::Shape& memory,
                             const BatchLimits& limits);

 private:
  Tensor forward(std::span<const PlannedRows> rows, std::span<const int32_t> logit_rows);
  void fill(std::span<const PlannedRows> rows);

  const Model& model_;
  Backend& backend_;
  const SequenceMemory& memory_;
  BatchLimits limits_;
  Buffer arena_memory_;
  std::vector<int32_t> tokens_, positions_, seq_of_row_, row_begin_, page_tables_, rope_tables_, state_from_,
      state_to_;
};

}  // namespace millrace
