// The source of a template to tokens. Whitespace control happens here, as Jinja does it with trim_blocks and
// lstrip_blocks: the line end after a block is dropped, and so is the space before a block that begins a
// line.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::jinja {

struct SyntaxError : std::runtime_error {
  SyntaxError(size_t at, const std::string& text) : std::runtime_error(text), offset(at) {}
  size_t offset;  // in the source
};

enum class TokenKind {
  data,
  block_begin,
  block_end,
  print_begin,
  print_end,
  name,
  string,
  integer,
  real,
  op,
  end
};

struct Token {
  TokenKind kind;
  size_t offset;
  std::string text;  // data, name, operator, number as written; of a string its value
};

// Throws SyntaxError.
std::vector<Token> tokenize(std::string_view source);

}  // namespace millrace::jinja
