// Two backends as one: of a model that does not fit a device as a whole, the device computes a part and the
// program's processor the rest (docs/adr/0010-split-models.md).
//
//   an op with pages or states   where those lie: each layer's in one of the memories
//   an op with weights           on the device where all of them are held there, else in the program
//   any other op                 where the op before it ran
//
// So where an op runs depends on the model and the split alone, and so do its bits: never on a batch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace millrace {

struct SplitPlaces {
  std::vector<bool> device_layers;     // of each layer, whether its pages and states lie on the device
  std::vector<Tensor> device_weights;  // all that ops on the device name
  std::vector<Tensor> shared_weights;  // those of them that ops in the program name, too
  std::string id;                      // of the split, as results depend on it
};

// `program` computes in the program's memory, `device` in another, where the weights are held at once. Throws
// Error(does_not_fit).
std::unique_ptr<Backend> make_split_backend(std::unique_ptr<Backend> program, std::unique_ptr<Backend> device,
                                            const SplitPlaces& places);

}  // namespace millrace
