#include "checkpoint/tensor_list.h"

#include <algorithm>
#include <numeric>

namespace millrace {

TensorList::TensorList(std::vector<NamedTensor> tensors)
    : tensors_(std::move(tensors)), by_name_(tensors_.size()) {
  const auto name = [this](uint32_t i) -> std::string_view { return tensors_[i].name; };
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::ranges::sort(by_name_, {}, name);
  const auto twin = std::ranges::adjacent_find(by_name_, {}, name);
  if (twin != by_name_.end()) {
    fail(ErrorKind::bad_model, "the tensor name \"{}\" occurs twice", printable(name(*twin)));
  }
}

const Tensor* TensorList::find(std::string_view name) const {
  const auto name_of = [this](uint32_t i) -> std::string_view { return tensors_[i].name; };
  const auto at = std::ranges::lower_bound(by_name_, name, {}, name_of);
  if (at == by_name_.end() || name_of(*at) != name) return nullptr;
  return &tensors_[*at].tensor;
}

}  // namespace millrace
