// The source of a template to tokens. Whitespace control happens here, as Jinja does it with trim_blocks and
// lstrip_blocks: a line end after a block is dropped, and so is the space before a block that begins a line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::jinja {

enum class TokenKind : uint8_t {
  data,  // text outside of tags
  block_begin,
  block_end,
  variable_begin,
  variable_end,
  name,
  string,
  integer,
  real,
  op,
  end,
};

struct Token {
  TokenKind kind;
  uint32_t offset;   // in the source
  std::string text;  // data, name, op; of a string: its value
  int64_t integer = 0;
  double real = 0;
};

// The source with its line ends as \n, and without the last one.
std::string normalize_newlines(std::string_view source);

// Throws SyntaxError. `source` has its newlines normalized.
std::vector<Token> tokenize(std::string_view source);

}  // namespace millrace::jinja
