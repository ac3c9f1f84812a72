// Named tensors in the order of the file, found by name. What every container's Checkpoint holds.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace millrace {

class TensorList {
 public:
  TensorList() = default;
  // Throws Error(bad_model) when two tensors have one name.
  explicit TensorList(std::vector<NamedTensor> tensors);

  std::span<const NamedTensor> all() const { return tensors_; }
  const Tensor* find(std::string_view name) const;

 private:
  std::vector<NamedTensor> tensors_;
  std::vector<uint32_t> by_name_;  // indices into tensors_, in the order of their names
};

}  // namespace millrace
