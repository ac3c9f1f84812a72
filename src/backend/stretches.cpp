#include "backend/stretches.h"

#include <algorithm>

namespace millrace {

std::vector<std::span<const std::byte>> stretches_of(std::span<const Tensor> tensors) {
  std::vector<std::span<const std::byte>> all;
  for (const Tensor& tensor : tensors) {
    if (tensor.n_bytes() > 0) all.push_back(tensor.bytes());
  }
  std::ranges::sort(all, {}, &std::span<const std::byte>::data);
  std::vector<std::span<const std::byte>> joined;
  for (const std::span<const std::byte> next : all) {
    if (joined.empty() || next.data() >= joined.back().data() + joined.back().size()) {
      joined.push_back(next);
    } else {
      const std::byte* const begin = joined.back().data();
      const std::byte* const end = std::max(begin + joined.back().size(), next.data() + next.size());
      joined.back() = {begin, end};
    }
  }
  return joined;
}

size_t copied_bytes(std::span<const std::span<const std::byte>> stretches) {
  size_t n_bytes = 0;
  for (const auto& stretch : stretches)
    n_bytes += (stretch.size() + kStretchAlignment - 1) / kStretchAlignment * kStretchAlignment;
  return n_bytes;
}

}  // namespace millrace
