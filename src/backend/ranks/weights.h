// The weights of one rank: parts of those in the program's memory, or copies of parts.
#pragma once

#include <map>
#include <vector>

#include "backend/backend.h"
#include "backend/ranks/plan.h"
#include "tensor/buffer.h"

namespace millrace::ranks {

class RankWeights {
 public:
  // Has `backend` hold them. Throws Error(does_not_fit).
  RankWeights(const Plan& plan, int rank, Backend& backend);

  // The part of a weight that the plan cuts.
  const Tensor& part(const std::byte* whole) const { return parts_.at(whole); }

 private:
  Tensor copy(const Plan::Weight& weight, int rank);

  std::map<const std::byte*, Tensor> parts_;  // by where the whole ones lie
  std::vector<Buffer> copies_;                // of parts that do not lie in one piece
};

// Bytes that a backend with a memory of its own takes for them.
int64_t n_held_bytes(const Plan& plan, int rank);

}  // namespace millrace::ranks
