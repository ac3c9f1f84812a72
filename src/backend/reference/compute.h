// The reference's ops, one function each. Activations between ops are float32; inside an op everything is
// double, added up in an order that depends on lengths alone, and rounded once where it is written: the most
// exact result that the contract of an op allows, and the same bits whatever the batch. Weights are decoded
// by the format table, a row at a time. Two roundings stay, since they decide something: route's logits and
// scores are float32 before experts are chosen, keys are float32 before they are stored in their pages.
#pragma once

#include "backend/ops.h"

namespace millrace::reference {

void compute(const Embed& op);
void compute(const Linear& op);
void compute(const HeadLinear& op);
void compute(const LinearGated& op);
void compute(const Gate& op);
void compute(const Norm& op);
void compute(const Add& op);
void compute(const MatchRms& op);
void compute(const MixStreams& op);
void compute(const RopeStoreKv& op);
void compute(const PagedAttention& op);
void compute(const SelectPositions& op);
void compute(const CompressKv& op);
void compute(const Route& op);
void compute(const MoeGated& op);
void compute(const MoeDown& op);
void compute(const HyperCollapse& op);
void compute(const HyperExpand& op);
void compute(const Split& op);
void compute(const CausalConv& op);
void compute(const GatedDeltaRule& op);
void compute(const GatherRows& op);
void compute(const BidirectionalAttention& op);
void compute(const MeanRows& op);
void compute(const TopLogits& op);
void compute(const DrawTokens& op);
void compute(const FeedTokens& op);

}  // namespace millrace::reference
