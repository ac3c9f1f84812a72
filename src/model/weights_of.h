// Which tensors a model reads: what backends make copies of.
#pragma once

#include <vector>

#include "model/model.h"

namespace millrace {

// Every tensor that an op of a forward names as a part of the model, in whatever form it has it: those of the
// checkpoint, and those that the family has made.
std::vector<Tensor> weights_of(const Model& model);

// Those of them that activations are multiplied with (Backend::copy_weights).
std::vector<Tensor> multiplied_weights(const Model& model);

}  // namespace millrace
