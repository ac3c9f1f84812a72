#include "tensor/buffer.h"

#include <sys/mman.h>

#include <utility>

#include "base/error.h"

namespace millrace {

Buffer::Buffer(size_t n_bytes) : n_bytes_(n_bytes) {
  if (n_bytes == 0) return;
  void* mapped =
      ::mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) fail(ErrorKind::does_not_fit, "cannot allocate {} bytes of memory", n_bytes);
  constexpr size_t kHugeFrom = size_t{4} << 20;  // smaller buffers would round up to pages they never touch
  if (n_bytes >= kHugeFrom) ::madvise(mapped, n_bytes, MADV_HUGEPAGE);
  data_ = static_cast<std::byte*>(mapped);
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(n_bytes_, other.n_bytes_);
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) ::munmap(data_, n_bytes_);
}

}  // namespace millrace
