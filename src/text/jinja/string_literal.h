// The value of a string literal, as Python's unicode-escape codec reads it.
#pragma once

#include <string>
#include <string_view>

namespace millrace::jinja {

// `body` is what stands between the quotes; `offset` is where, for the SyntaxError of a broken escape.
std::string unescape_string(std::string_view body, size_t offset);

}  // namespace millrace::jinja
