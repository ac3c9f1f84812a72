// Runs ops whose operands lie in the program's memory on a backend that has another: every operand is copied
// there and what was written is copied back. For tests and checks of single ops.
#pragma once

#include <map>

#include "backend/backend.h"
#include "backend/op_operands.h"
#include "tensor/buffer.h"

namespace millrace {

class StagingBackend final : public Backend {
 public:
  // `inner` must outlive this, and sees no other weights at the addresses of those.
  explicit StagingBackend(Backend& inner) : inner_(inner) {}

  std::string_view name() const override { return inner_.name(); }
  void run(const Op& op) override;

 private:
  // Points at a copy; the same one for tensors that are the same.
  void stage(Tensor& tensor);

  Backend& inner_;
  std::map<const std::byte*, Buffer> staged_;
};

}  // namespace millrace
