// A memory that is another one, but for what a class derived from it says.
#pragma once

#include "tensor/memory.h"

namespace millrace {

class ForwardingMemory : public Memory {
 public:
  // `inner` must outlive it.
  explicit ForwardingMemory(Memory& inner) : inner_(inner) {}

  bool is_of_program() const override { return inner_.is_of_program(); }
  std::byte* allocate(size_t n_bytes) override { return inner_.allocate(n_bytes); }
  void release(std::byte* memory, size_t n_bytes) override { inner_.release(memory, n_bytes); }
  int64_t free_bytes() const override { return inner_.free_bytes(); }
  void write(std::byte* to, std::span<const std::byte> from) override { inner_.write(to, from); }
  void read(const std::byte* from, std::span<std::byte> to) override { inner_.read(from, to); }
  void copy(const std::byte* from, std::byte* to, size_t n_bytes) override { inner_.copy(from, to, n_bytes); }
  void wait() override { inner_.wait(); }

 protected:
  Memory& inner_;
};

}  // namespace millrace
