// Where a model computes. One narrow interface; `reference`, `cpu` and the decorators in tools/ implement it.
#pragma once

#include <memory>
#include <string_view>

#include "backend/ops.h"

namespace millrace {

// Used by one thread at a time.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;
  // Computes the op. Operands must have the shapes the op states: anything else is a bug and aborts.
  virtual void run(const Op& op) = 0;
};

// Plain float32 loops over decoded weights: the oracle for every other backend. Slow, and never a silent
// fallback.
std::unique_ptr<Backend> make_reference_backend();

// Kernels for this machine's instruction set on `n_threads` threads. Throws Error(usage) for n_threads < 1.
std::unique_ptr<Backend> make_cpu_backend(int n_threads);

}  // namespace millrace
