// Memory that somebody owns: zeroed pages from the kernel, with huge pages asked for where they pay.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace {

// The room of a tensor among others, each of which begins at a cache line, as wide as the widest vector.
constexpr int64_t aligned(int64_t n_bytes) { return (n_bytes + 63) / 64 * 64; }

class Buffer {
 public:
  Buffer() = default;
  // Zeroed, aligned to a page. Throws Error(does_not_fit) with the number when the kernel has no such memory.
  explicit Buffer(size_t n_bytes);
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  std::byte* data() const { return data_; }
  size_t n_bytes() const { return n_bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace millrace
