// What of a model each rank has: found in the ops of a forward, so that no family says anything about ranks.
//
// Ops that can be cut alike hang together by what they hand to each other: q, k, v, their pages and what
// attention gives; the inside of a feed-forward. Such a stretch is divided where it begins with products (cut
// by outputs) and ends in products (cut by inputs, whose results are summed over the ranks), and where all
// its heads and blocks allow as many cuts as there are ranks. All else is whole on every rank: the stream
// between the branches, norms over whole rows, routers. The product that gives the result (the head) is cut
// by outputs, and its result put together.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "backend/ops.h"
#include "backend/ranks/slices.h"

namespace millrace::ranks {

using KeptKey = std::pair<int64_t, std::string>;  // layer, and as Memory::keep() has it

// What forwards without numbers did, of batches of one row.
struct Recorded {
  std::vector<Op> ops;                       // activations have addresses as in an arena
  std::map<const std::byte*, KeptKey> kept;  // by where ops named it
};

struct Plan {
  struct Weight {
    Tensor whole;
    Cut cut;
    bool gives_result = false;  // of which each rank has columns then, put together at once
  };
  int n_ranks = 1;
  std::map<const std::byte*, Weight> weights;  // that are cut, by where they lie
  std::map<const std::byte*, Tensor> whole;    // that ops name as a whole: some are cut for others
  std::map<KeptKey, Cut> kept;                 // all others are whole
  int64_t n_undivided_bytes = 0;  // of weights that could be divided among fewer ranks, n_parts at most
  int64_t n_parts = 0;

  const Weight* find(const Tensor& weight) const {
    const auto found = weights.find(weight.data);
    return found == weights.end() ? nullptr : &found->second;
  }
  // Whether no rank reads it where it lies: all have copies of parts.
  bool is_replaced(const Weight& weight) const {
    return !weight.cut.is_view(weight.whole) && !whole.contains(weight.whole.data);
  }
};

Plan plan_ranks(const Recorded& recorded, int n_ranks);

}  // namespace millrace::ranks
