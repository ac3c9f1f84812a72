// Runs ops whose operands lie in the program's memory on a backend that has another: every operand is copied
// there and what was written is copied back. For tests, checks and times of single ops.
#pragma once

#include <map>

#include "backend/backend.h"
#include "backend/op_operands.h"
#include "tensor/buffer.h"

namespace millrace {

// An op with copies of its operands in the memory of `backend`, which holds its weights. Both must outlive
// this.
class StagedOp {
 public:
  StagedOp(const Op& op, Backend& backend);

  const Op& op() const { return op_; }
  void wait() const;
  // Waits for the op; then the operands that were copied have what it has written.
  void read_back() const;

 private:
  // Points at a copy; the same one for tensors that are the same.
  void stage(Tensor& tensor);

  Backend& backend_;
  Op op_;
  std::map<std::byte*, Buffer> staged_;  // copies, by what they are of
  std::vector<std::byte*> written_;
};

class StagingBackend final : public Backend {
 public:
  // `inner` must outlive this, and sees no other weights at the addresses of those.
  explicit StagingBackend(Backend& inner) : inner_(inner) {}

  std::string_view name() const override { return inner_.name(); }
  void run(const Op& op) override {
    const StagedOp staged(op, inner_);
    inner_.run(staged.op());
    staged.read_back();
  }

 private:
  Backend& inner_;
};

}  // namespace millrace
