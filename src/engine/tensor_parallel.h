// A model computed by several backends together (backend/ranks/ranks.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/ranks/ranks.h"
#include "model/model.h"

namespace millrace {

struct TensorParallel {
  std::unique_ptr<Backend> backend;
  std::string text;      // what each rank has, as a sentence
  bool is_less = false;  // whether a part is whole on each rank that fewer ranks would divide
};

// Brings to each rank its weights. Throws Error(usage) for a model of which nothing divides among so many,
// Error(does_not_fit) with the numbers where a rank has no room for its weights.
TensorParallel place_on_ranks(const Model& model, std::vector<std::unique_ptr<Backend>> ranks,
                              std::unique_ptr<Collective> collective);

}  // namespace millrace
