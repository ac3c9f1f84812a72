// Files: mapped read-only, or read whole. Only regular files are opened, without blocking (a FIFO or a device
// named by a hostile folder must not hang us).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace millrace {

// A file mapped read-only into memory, owned. A file that another process cuts while it is mapped ends in
// SIGBUS, which main() turns into a sentence.
class MappedFile {
 public:
  // Throws Error of `kind` when the path is no readable regular file.
  explicit MappedFile(const std::filesystem::path& path, ErrorKind kind = ErrorKind::bad_model);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Gives back the memory that a part of a mapped file takes: whoever reads it again reads the file. Who
  // reads something beside it reads all of it again where it lies in a large page, so first of all
  // prepare_release() of the file.
  static void release(std::span<const std::byte> part);
  static void prepare_release(std::span<const std::byte> file);
  // Whether one of the files has that address in it.
  static bool have(std::span<const std::span<const std::byte>> files, const std::byte* address);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

std::vector<std::span<const std::byte>> bytes_of(std::span<const MappedFile> files);

// The whole content of a regular file of at most `max_bytes`.
std::string read_file(const std::filesystem::path& path, size_t max_bytes,
                      ErrorKind kind = ErrorKind::bad_model);

// A file in the making, beside `path` under a temporary name. Without commit() it leaves no trace, so a crash
// or an error leaves the old file or the new one, never a part. Every failure throws Error(runtime).
class AtomicFile {
 public:
  // `n_bytes`, where known, are what will be written: throws Error(does_not_fit) when the disk has less.
  explicit AtomicFile(std::filesystem::path path, uint64_t n_bytes = 0);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // On disk, under its name. Call once, last.
  void commit();

 private:
  void start_writeback();

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int fd_;
  int64_t n_written_ = 0, n_started_ = 0;  // bytes; the disk was told of the first n_started_
};

// Replaces `path` by `content`, atomically.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

}  // namespace millrace
