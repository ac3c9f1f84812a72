// Runs the reference beside another backend, op by op on the same inputs, and names the first op that
// differs.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "backend/backend.h"

namespace millrace {

class CheckingBackend final : public Backend {
 public:
  struct Difference {
    int64_t op_index;  // ops are counted from 0
    std::string op;    // its name and the shapes of its operands
    std::string output;
    double error;  // normalised_error, and what tolerance_of allows
    double tolerance;

    // One sentence.
    std::string text() const;
  };

  // Both must outlive this. The results are those of `inner`.
  CheckingBackend(Backend& inner, Backend& reference) : inner_(inner), reference_(reference) {}

  std::string_view name() const override { return inner_.name(); }
  void run(const Op& op) override;

  const std::optional<Difference>& first_difference() const { return first_difference_; }
  int64_t n_ops() const { return n_ops_; }

 private:
  void compare(Op& actual, Op& expected);

  Backend& inner_;
  Backend& reference_;
  int64_t n_ops_ = 0;
  std::optional<Difference> first_difference_;
};

}  // namespace millrace
