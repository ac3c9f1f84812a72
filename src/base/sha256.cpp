#include "base/sha256.h"

#include <fmt/format.h>
#include <openssl/sha.h>

namespace millrace {

Digest sha256(std::string_view bytes) {
  Digest out{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), out.data());
  return out;
}

std::string hex_of(const Digest& digest) { return fmt::format("{:02x}", fmt::join(digest, "")); }

}  // namespace millrace
