// Times what passes through.
#pragma once

#include <chrono>

#include "backend/backend.h"
#include "backend/tools/op_table.h"

namespace millrace {

class TracingBackend final : public Backend {
 public:
  // `inner` must outlive this.
  explicit TracingBackend(Backend& inner) : inner_(inner) {}

  std::string_view name() const override { return inner_.name(); }
  void run(const Op& op) override {
    const auto begin = std::chrono::steady_clock::now();
    inner_.run(op);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    table_.add(op, cost_of(op, Elements::readable), taken.count());
  }

  const OpTable& table() const { return table_; }

 private:
  Backend& inner_;
  OpTable table_;
};

}  // namespace millrace
