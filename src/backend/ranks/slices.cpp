#include "backend/ranks/slices.h"

#include <algorithm>

namespace millrace::ranks {
namespace {

// Bytes of one index of dimension `axis`, in blocks where that is the last one: then of a block.
struct Grain {
  int64_t n;        // along the axis
  int64_t n_bytes;  // each
  int64_t n_outer;  // how often the dimension comes

  Grain(const Tensor& tensor, int axis) : n(tensor.dim(axis)), n_outer(1) {
    if (axis == tensor.n_dims - 1) n /= format_of(tensor.dtype).block_elems;
    for (int i = 0; i < axis; ++i) n_outer *= tensor.dim(i);
    n_bytes = n * n_outer == 0 ? 0 : tensor.n_bytes() / n_outer / n;
  }
};

}  // namespace

Tensor Cut::local_shape(const Tensor& whole, int rank) const {
  Tensor part = whole;
  part.shape[static_cast<size_t>(axis)] = slices.local(whole.dim(axis), rank);
  return part;
}

bool Cut::is_view(const Tensor& whole) const {
  return slices.n_segments == 1 && Grain(whole, axis).n_outer == 1;
}

Tensor Cut::view(const Tensor& whole, int rank) const {
  check(is_view(whole), "a part in one piece");
  Tensor part = local_shape(whole, rank);
  const std::vector<Piece> only = pieces(whole, *this, rank);
  if (!only.empty()) part.data += only.front().whole_begin;
  return part;
}

std::vector<Piece> pieces(const Tensor& whole, const Cut& cut, int rank, int64_t begin, int64_t end) {
  const Grain grain(whole, cut.axis);
  const int64_t n_segments = cut.slices.n_segments, n_in_segment = grain.n / n_segments;
  const auto [run_begin, run_end] = cut.slices.run(rank);
  check(n_in_segment % cut.slices.n_units == 0, "whole units");
  const int64_t unit_bytes = n_in_segment / cut.slices.n_units * grain.n_bytes;
  const int64_t segment_bytes = n_in_segment * grain.n_bytes, outer_bytes = n_segments * segment_bytes;
  const int64_t run_bytes = (run_end - run_begin) * unit_bytes;
  std::vector<Piece> all;
  if (outer_bytes == 0 || begin >= end) return all;
  for (int64_t segment = begin / segment_bytes; segment <= (end - 1) / segment_bytes; ++segment) {
    const int64_t from = segment * segment_bytes + run_begin * unit_bytes;
    const int64_t first = std::max(begin, from), last = std::min(end, from + run_bytes);
    if (first < last) all.push_back({first, segment * run_bytes + first - from, last - first});
  }
  return all;
}

}  // namespace millrace::ranks
