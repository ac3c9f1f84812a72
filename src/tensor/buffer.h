// Memory that somebody owns.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/memory.h"

namespace millrace {

// The room of a tensor among others, each of which begins at a cache line, as wide as the widest vector.
constexpr int64_t aligned(int64_t n_bytes) { return (n_bytes + 63) / 64 * 64; }

class Buffer {
 public:
  Buffer() = default;
  // As Memory::allocate. `memory` must outlive the buffer.
  explicit Buffer(size_t n_bytes, Memory& memory = program_memory());
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  size_t n_bytes() const { return n_bytes_; }
  Memory& memory() const { return *memory_; }

 private:
  std::byte* data_ = nullptr;
  size_t n_bytes_ = 0;
  Memory* memory_ = nullptr;
};

}  // namespace millrace
