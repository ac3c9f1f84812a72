// A file descriptor that is closed with the object, and whole reads and writes.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <cstddef>
#include <span>

namespace millrace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

// How many bytes were read: fewer at the end of the file, -1 after an error, which errno tells.
ssize_t read_all(int fd, std::span<std::byte> bytes);
// False after an error, which errno tells.
bool write_all(int fd, std::span<const std::byte> bytes);

}  // namespace millrace
