// The ops of the cpu backend, one function each. All but the tiny ones are one fork-join (two where
// activations of many rows are quantised first). What a task computes never depends on which thread takes it
// or on what else is in the op.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/kernels.h"
#include "backend/cpu/scratch.h"
#include "backend/cpu/weights.h"
#include "backend/ops.h"
#include "base/thread_pool.h"

namespace millrace::cpu {

// What ops compute with.
struct Machine {
  const Kernels& kernels;
  ThreadPool& pool;
  Scratch& scratch;
  const WeightCopies& copies;

  // What to read where an op names `weight`.
  Weight read(const Tensor& weight) const { return copies.find(kernels, weight); }
};

void compute(Machine& machine, const Embed& op);
void compute(Machine& machine, const Linear& op);
void compute(Machine& machine, const HeadLinear& op);
void compute(Machine& machine, const LinearGated& op);
void compute(Machine& machine, const Gate& op);
void compute(Machine& machine, const Norm& op);
void compute(Machine& machine, const Add& op);
void compute(Machine& machine, const MatchRms& op);
void compute(Machine& machine, const MixStreams& op);
void compute(Machine& machine, const RopeStoreKv& op);
void compute(Machine& machine, const PagedAttention& op);
void compute(Machine& machine, const SelectPositions& op);
void compute(Machine& machine, const CompressKv& op);
void compute(Machine& machine, const Route& op);
void compute(Machine& machine, const MoeGated& op);
void compute(Machine& machine, const MoeDown& op);
void compute(Machine& machine, const HyperCollapse& op);
void compute(Machine& machine, const HyperExpand& op);
void compute(Machine& machine, const Split& op);
void compute(Machine& machine, const CausalConv& op);
void compute(Machine& machine, const GatedDeltaRule& op);
void compute(Machine& machine, const GatherRows& op);
void compute(Machine& machine, const BidirectionalAttention& op);
void compute(Machine& machine, const MeanRows& op);
void compute(Machine& machine, const TopLogits& op);
void compute(Machine& machine, const DrawTokens& op);
void compute(Machine& machine, const FeedTokens& op);

// Calls body(r, thread) for each row, on all threads when the rows hold enough to be worth it.
template <class Body>
void for_each_row(Machine& machine, int64_t n_rows, int64_t row_elems, const Body& body) {
  constexpr int64_t kElemsATask = 8192;  // some microseconds
  const int64_t rows_a_task = std::max<int64_t>(1, kElemsATask / std::max<int64_t>(1, row_elems));
  const int64_t n_tasks = (n_rows + rows_a_task - 1) / rows_a_task;
  machine.pool.run(static_cast<int>(n_tasks), [&](int task, int thread) {
    const int64_t end = std::min(n_rows, (task + 1) * rows_a_task);
    for (int64_t r = task * rows_a_task; r < end; ++r) body(r, thread);
  });
}

}  // namespace millrace::cpu
