// GGUF files made in tests, byte by byte, sound or not. Independent of the writer on purpose.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::gguf {

class FileBytes {
 public:
  template <class T>
  FileBytes& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  FileBytes& u32(uint32_t value) { return put(value); }
  FileBytes& u64(uint64_t value) { return put(value); }
  FileBytes& raw(std::string_view text) {
    bytes_ += text;
    return *this;
  }
  FileBytes& string(std::string_view text) { return u64(text.size()).raw(text); }

  FileBytes& header(uint64_t n_tensors, uint64_t n_entries, uint32_t version = 3) {
    return raw("GGUF").u32(version).u64(n_tensors).u64(n_entries);
  }
  FileBytes& key(std::string_view name, uint32_t type) { return string(name).u32(type); }
  FileBytes& array(std::string_view name, uint32_t type, uint64_t n) { return key(name, 9).u32(type).u64(n); }
  // `dims` innermost first, as the file has them.
  FileBytes& tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
    string(name).u32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) u64(dim);
    return u32(type).u64(offset);
  }
  FileBytes& pad(size_t alignment = 32) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  FileBytes& data(size_t n) { return raw(std::string(n, '\x01')); }

  const std::string& str() const { return bytes_; }
  std::span<const std::byte> span() const { return std::as_bytes(std::span(bytes_)); }

 private:
  std::string bytes_;
};

}  // namespace millrace::gguf
