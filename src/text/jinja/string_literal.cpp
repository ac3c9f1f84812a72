#include "text/jinja/string_literal.h"

#include <charconv>
#include <cstdint>

#include "base/utf8.h"
#include "text/jinja/error.h"

namespace millrace::jinja {
namespace {

class Unescaper {
 public:
  Unescaper(std::string_view body, size_t offset) : body_(body), offset_(offset) {}

  std::string run() {
    while (at_ < body_.size()) {
      if (body_[at_] == '\\' && at_ + 1 < body_.size()) {
        read_escape();
      } else {
        out_ += body_[at_++];
      }
    }
    return std::move(out_);
  }

 private:
  void read_escape() {
    constexpr std::string_view kNames = "\\'\"abfnrtv\n";
    constexpr std::string_view kValues = "\\'\"\a\b\f\n\r\t\v";
    const char name = body_[at_ + 1];
    if (name == '\n') {
      at_ += 2;  // the line goes on
    } else if (const size_t i = kNames.find(name); i != kNames.npos) {
      out_ += kValues[i];
      at_ += 2;
    } else if (name >= '0' && name <= '7') {
      read_octal();
    } else if (name == 'x' || name == 'u' || name == 'U') {
      read_hex(name == 'x' ? 2 : name == 'u' ? 4 : 8);
    } else if (name == 'N') {
      throw SyntaxError(offset_ + at_, "characters by name (\\N) are not supported");
    } else {
      keep_backslash();
    }
  }

  void read_octal() {
    uint32_t value = 0;
    size_t end = at_ + 1;
    while (end < body_.size() && end < at_ + 4 && body_[end] >= '0' && body_[end] <= '7') {
      value = value * 8 + static_cast<uint32_t>(body_[end++] - '0');
    }
    append_utf8(out_, value);
    at_ = end;
  }

  void read_hex(size_t n_digits) {
    const std::string_view digits = body_.substr(at_ + 2, n_digits);
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() < n_digits || error != std::errc() || end != digits.data() + n_digits) {
      throw SyntaxError(offset_ + at_, fmt::format("this escape needs {} hexadecimal digits", n_digits));
    }
    if (value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) {
      throw SyntaxError(offset_ + at_, "this escape is no Unicode character");
    }
    append_utf8(out_, value);
    at_ += 2 + n_digits;
  }

  // Not an escape. Jinja spells what is not ASCII as \x, \u or \U before Python looks for escapes: so a
  // backslash before such a character escapes that spelling's own backslash.
  void keep_backslash() {
    out_ += '\\';
    ++at_;
    const Utf8Char c = next_utf8(body_, at_);
    if (c.code_point < 0x80) return;
    if (c.code_point < 0x100) {
      out_ += fmt::format("x{:02x}", c.code_point);
    } else if (c.code_point < 0x10000) {
      out_ += fmt::format("u{:04x}", c.code_point);
    } else {
      out_ += fmt::format("U{:08x}", c.code_point);
    }
    at_ += static_cast<size_t>(c.n_bytes);
  }

  std::string_view body_;
  size_t offset_;
  size_t at_ = 0;
  std::string out_;
};

}  // namespace

std::string unescape_string(std::string_view body, size_t offset) { return Unescaper(body, offset).run(); }

}  // namespace millrace::jinja
