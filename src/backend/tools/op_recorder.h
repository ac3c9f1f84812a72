// Computes nothing and remembers what it is asked for.
#pragma once

#include <vector>

#include "backend/backend.h"

namespace millrace {

class OpRecorder final : public Backend {
 public:
  std::string_view name() const override { return "recorder"; }
  void run(const Op& op) override { ops.push_back(op); }

  std::vector<Op> ops;
};

}  // namespace millrace
