#include "tensor/buffer.h"

#include <utility>

namespace millrace {

Buffer::Buffer(size_t n_bytes, Memory& memory)
    : data_(n_bytes > 0 ? memory.allocate(n_bytes) : nullptr), n_bytes_(n_bytes), memory_(&memory) {}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      n_bytes_(std::exchange(other.n_bytes_, 0)),
      memory_(other.memory_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  std::swap(memory_, other.memory_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) memory_->release(data_, n_bytes_);
}

}  // namespace millrace
