#include "backend/ranks/weights.h"

#include <sys/mman.h>

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

RankWeights::RankWeights(const Plan& plan, int rank, Backend& backend) {
  backend.hold(whole_weights(plan));
  for (const auto& [address, weight] : plan.weights) {
    const bool is_view = weight.cut.is_view(weight.whole);
    const Tensor part = is_view ? weight.cut.view(weight.whole, rank) : copy(weight, rank);
    backend.hold({&part, 1});
    if (!is_view && !backend.memory().is_of_program()) forget(copies_.back());
    parts_.emplace(address, part);
  }
}

Tensor RankWeights::copy(const Plan::Weight& weight, int rank) {
  Tensor part = weight.cut.local_shape(weight.whole, rank);
  part.data = copies_.emplace_back(static_cast<size_t>(part.n_bytes())).data();
  for (const Piece& piece : pieces(weight.whole, weight.cut, rank))
    std::memcpy(part.data + piece.local_begin, weight.whole.data + piece.whole_begin,
                static_cast<size_t>(piece.n_bytes));
  return part;
}

int64_t n_held_bytes(const Plan& plan, int rank) {
  auto n_bytes = static_cast<int64_t>(copied_bytes(stretches_of(whole_weights(plan))));
  for (const auto& [address, weight] : plan.weights) {
    if (weight.cut.is_view(weight.whole) && plan.whole.contains(address))
      continue;  // a part of what is there
    const Tensor part = weight.cut.local_shape(weight.whole, rank);
    const std::span<const std::byte> bytes(part.data, static_cast<size_t>(part.n_bytes()));
    n_bytes += static_cast<int64_t>(copied_bytes({&bytes, 1}));
  }
  return n_bytes;
}

}  // namespace millrace::ranks
