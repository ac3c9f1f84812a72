// Where a model computes. One narrow interface; `reference`, `cpu` and the decorators in tools/ implement it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
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

  // Told of memory that need not be read any more; it may be told again.
  using Release = std::function<void(std::span<const std::byte>)>;
  // Copies weights to where, and in the order in which, they are read fastest; ops go on to name the weights,
  // which must stay as they are. Of a backend that gains something by it; once, by another thread than the
  // one that computes, which it does not hold up. Returns the bytes of the weights that have a copy: fewer
  // than all where `stop` asks for it. Throws Error(does_not_fit) where there is no memory.
  virtual int64_t copy_weights(std::span<const Tensor> /*weights*/, const std::stop_token& /*stop*/,
                               const Release& /*release*/) {
    return 0;
  }
};

// Plain float32 loops over decoded weights: the oracle for every other backend. Slow, and never a silent
// fallback.
std::unique_ptr<Backend> make_reference_backend();

// Kernels for this machine's instruction set on `n_threads` threads. Throws Error(usage) for n_threads < 1.
std::unique_ptr<Backend> make_cpu_backend(int n_threads);

}  // namespace millrace
