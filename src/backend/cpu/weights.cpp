#include "backend/cpu/weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace millrace::cpu {
namespace {

// Whether every expert or head of a weight, and each part that ops take of one, is whole groups.
bool can_interleave(const Kernels& kernels, const Tensor& weight) {
  constexpr int64_t kParts = 2;  // gate and up may be halves of one weight
  return kernels.matmul[static_cast<size_t>(weight.dtype)].interleave != nullptr && weight.n_dims >= 2 &&
         weight.dim(weight.n_dims - 2) % (kParts * kernels.n_lanes) == 0;
}

// Rows [first, end) of `weight`.
void copy_rows(const Kernels& kernels, const Tensor& weight, int64_t first, int64_t end, bool is_interleaved,
               std::byte* to) {
  const int64_t row_bytes = weight.row_bytes();
  if (!is_interleaved) {
    std::memcpy(to, weight.row(first), static_cast<size_t>((end - first) * row_bytes));
    return;
  }
  const auto interleave = kernels.matmul[static_cast<size_t>(weight.dtype)].interleave;
  for (int64_t row = first; row < end; row += kernels.n_lanes, to += kernels.n_lanes * row_bytes)
    interleave(weight.row(row), row_bytes, to);
}

// In the order of memory, without those that share some with one before.
std::vector<Tensor> apart(std::span<const Tensor> weights) {
  std::vector<Tensor> sorted(weights.begin(), weights.end()), out;
  std::ranges::stable_sort(sorted, {}, &Tensor::data);
  for (const Tensor& weight : sorted) {
    if (out.empty() || weight.data >= out.back().data + out.back().n_bytes()) out.push_back(weight);
  }
  return out;
}

}  // namespace

const std::byte* Weight::row(const Kernels& kernels, int64_t i, std::byte* scratch) const {
  const int64_t n_lanes = is_interleaved ? kernels.n_lanes : 1, group = i / n_lanes * n_lanes;
  if (!is_copied(group + n_lanes)) return tensor.row(i);
  const std::byte* at = copy + group * tensor.row_bytes();
  if (!is_interleaved) return at;
  kernels.matmul[static_cast<size_t>(tensor.dtype)].take_row(at, tensor.row_bytes(),
                                                             static_cast<int>(i - group), scratch);
  return scratch;
}

Weight WeightCopies::find(const Kernels& kernels, const Tensor& weight) const {
  const size_t n_copies = n_copies_.load(std::memory_order_acquire);
  if (n_copies == 0) return {weight};  // nor are there copies_ to look at yet
  const std::span copies(copies_.get(), n_copies);
  const auto begin_of = [](const Copy& copy) { return copy.weight.data; };
  const auto after = std::ranges::upper_bound(copies, weight.data, {}, begin_of);
  if (after == copies.begin()) return {weight};
  const Copy& copy = *std::prev(after);
  const int64_t at = weight.data - copy.weight.data;
  if (at + weight.n_bytes() > copy.weight.n_bytes()) return {weight};
  const bool has_whole_groups =
      can_interleave(kernels, weight) && at % (kernels.n_lanes * weight.row_bytes()) == 0;
  if (copy.is_interleaved && !has_whole_groups) return {weight};
  return {weight, copy.begin + at, &copy.end, copy.is_interleaved};
}

void WeightCopies::plan(const Kernels& kernels, std::span<const Tensor> weights) {
  check(copies_ == nullptr, "weights are copied once");
  int64_t n_bytes = 0;
  for (const Tensor& weight : weights) n_bytes += aligned(weight.n_bytes());
  memory_ = Buffer(static_cast<size_t>(n_bytes));
  copies_ = std::make_unique<Copy[]>(weights.size());
  std::byte* to = memory_.data();
  for (size_t i = 0; i < weights.size(); ++i) {
    copies_[i].weight = weights[i];
    copies_[i].begin = to;
    copies_[i].end = to;
    copies_[i].is_interleaved = can_interleave(kernels, weights[i]);
    to += aligned(weights[i].n_bytes());
  }
  n_copies_.store(weights.size(), std::memory_order_release);
}

int64_t WeightCopies::make(const Kernels& kernels, std::span<const Tensor> weights,
                           const std::stop_token& stop, const Backend::Release& release) {
  const std::vector<Tensor> sorted = apart(weights);
  plan(kernels, sorted);
  constexpr int64_t kPieceBytes = 1 << 20;  // that are held twice
  int64_t n_copied = 0;
  std::span<const std::byte> before;  // the piece before this one
  for (Copy& copy : std::span(copies_.get(), sorted.size())) {
    const Tensor& weight = copy.weight;
    const int64_t group_bytes = std::max<int64_t>(1, weight.row_bytes() * kernels.n_lanes);
    const int64_t piece = std::max<int64_t>(1, kPieceBytes / group_bytes) * kernels.n_lanes;
    for (int64_t row = 0; row < weight.n_rows(); row += piece) {
      if (stop.stop_requested()) return n_copied;
      const int64_t end = std::min(weight.n_rows(), row + piece);
      copy_rows(kernels, weight, row, end, copy.is_interleaved, copy.begin + row * weight.row_bytes());
      copy.end.store(copy.begin + end * weight.row_bytes(), std::memory_order_release);
      n_copied += (end - row) * weight.row_bytes();
      release(before);  // again: a strip that had begun may have read it since
      before = {weight.row(row), weight.row(end)};
      release(before);
    }
  }
  for (const Tensor& weight : sorted) release({weight.data, static_cast<size_t>(weight.n_bytes())});
  return n_copied;
}

}  // namespace millrace::cpu
