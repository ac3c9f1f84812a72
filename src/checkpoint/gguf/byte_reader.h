// A cursor over the bytes of a file that cannot leave them, with a limit on the memory that may be made of
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/error.h"

namespace millrace::gguf {

// Bytes that metadata and tensor list may take beside the mapped file. Some claims cost more in memory than
// in the file (an array of bytes becomes one of int64), so it is the memory that is counted. A vocabulary of
// 262,144 tokens with its merges takes 16 MiB of it.
inline constexpr uint64_t kMemoryLimit = 48u << 20;

// Views only. Every read throws Error(bad_model) where the file has fewer bytes left; `what` names the thing
// that was to be read, for the sentence.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> file, std::string_view name, uint64_t& memory_left)
      : file_(file), name_(name), memory_left_(memory_left) {}

  std::span<const std::byte> file() const { return file_; }
  size_t at() const { return at_; }
  size_t n_left() const { return file_.size() - at_; }

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorKind::bad_model, "{}: {}", printable(name_), fmt::format(format, std::forward<Args>(args)...));
  }

  // `n` claimed things of at least `min_bytes` each must fit into the rest of the file.
  void need(uint64_t n, size_t min_bytes, const char* what) const {
    if (n <= n_left() / min_bytes) return;
    refuse(
        "cut off or corrupt: expected {} {} of at least {} byte(s) each from byte {} on, found {} bytes to "
        "the end",
        n, what, min_bytes, at_, n_left());
  }

  void take_memory(uint64_t n_bytes) {
    if (n_bytes > memory_left_) {
      refuse("metadata and tensor list would take more than the {} MiB of memory allowed",
             kMemoryLimit >> 20);
    }
    memory_left_ -= n_bytes;
  }

  std::span<const std::byte> bytes(uint64_t n, const char* what) {
    need(n, 1, what);
    const auto taken = file_.subspan(at_, n);
    at_ += n;
    return taken;
  }

  template <class T>
  T read(const char* what) {
    T value;
    if (n_left() < sizeof(T)) {
      refuse("cut off: expected {} at byte {}, found {} bytes to the end", what, at_, n_left());
    }
    std::memcpy(&value, file_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }

  std::string_view string(const char* what) {
    const auto n = read<uint64_t>(what);
    if (n > n_left()) {
      refuse("cut off or corrupt: expected {} of {} bytes at byte {}, found {} to the end", what, n, at_,
             n_left());
    }
    const auto text = bytes(n, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  std::span<const std::byte> file_;
  std::string_view name_;
  uint64_t& memory_left_;
  size_t at_ = 0;
};

}  // namespace millrace::gguf
