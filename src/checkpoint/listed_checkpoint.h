// What checkpoints have in common whose tensors are known as a list.
#pragma once

#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/named_list.h"

namespace millrace {

class ListedCheckpoint : public Checkpoint {
 public:
  std::span<const NamedTensor> tensors() const final { return tensors_.all(); }
  const Tensor* find(std::string_view name) const final {
    const NamedTensor* named = tensors_.find(name);
    return named == nullptr ? nullptr : &named->tensor;
  }

 protected:
  // Throws Error(bad_model) when two have one name.
  explicit ListedCheckpoint(std::vector<NamedTensor> tensors) : tensors_(std::move(tensors)) {}

 private:
  NamedList<NamedTensor> tensors_;
};

}  // namespace millrace
