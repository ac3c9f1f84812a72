#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/descriptor.h"

namespace millrace {
namespace {

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

// Throws when the disk that holds `path` has fewer than `n_bytes` free.
void need_free_space(const std::filesystem::path& path, uint64_t n_bytes) {
  std::error_code unknown;  // then the writes will tell
  const auto space = std::filesystem::space(path.has_parent_path() ? path.parent_path() : ".", unknown);
  if (unknown || space.available >= n_bytes) return;
  fail(ErrorKind::does_not_fit, "{} needs {} bytes of disk, {} are free", shown(path), n_bytes,
       space.available);
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path, ErrorKind kind) : path_(path) {
  const Descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  size_ = open_size(fd, path, kind);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) fail(ErrorKind::runtime, "cannot map {}: {}", shown(path), std::strerror(errno));
  data_ = static_cast<const std::byte*>(mapped);
  // Where the file system can, what is read from the disk from now on stays in the page cache in pages of 2
  // MiB: a third to a half less time to read weights behind a hypervisor. Elsewhere this fails and changes
  // nothing.
  ::madvise(mapped, size_, MADV_HUGEPAGE);
}

void MappedFile::release(std::span<const std::byte> part) {
  // Whole pages: others share the first and the last.
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(part.data()) + page - 1) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(part.data() + part.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void MappedFile::prepare_release(std::span<const std::byte> file) {
  ::madvise(const_cast<std::byte*>(file.data()), file.size(), MADV_NOHUGEPAGE);
}

bool MappedFile::have(std::span<const std::span<const std::byte>> files, const std::byte* address) {
  return std::ranges::any_of(files, [address](std::span<const std::byte> file) {
    return address >= file.data() && address < file.data() + file.size();
  });
}

std::vector<std::span<const std::byte>> bytes_of(std::span<const MappedFile> files) {
  std::vector<std::span<const std::byte>> out;
  for (const MappedFile& file : files) out.push_back(file.bytes());
  return out;
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
  const ssize_t n_read = read_all(fd.get(), std::as_writable_bytes(std::span(content)));
  if (n_read < 0) fail(kind, "cannot read {}: {}", shown(path), std::strerror(errno));
  content.resize(static_cast<size_t>(n_read));
  return content;
}

AtomicFile::AtomicFile(std::filesystem::path path, uint64_t n_bytes) : path_(std::move(path)) {
  need_free_space(path_, n_bytes);
  temporary_ = path_;
  temporary_ += fmt::format(".{}.part", ::getpid());
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail(ErrorKind::runtime, "cannot create {}: {}", shown(temporary_), std::strerror(errno));
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (!write_all(fd_, bytes))
    fail(ErrorKind::runtime, "cannot write {}: {}", shown(path_), std::strerror(errno));
  n_written_ += static_cast<int64_t>(bytes.size());
  start_writeback();
}

// Lets the disk begin while the next bytes are computed: commit() has less to wait for. A hint, so that it
// may fail.
void AtomicFile::start_writeback() {
  constexpr int64_t kStepBytes = 8 << 20;
  if (n_written_ - n_started_ < kStepBytes) return;
  ::sync_file_range(fd_, n_started_, n_written_ - n_started_, SYNC_FILE_RANGE_WRITE);
  n_started_ = n_written_;
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail(ErrorKind::runtime, "cannot finish {}: {}", shown(path_), std::strerror(errno));
  }
  ::close(std::exchange(fd_, -1));
}

void write_file_atomically(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path, content.size());
  file.write(content);
  file.commit();
}

}  // namespace millrace
