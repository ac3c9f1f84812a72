#include "base/descriptor.h"

#include <cerrno>

namespace millrace {

ssize_t read_all(int fd, std::span<std::byte> bytes) {
  size_t n_read = 0;
  while (n_read < bytes.size()) {
    const ssize_t n = ::read(fd, bytes.data() + n_read, bytes.size() - n_read);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return -1;
    if (n == 0) break;
    n_read += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(n_read);
}

bool write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace millrace
