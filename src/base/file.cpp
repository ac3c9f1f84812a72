#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace millrace {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

std::string shown(const std::filesystem::path& path) { return printable(path.string(), 400); }

// The size of the regular file behind `fd`; throws for anything else.
size_t open_size(const Descriptor& fd, const std::filesystem::path& path, ErrorKind kind) {
  struct stat info {};
  if (fd.get() < 0 || ::fstat(fd.get(), &info) != 0) {
    fail(kind, "cannot open {}: {}", shown(path), std::strerror(errno));
  }
  if (S_ISDIR(info.st_mode)) fail(kind, "expected a file, found a folder: {}", shown(path));
  if (!S_ISREG(info.st_mode)) fail(kind, "expected a regular file, found something else: {}", shown(path));
  return static_cast<size_t>(info.st_size);
}

void write_all(int fd, std::string_view content, const std::filesystem::path& path) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorKind::runtime, "cannot write {}: {}", shown(path), std::strerror(errno));
    content.remove_prefix(static_cast<size_t>(n));
  }
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path, ErrorKind kind) : path_(path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  size_ = open_size(fd, path, kind);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) fail(ErrorKind::runtime, "cannot map {}: {}", shown(path), std::strerror(errno));
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_file(const std::filesystem::path& path, size_t max_bytes, ErrorKind kind) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  const size_t size = open_size(fd, path, kind);
  if (size > max_bytes) fail(kind, "{} has {} bytes, more than the {} allowed", shown(path), size, max_bytes);
  std::string content(size, '\0');
  size_t n_read = 0;
  while (n_read < size) {
    const ssize_t n = ::read(fd.get(), content.data() + n_read, size - n_read);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(kind, "cannot read {}: {}", shown(path), std::strerror(errno));
    if (n == 0) break;
    n_read += static_cast<size_t>(n);
  }
  content.resize(n_read);
  return content;
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  std::filesystem::path temporary = path;
  temporary += fmt::format(".{}.part", ::getpid());
  {
    const Descriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (fd.get() < 0)
      fail(ErrorKind::runtime, "cannot create {}: {}", shown(temporary), std::strerror(errno));
    try {
      write_all(fd.get(), content, temporary);
    } catch (...) {
      ::unlink(temporary.c_str());
      throw;
    }
    ::fsync(fd.get());
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    fail(ErrorKind::runtime, "cannot rename {} to {}: {}", shown(temporary), shown(path),
         std::strerror(errno));
  }
}

}  // namespace millrace
