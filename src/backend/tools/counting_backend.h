// Counts what passes through: ops, bytes, flops.
#pragma once

#include "backend/backend.h"
#include "backend/op_shapes.h"
#include "backend/tools/op_table.h"

namespace millrace {

class CountingBackend final : public Backend {
 public:
  // Counts and computes nothing: a forward on a measuring Arena gives the plan. Shapes are checked.
  CountingBackend() = default;
  // Counts and hands every op to `inner`, which must outlive this.
  explicit CountingBackend(Backend& inner) : inner_(&inner) {}

  std::string_view name() const override { return inner_ != nullptr ? inner_->name() : "counting"; }
  void run(const Op& op) override {
    check_shapes(op);
    table_.add(op, cost_of(op, inner_ != nullptr ? Elements::readable : Elements::unknown), 0);
    if (inner_ != nullptr) inner_->run(op);
  }

  const OpTable& table() const { return table_; }

 private:
  Backend* inner_ = nullptr;
  OpTable table_;
};

}  // namespace millrace
