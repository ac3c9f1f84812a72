#include "backend/tools/staging_backend.h"

#include <vector>

namespace millrace {

void StagedOp::stage(Tensor& tensor) {
  if (tensor.n_bytes() == 0) return;
  auto [place, is_new] = staged_.try_emplace(tensor.data);
  if (is_new) {
    place->second = Buffer(static_cast<size_t>(tensor.n_bytes()), backend_.memory());
    backend_.memory().write(place->second.data(), {tensor.data, place->second.n_bytes()});
  }
  check(place->second.n_bytes() == static_cast<size_t>(tensor.n_bytes()), "operands that are one or apart");
  tensor.data = place->second.data();
}

StagedOp::StagedOp(const Op& op, Backend& backend) : backend_(backend), op_(op) {
  std::vector<Tensor> weights;
  for (const Operand& operand : operands_of(op_)) {
    if (operand.extent == Extent::model) {
      weights.push_back(*operand.tensor);
      continue;
    }
    if (operand.is_written() && operand.tensor->n_bytes() > 0) written_.push_back(operand.tensor->data);
    stage(*operand.tensor);
  }
  if (Batch* batch = batch_of(op_)) {
    for (Tensor* tensor : numbers_of(*batch)) stage(*tensor);
  }
  backend_.hold(weights);
}

void StagedOp::wait() const {
  if (written_.empty()) return;
  std::byte first{};
  backend_.memory().read(staged_.at(written_[0]).data(), {&first, 1});
}

void StagedOp::read_back() const {
  for (std::byte* to : written_) {
    const Buffer& from = staged_.at(to);
    backend_.memory().read(from.data(), {to, from.n_bytes()});
  }
}

}  // namespace millrace
