// The ops, one function each: they choose grids and give kernels to the stream. Sums over the elements of a
// row have one order whatever the number of rows (docs/adr/0002): of products in bfloat16 that of
// product_bf16.inl, otherwise 32 lanes joined in pairs.
#pragma once

#include "backend/backend.h"
#include "backend/cuda/text/threads.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {

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
void compute(Machine& machine, const BidirectionalAttention& op);
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
void compute(Machine& machine, const MeanRows& op);
void compute(Machine& machine, const TopLogits& op);
void compute(Machine& machine, const DrawTokens& op);
void compute(Machine& machine, const FeedTokens& op);

// How much of each limit is measured.
struct Effort {
  int64_t bytes_a_processor;
  int n_rounds;
};
DeviceLimits measure_limits(Machine& machine, const Effort& effort);

inline void run(Machine& machine, const Op& op) {
  std::visit([&](const auto& each) { compute(machine, each); }, op);
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
