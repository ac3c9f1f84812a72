// UTF-8, one character at a time. Knows nothing of Unicode properties (text/unicode.h does).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace millrace {

struct Utf8Char {
  uint32_t code_point;  // U+FFFD where is_valid is false
  int n_bytes;  // 1 to 4 when valid; else the length of the maximal broken prefix (Unicode 3.9), at least 1
  bool is_valid;
};

// The character of `text` that begins at byte `at` (< text.size()). Overlong forms, surrogates and values
// above U+10FFFF are invalid.
Utf8Char next_utf8(std::string_view text, size_t at);

void append_utf8(std::string& out, uint32_t code_point);

bool is_utf8(std::string_view text);

// The number of bytes at the end of `text` that begin a character without finishing it: 0 to 3.
int n_unfinished_utf8(std::string_view text);

}  // namespace millrace
