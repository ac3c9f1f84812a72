#include "kv/page_key.h"

#include <string>

namespace millrace {
namespace {

template <class T>
void add(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Of what goes with a page.
PageKey key_beside(const char* kind, const PageKey& page) {
  std::string bytes = kind;
  add(bytes, page);
  return sha256(bytes);
}

}  // namespace

// The letter keeps the kinds apart.
PageKey root_key(int32_t salt) {
  std::string bytes = "r";
  add(bytes, salt);
  return sha256(bytes);
}

PageKey next_key(const PageKey& before, std::span<const int32_t> tokens) {
  std::string bytes = "p";
  add(bytes, before);
  bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size_bytes());
  return sha256(bytes);
}

PageKey state_key(const PageKey& page) { return key_beside("s", page); }
PageKey pane_key(const PageKey& page) { return key_beside("w", page); }

PageKey parked_key(uint64_t sequence, int64_t page) {
  std::string bytes = "q";
  add(bytes, sequence);
  add(bytes, page);
  return sha256(bytes);
}

}  // namespace millrace
