// A device that fails when it is told to, in the midst of a step.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "backend/backend.h"
#include "base/error.h"
#include "tensor/forwarding_memory.h"

namespace millrace::testing {

enum class Fault { none, short_of_memory, lost };

class FrailMemory final : public ForwardingMemory {
 public:
  FrailMemory(Memory& inner, const std::atomic<Fault>& fault) : ForwardingMemory(inner), fault_(fault) {}
  void wait() override {
    if (fault_ == Fault::lost) fail(ErrorKind::runtime, "the card has fallen off the bus");
    ForwardingMemory::wait();
  }

 private:
  const std::atomic<Fault>& fault_;
};

// Another backend, with the fault that it is given.
class FrailBackend final : public Backend {
 public:
  explicit FrailBackend(std::unique_ptr<Backend> inner)
      : inner_(std::move(inner)), memory_(inner_->memory(), fault) {}

  std::string_view name() const override { return "frail"; }
  Memory& memory() override { return memory_; }
  void hold(std::span<const Tensor> weights) override { inner_->hold(weights); }
  int64_t held_bytes() const override { return inner_->held_bytes(); }
  void run(const Op& op) override {
    if (std::holds_alternative<LinearGated>(op)) give_way();
    inner_->run(op);
  }

  std::atomic<Fault> fault{Fault::none};

 private:
  void give_way() {
    Fault expected = Fault::short_of_memory;  // once
    if (fault.compare_exchange_strong(expected, Fault::none))
      fail(ErrorKind::does_not_fit, "no room for this");
    if (fault == Fault::lost) fail(ErrorKind::runtime, "a kernel failed");
  }

  std::unique_ptr<Backend> inner_;
  FrailMemory memory_;
};

}  // namespace millrace::testing
