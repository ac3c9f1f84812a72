#include "backend/tools/staging_backend.h"

#include <vector>

namespace millrace {

void StagingBackend::stage(Tensor& tensor) {
  if (tensor.n_bytes() == 0) return;
  auto [place, is_new] = staged_.try_emplace(tensor.data);
  if (is_new) {
    place->second = Buffer(static_cast<size_t>(tensor.n_bytes()), inner_.memory());
    inner_.memory().write(place->second.data(), {tensor.data, place->second.n_bytes()});
  }
  check(place->second.n_bytes() == static_cast<size_t>(tensor.n_bytes()), "operands that are one or apart");
  tensor.data = place->second.data();
}

void StagingBackend::run(const Op& op) {
  staged_.clear();
  Op copy = op;
  std::vector<Tensor> weights;
  std::vector<std::pair<std::byte*, Tensor*>> written;
  for (const Operand& operand : operands_of(copy)) {
    if (operand.is_written()) written.emplace_back(operand.tensor->data, operand.tensor);
    if (operand.extent == Extent::model) {
      weights.push_back(*operand.tensor);
    } else {
      stage(*operand.tensor);
    }
  }
  if (Batch* batch = batch_of(copy)) {
    for (Tensor* tensor : numbers_of(*batch)) stage(*tensor);
  }
  inner_.hold(weights);
  inner_.run(copy);
  for (const auto& [to, tensor] : written)
    inner_.memory().read(tensor->data, {to, static_cast<size_t>(tensor->n_bytes())});
}

}  // namespace millrace
