// SHA-256, where what is equal must be what was meant: keys of the server, keys of pages.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace millrace {

using Digest = std::array<unsigned char, 32>;
Digest sha256(std::string_view bytes);
// 64 digits, in lower case.
std::string hex_of(const Digest& digest);

}  // namespace millrace
