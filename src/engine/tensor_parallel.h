// A model computed by several backends together (backend/ranks/ranks.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/ranks/ranks.h"
#include "engine/engine.h"
#include "engine/runner.h"
#include "model/model.h"

namespace millrace {

struct TensorParallel {
  std::unique_ptr<Backend> backend;
  std::vector<MemoryPlan::Part> planned;  // of each rank: in its memory, which others may share
  std::string text;                       // what each rank has, as a sentence
  bool is_less = false;  // whether a part is whole on each rank that fewer ranks would divide
};

struct RankBackends {
  std::vector<std::unique_ptr<Backend>> backends;  // of one kind
  std::unique_ptr<Collective> collective;          // between their memories
};

// Brings to each rank its weights, beside which there is room for what is going to run the model; the memory
// of files of which ranks have copies is given back. Throws Error(usage) for a model of which nothing divides
// among so many, Error(does_not_fit) with the numbers before anything is allocated.
TensorParallel place_on_ranks(const Model& model, const Checkpoint& checkpoint, const RunnerShape& shape,
                              RankBackends ranks);

}  // namespace millrace
