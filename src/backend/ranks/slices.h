// How one dimension of a tensor is cut among ranks: into segments (mostly one), each of so many units (heads,
// blocks of a format), of which rank r has a run, the same in every segment. Runs may overlap: key-value
// heads that are fewer than the ranks lie on several.
//
//   n_segments = 2, n_units = 4, ranks {[0, 2), [2, 4)}     0 0 1 1 | 0 0 1 1
#pragma once

#include <algorithm>
#include <vector>

#include "tensor/tensor.h"

namespace millrace::ranks {

struct Slices {
  struct Run {
    int64_t begin, end;  // units
    bool operator==(const Run&) const = default;
  };
  int64_t n_segments = 1;
  int64_t n_units = 1;
  std::vector<Run> runs;  // of each rank

  bool operator==(const Slices&) const = default;

  const Run& run(int rank) const { return runs[static_cast<size_t>(rank)]; }
  // Of any rank.
  int64_t most_units() const {
    int64_t most = 0;
    for (const auto& [begin, end] : runs) most = std::max(most, end - begin);
    return most;
  }
  // Elements of a rank, of a dimension of n.
  int64_t local(int64_t n, int rank) const { return n / n_units * (run(rank).end - run(rank).begin); }
};

// A tensor that is cut along one dimension.
struct Cut {
  Slices slices;
  int axis = 0;

  bool operator==(const Cut&) const = default;

  // The shape of what a rank has, with the data of `whole`.
  Tensor local_shape(const Tensor& whole, int rank) const;
  // Whether what a rank has lies in one piece, and where that begins.
  bool is_view(const Tensor& whole) const;
  Tensor view(const Tensor& whole, int rank) const;
};

// A piece of a tensor that lies on a rank, in bytes.
struct Piece {
  int64_t whole_begin, local_begin, n_bytes;
};
// The pieces of what a rank has of [begin, end) of the bytes of `whole`.
std::vector<Piece> pieces(const Tensor& whole, const Cut& cut, int rank, int64_t begin, int64_t end);
inline std::vector<Piece> pieces(const Tensor& whole, const Cut& cut, int rank) {
  return pieces(whole, cut, rank, 0, whole.n_bytes());
}

}  // namespace millrace::ranks
