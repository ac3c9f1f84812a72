// Standard input and what it is.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace millrace {

bool is_terminal(int descriptor);
// All of it. Throws Error(usage) beyond `max_bytes`.
std::string read_standard_input(size_t max_bytes);
// `text` with broken bytes replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace millrace
