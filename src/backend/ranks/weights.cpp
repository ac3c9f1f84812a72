#include "backend/ranks/weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "backend/stretches.h"

namespace millrace::ranks {
namespace {

// Which keep their addresses, and nothing there.
void forget(const Buffer& buffer) { ::madvise(buffer.data(), buffer.n_bytes(), MADV_DONTNEED); }

std::vector<Tensor> whole_weights(const Plan& plan) {
  std::vector<Tensor> weights;
  for (const auto& [address, weight] : plan.whole) weights.push_back(weight);
  return weights;
}

}  // namespace

std::vector<WeightGroup> groups_of(const Plan& plan) {
  constexpr int64_t kMost = 64, kLeastBytes = int64_t{64} << 20;
  int64_t n_all = 0, n_bytes = 0;
  for (const auto& [address, weight] : plan.weights) n_all += weight.whole.n_bytes();
  const int64_t n_enough = std::max(n_all / kMost, kLeastBytes * plan.n_ranks);
  std::vector<WeightGroup> groups;
  for (const auto& [address, weight] : plan.weights) {
    if (groups.empty() || n_bytes >= n_enough) {
      groups.emplace_back();
      n_bytes = 0;
    }
    groups.back().push_back(&weight);
    n_bytes += weight.whole.n_bytes();
  }
  return groups;
}

void RankWeights::hold_whole() { backend_.hold(whole_weights(plan_)); }

void RankWeights::hold(const WeightGroup& group) {
  const size_t n_copies = copies_.size();
  std::vector<Tensor> parts;
  for (const Plan::Weight* weight : group) {
    const bool is_view = weight->cut.is_view(weight->whole);
    parts.push_back(is_view ? weight->cut.view(weight->whole, rank_) : copy(*weight));
    parts_.emplace(weight->whole.data, parts.back());
  }
  backend_.hold(parts);
  if (backend_.memory().is_of_program()) return;
  for (const Buffer& copy : std::span(copies_).subspan(n_copies)) forget(copy);
}

Tensor RankWeights::copy(const Plan::Weight& weight) {
  Tensor part = weight.cut.local_shape(weight.whole, rank_);
  part.data = copies_.emplace_back(static_cast<size_t>(part.n_bytes())).data();
  for (const Piece& piece : pieces(weight.whole, weight.cut, rank_))
    std::memcpy(part.data + piece.local_begin, weight.whole.data + piece.whole_begin,
                static_cast<size_t>(piece.n_bytes));
  return part;
}

int64_t n_copied_bytes(const Plan& plan, int rank) {
  int64_t n_bytes = 0;
  for (const auto& [address, weight] : plan.weights) {
    if (!weight.cut.is_view(weight.whole)) n_bytes += weight.cut.local_shape(weight.whole, rank).n_bytes();
  }
  return n_bytes;
}

int64_t n_held_bytes(const Plan& plan, int rank) {
  auto n_bytes = static_cast<int64_t>(copied_bytes(stretches_of(whole_weights(plan))));
  for (const auto& [address, weight] : plan.weights) {
    if (weight.cut.is_view(weight.whole) && plan.whole.contains(address))
      continue;  // a part of what is there
    const std::span<const std::byte> bytes = weight.cut.local_shape(weight.whole, rank).bytes();
    n_bytes += static_cast<int64_t>(copied_bytes({&bytes, 1}));
  }
  return n_bytes;
}

}  // namespace millrace::ranks
