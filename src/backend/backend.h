// What computes: a narrow interface; `reference`, `cpu`, `cuda` and the decorators in tools/ implement it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>

#include "backend/ops.h"
#include "tensor/memory.h"

namespace millrace {

// What a machine can do at most, measured.
struct DeviceLimits {
  double read_bytes_per_second;  // of memory far larger than the caches
  double bf16_flops_per_second;  // of products in bfloat16 with float32 sums, two each
};

// Used by one thread at a time.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;
  // Computes the op. Operands must have the shapes the op states: anything else is a bug and aborts. It is
  // done when memory() is read.
  virtual void run(const Op& op) = 0;
  // Whether that returns before the op is computed, so that more can be given to it meanwhile.
  virtual bool computes_later() const { return false; }

  // Ops that a device keeps, to run them again on the same operands: what lies there may be other things by
  // then.
  class Recording {
   public:
    virtual ~Recording() = default;
    // False where it cannot be run any more, and was not.
    virtual bool run() = 0;
  };
  // Whether record() gives one.
  virtual bool can_record() const { return false; }
  // Of what `ops` runs, which is not computed by that. The same must have been run before: a recording
  // allocates nothing. It must not outlive the backend.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& /*ops*/) { return nullptr; }

  // Bytes of memory() that running any of `ops` takes besides operands, and that stay taken for others. Only
  // the shapes of activations are looked at.
  virtual int64_t scratch_bytes(std::span<const Op> /*ops*/) { return 0; }
  // Takes them now: then none of these ops takes any. Throws Error(does_not_fit).
  virtual void prepare(std::span<const Op> /*ops*/) {}

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

  // What decides the bits of results besides the build: a set of instructions, a kind of GPU.
  virtual std::string machine() const { return {}; }

  // Of a backend with a machine of its own; of those that compute with the program's, see
  // tools/machine_limits.h.
  virtual std::optional<DeviceLimits> measure_limits() { return {}; }

  // Where operands lie, but for weights, which always lie in the program's memory: of those a backend with
  // another memory computes with copies.
  virtual Memory& memory() { return program_memory(); }
  // Makes those copies, which are kept as long as the backend: `weights` are all that ops will name, whole or
  // in parts, and do not change. Throws Error(does_not_fit).
  virtual void hold(std::span<const Tensor> /*weights*/) {}
  // Of all of those copies.
  virtual int64_t held_bytes() const { return 0; }
};

// Plain float32 loops over decoded weights: the oracle for every other backend. Slow, and never a silent
// fallback.
std::unique_ptr<Backend> make_reference_backend();

// Kernels for this machine's instruction set on `n_threads` threads. Throws Error(usage) for n_threads < 1.
std::unique_ptr<Backend> make_cpu_backend(int n_threads);

}  // namespace millrace
