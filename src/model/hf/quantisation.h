// What quantization_config says, and the weights that the tensors of such a checkpoint make.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/packed_weight.h"
#include "checkpoint/safetensors.h"

namespace millrace {

// A tensor of the checkpoint, or what several of them mean together.
struct HfPart {
  std::string name;  // as if it were stored plainly: "….q_proj.weight"
  Tensor tensor;     // without elements where `packed` writes them
  std::shared_ptr<const PackedWeight> packed;
};

class HfQuantisation {
 public:
  // Not quantised.
  HfQuantisation() = default;
  // Of a quantization_config. Throws Error(bad_model), naming it, for a method that is not known and for
  // settings that are not understood.
  explicit HfQuantisation(const Json& config);

  // "fp8", as the config says it; empty where nothing is quantised.
  const std::string& method() const { return method_; }
  // The weights of the tensors that `is_wanted`, each once. `files` must outlive them. Throws
  // Error(bad_model) for a tensor of a type that no weight has.
  std::vector<HfPart> parts(const SafetensorsModel& files,
                            const std::function<bool(std::string_view)>& is_wanted) const;

 private:
  std::string method_;
  std::vector<Packing> packings_;
};

}  // namespace millrace
