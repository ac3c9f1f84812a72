#include "grammar/cursor.h"

#include <cctype>

#include "base/error.h"
#include "base/utf8.h"

namespace millrace {
namespace {

constexpr int kMaxNesting = 120;

}  // namespace

Cursor::Cursor(std::string_view text, std::string_view what, size_t max_bytes) : text_(text), what_(what) {
  if (text.size() > max_bytes)
    fail(ErrorKind::usage, "{} has {} bytes, expected at most {}", what, text.size(), max_bytes);
  if (!is_utf8(text)) fail(ErrorKind::usage, "{} is not valid UTF-8", what);
}

bool Cursor::take(std::string_view token) {
  if (!is_at(token)) return false;
  at_ += token.size();
  return true;
}

void Cursor::need(std::string_view token) {
  if (!take(token)) fail_here(fmt::format("expected {}", token));
}

uint32_t Cursor::next_char() {
  if (is_at_end()) fail_here("it ends too early");
  const Utf8Char c = next_utf8(text_, at_);
  at_ += static_cast<size_t>(c.n_bytes);
  return c.code_point;
}

int64_t Cursor::need_number() {
  const auto digits = take_while([](char c) { return c >= '0' && c <= '9'; });
  if (digits.empty() || digits.size() > 9) fail_here("expected a number of at most nine digits");
  return std::stoll(std::string(digits));
}

uint32_t Cursor::need_hex(int n) {
  uint32_t value = 0;
  for (int i = 0; i < n; ++i) {
    const char c = peek();
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0)
      fail_here(fmt::format("expected {} hexadecimal digits", n));
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    value = value << 4 | static_cast<uint32_t>(digit);
    ++at_;
  }
  if (value > CharClass::kLast || (value >= 0xd800 && value <= 0xdfff))
    fail_here("there is no such character");
  return value;
}

uint32_t Cursor::need_escaped() {
  const uint32_t c = next_char();
  switch (c) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case 'a':
      return '\a';
    case 'e':
      return 0x1b;
    case '0':
      return 0;
    case 'x':
      return need_hex(2);
    case 'u':
      return need_hex(4);
    case 'U':
      return need_hex(8);
    default:
      break;
  }
  if (c < 0x80 && std::isalnum(static_cast<int>(c)) != 0) {
    at_ -= 2;
    fail_here(fmt::format("the escape \\{} cannot be enforced", static_cast<char>(c)));
  }
  return c;
}

void Cursor::fail_here(std::string_view sentence) const {
  size_t line = 1, column = 1;
  for (size_t i = 0; i < std::min(at_, text_.size()); ++i) {
    column = text_[i] == '\n' ? 1 : column + 1;
    line += text_[i] == '\n' ? 1 : 0;
  }
  const std::string near = at_ < text_.size() ? printable(text_.substr(at_, 20)) : "the end";
  fail(ErrorKind::usage, "{}: {} at line {}, column {}, near {}", what_, sentence, line, column, near);
}

Cursor::Nesting::Nesting(Cursor& cursor) : cursor_(cursor) {
  if (++cursor.depth_ > kMaxNesting) {
    --cursor.depth_;
    cursor.fail_here(fmt::format("groups are more than {} deep in each other", kMaxNesting));
  }
}

CharClass class_of_letter(char letter) {
  CharClass set;
  switch (letter | 0x20) {
    case 'd':
      set.add('0', '9');
      break;
    case 'w':
      set.add('0', '9');
      set.add('A', 'Z');
      set.add('a', 'z');
      set.add('_', '_');
      break;
    case 's':
      set.add('\t', '\r');
      for (const uint32_t c : {0x20u, 0xa0u, 0x1680u, 0x2028u, 0x2029u, 0x202fu, 0x205fu, 0x3000u, 0xfeffu})
        set.add(c, c);
      set.add(0x2000, 0x200a);
      break;
    default:
      return set;
  }
  return std::isupper(static_cast<unsigned char>(letter)) != 0 ? set.negated() : set;
}

}  // namespace millrace
