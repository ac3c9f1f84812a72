// The weights of one rank: parts of those in the program's memory, or copies of parts.
#pragma once

#include <map>
#include <vector>

#include "backend/backend.h"
#include "backend/ranks/plan.h"
#include "tensor/buffer.h"

namespace millrace::ranks {

// Weights that a plan cuts, of which parts are held at once.
using WeightGroup = std::vector<const Plan::Weight*>;
// Few, since a GPU rounds each allocation up; not one, since what is brought to a GPU is copied before.
std::vector<WeightGroup> groups_of(const Plan& plan);

class RankWeights {
 public:
  // `plan` and `backend` must outlive it.
  RankWeights(const Plan& plan, int rank, Backend& backend) : plan_(plan), rank_(rank), backend_(backend) {}

  // Has the backend hold what every rank has whole; its part of each of a group. Throws Error(does_not_fit).
  void hold_whole();
  void hold(const WeightGroup& group);

  // The part of a weight that the plan cuts.
  const Tensor& part(const std::byte* whole) const { return parts_.at(whole); }

 private:
  Tensor copy(const Plan::Weight& weight);

  const Plan& plan_;
  const int rank_;
  Backend& backend_;
  std::map<const std::byte*, Tensor> parts_;  // by where the whole ones lie
  std::vector<Buffer> copies_;                // of parts that do not lie in one piece
};

// Bytes of all that a rank has, which a backend with a memory of its own takes; and of the copies among them,
// which any other takes.
int64_t n_held_bytes(const Plan& plan, int rank);
int64_t n_copied_bytes(const Plan& plan, int rank);

}  // namespace millrace::ranks
