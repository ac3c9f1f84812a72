// Which tensors a model reads, and where in its forward: what backends make copies of.
#pragma once

#include <vector>

#include "backend/ranks/plan.h"
#include "model/model.h"

namespace millrace {

// Every tensor that an op of a forward names as a part of the model, in whatever form it has it: those of the
// checkpoint, and those that the family has made.
std::vector<Tensor> weights_of(const Model& model);

// Those of them that activations are multiplied with (Backend::copy_weights).
std::vector<Tensor> multiplied_weights(const Model& model);

// The weights of one op of a forward.
struct OpWeights {
  std::vector<Tensor> weights;
  int64_t layer = -1;          // that the op belongs to; -1: before the first one, n_layers: behind the last
  bool is_table = false;       // of Embed: a token reads one row
  bool is_of_experts = false;  // of MoeGated and MoeDown: a row reads those of the experts chosen for it
};
// Those of all ops that have any, in their order. Layers are told by pages and states, and by the names that
// the checkpoint of the model has for its tensors.
std::vector<OpWeights> weights_by_op(const Model& model, const Checkpoint& checkpoint);

// What a model does, for a plan of ranks.
ranks::Recorded recorded_for_ranks(const Model& model);

}  // namespace millrace
