#include "text/jinja/lexer.h"

#include <array>
#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "text/jinja/error.h"
#include "text/jinja/py_string.h"
#include "text/jinja/string_literal.h"

namespace millrace::jinja {
namespace {

constexpr std::array<std::string_view, 26> kOperators = {
    "//", "**", "==", "!=", ">=", "<=",  // longest first
    "+",  "-",  "/",  "*",  "%",  "~",  "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(source) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) read_data();
    add(TokenKind::end, at_);
    return std::move(tokens_);
  }

 private:
  Token& add(TokenKind kind, size_t offset, std::string text = {}) {
    return tokens_.emplace_back(Token{kind, static_cast<uint32_t>(offset), std::move(text)});
  }
  void add_data(size_t begin, size_t end) {
    if (end > begin) add(TokenKind::data, begin, std::string(text_.substr(begin, end - begin)));
  }

  bool has(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool skip(std::string_view what) {
    if (!has(what)) return false;
    at_ += what.size();
    return true;
  }
  void skip_space() { at_ += count_leading_space(text_.substr(at_)); }
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  // The sign of a tag that was just opened: '-', '+' or none.
  char read_sign() {
    const char sign = peek();
    if (sign != '-' && sign != '+') return '\0';
    ++at_;
    return sign;
  }

  // Whether the text that begins at `begin` begins a line: Jinja looks at the last character it consumed.
  bool begins_line(size_t begin) const { return begin == 0 || text_[begin - 1] == '\n'; }

  // Where text [begin, end) ends once the tag after it has had its way with the whitespace.
  size_t trim_before_tag(size_t begin, size_t end, char sign, bool is_block) const {
    const std::string_view data = text_.substr(begin, end - begin);
    if (sign == '-') return end - count_trailing_space(data);
    if (sign == '+' || !is_block) return end;
    const size_t line = data.rfind('\n') == data.npos ? 0 : data.rfind('\n') + 1;
    if (line == 0 && !begins_line(begin)) return end;
    return count_leading_space(data.substr(line)) == data.size() - line ? begin + line : end;
  }

  // After a tag's closing brackets: `sign` is what stood before them.
  void trim_after_tag(char sign) {
    if (sign == '-') {
      skip_space();
    } else if (sign != '+' && peek() == '\n') {
      ++at_;
    }
  }

  size_t find_tag(size_t from) const {
    for (size_t i = text_.find('{', from); i != text_.npos; i = text_.find('{', i + 1)) {
      if (i + 1 < text_.size() && (text_[i + 1] == '{' || text_[i + 1] == '%' || text_[i + 1] == '#'))
        return i;
    }
    return text_.npos;
  }

  void read_data() {
    const size_t begin = at_;
    const size_t tag = find_tag(at_);
    if (tag == text_.npos) {
      add_data(begin, text_.size());
      at_ = text_.size();
      return;
    }
    const char kind = text_[tag + 1];
    at_ = tag + 2;
    const char sign = read_sign();
    add_data(begin, trim_before_tag(begin, tag, sign, kind != '{'));
    if (kind == '#') {
      skip_comment(tag);
    } else if (kind == '{') {
      add(TokenKind::variable_begin, tag);
      read_tag(TokenKind::variable_end, "}}");
    } else if (skip_raw_begin()) {
      read_raw(tag);
    } else {
      add(TokenKind::block_begin, tag);
      read_tag(TokenKind::block_end, "%}");
    }
  }

  void skip_comment(size_t tag) {
    const size_t end = text_.find("#}", at_);
    if (end == text_.npos) throw SyntaxError(tag, "this comment has no end");
    const char sign = end > at_ ? text_[end - 1] : '\0';
    at_ = end + 2;
    trim_after_tag(sign);
  }

  // `raw %}` or `raw -%}`, after the opening brackets. Takes nothing unless all of it is there.
  bool skip_raw_begin() {
    const size_t back = at_;
    skip_space();
    if (skip("raw")) {
      skip_space();
      if (skip("%}")) return true;
      if (skip("-%}")) {
        skip_space();
        return true;
      }
    }
    at_ = back;
    return false;
  }

  void read_raw(size_t tag) {
    const size_t begin = at_;
    for (size_t i = text_.find("{%", begin); i != text_.npos; i = text_.find("{%", i + 1)) {
      at_ = i + 2;
      const char sign = read_sign();
      skip_space();
      if (!skip("endraw")) continue;
      skip_space();
      const char end_sign = has("%}") ? '\0' : read_sign();
      if (!skip("%}")) continue;
      trim_after_tag(end_sign);
      add_data(begin, trim_before_tag(begin, i, sign, true));
      return;
    }
    throw SyntaxError(tag, "this raw block has no end");
  }

  // Tokens up to the closing brackets. Brackets inside of the expression hide them.
  void read_tag(TokenKind end_kind, std::string_view end) {
    std::string open;
    while (true) {
      skip_space();
      if (at_ >= text_.size()) throw SyntaxError(at_, "the template ends inside of a tag");
      if (open.empty() && read_tag_end(end_kind, end)) return;
      read_token(open);
    }
  }

  bool read_tag_end(TokenKind kind, std::string_view end) {
    const size_t begin = at_;
    char sign = '\0';
    if (!has(end)) {
      const bool is_signed = (peek() == '-' || (peek() == '+' && kind == TokenKind::block_end)) &&
                             text_.substr(at_ + 1).starts_with(end);
      if (!is_signed) return false;
      sign = read_sign();
    }
    at_ += end.size();
    if (kind == TokenKind::block_end || sign == '-') trim_after_tag(sign);
    add(kind, begin);
    return true;
  }

  void read_token(std::string& open) {
    const char c = peek();
    if (is_digit(c)) return read_number();
    if (c == '\'' || c == '"') return read_string(c);
    if (const size_t n = count_name_bytes(text_.substr(at_)); n > 0) {
      add(TokenKind::name, at_, std::string(text_.substr(at_, n)));
      at_ += n;
      return;
    }
    read_operator(open);
  }

  void read_operator(std::string& open) {
    for (std::string_view op : kOperators) {
      if (!has(op)) continue;
      balance(op[0], open);
      add(TokenKind::op, at_, std::string(op));
      at_ += op.size();
      return;
    }
    throw SyntaxError(at_, "this character has no meaning here");
  }

  void balance(char op, std::string& open) {
    if (op == '(') open += ')';
    if (op == '[') open += ']';
    if (op == '{') open += '}';
    if (op != ')' && op != ']' && op != '}') return;
    if (open.empty()) throw SyntaxError(at_, fmt::format("unexpected '{}'", op));
    if (open.back() != op) {
      throw SyntaxError(at_, fmt::format("unexpected '{}', expected '{}'", op, open.back()));
    }
    open.pop_back();
  }

  void read_string(char quote) {
    const size_t begin = at_++;
    while (at_ < text_.size() && text_[at_] != quote) at_ += text_[at_] == '\\' ? 2 : 1;
    if (at_ >= text_.size()) throw SyntaxError(begin, "this string has no end");
    add(TokenKind::string, begin, unescape_string(text_.substr(begin + 1, at_ - begin - 1), begin + 1));
    ++at_;
  }

  // Digits with single underscores between them; nothing where `at` holds no digit.
  size_t skip_digits(size_t at, std::string& digits, bool (*is_of_base)(char)) const {
    while (at < text_.size()) {
      const size_t next = text_[at] == '_' && !digits.empty() ? at + 1 : at;
      if (next >= text_.size() || !is_of_base(text_[next])) break;
      digits += text_[next];
      at = next + 1;
    }
    return at;
  }

  void read_number() {
    if (read_real()) return;
    const size_t begin = at_;
    const char base_char = static_cast<char>(peek(1) | 0x20);
    const int base = peek() != '0'      ? 10
                     : base_char == 'x' ? 16
                     : base_char == 'o' ? 8
                     : base_char == 'b' ? 2
                                        : 10;
    std::string digits;
    if (base != 10 && read_based(base, digits)) return add_integer(begin, digits, base);
    if (peek() == '0') {
      at_ = skip_digits(at_, digits, [](char c) { return c == '0'; });
    } else {
      at_ = skip_digits(at_, digits, is_digit);
    }
    add_integer(begin, digits, 10);
  }

  bool read_based(int base, std::string& digits) {
    const auto is_of_base =
        base == 16  ? [](char c) { return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }
        : base == 8 ? [](char c) { return c >= '0' && c <= '7'; }
                    : [](char c) { return c == '0' || c == '1'; };
    const size_t begin = at_ + 2 + (peek(2) == '_' ? 1 : 0);
    const size_t end = skip_digits(begin, digits, is_of_base);
    if (digits.empty()) return false;
    at_ = end;
    return true;
  }

  void add_integer(size_t begin, const std::string& digits, int base) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc() || end != digits.data() + digits.size()) {
      throw SyntaxError(begin, "this integer does not fit 64 bits");
    }
    add(TokenKind::integer, begin).integer = value;
  }

  // digits [. digits] [e [+-] digits], with a fraction or an exponent.
  bool read_real() {
    if (at_ > 0 && text_[at_ - 1] == '.') return false;
    std::string number;
    size_t end = skip_digits(at_, number, is_digit);
    bool is_real = false;
    if (end + 1 < text_.size() && text_[end] == '.' && is_digit(text_[end + 1])) {
      std::string fraction;
      end = skip_digits(end + 1, fraction, is_digit);
      number += '.' + fraction;
      is_real = true;
    }
    is_real |= read_exponent(end, number);
    if (!is_real) return false;
    double value = 0;
    const auto result = std::from_chars(number.data(), number.data() + number.size(), value);
    if (result.ec == std::errc::result_out_of_range) value = number.find("e-") == number.npos ? HUGE_VAL : 0;
    add(TokenKind::real, at_).real = value;
    at_ = end;
    return true;
  }

  bool read_exponent(size_t& end, std::string& number) const {
    if (end >= text_.size() || (text_[end] | 0x20) != 'e') return false;
    const bool is_signed = end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-');
    std::string digits;
    const size_t exponent_end = skip_digits(end + 1 + (is_signed ? 1 : 0), digits, is_digit);
    if (digits.empty()) return false;
    number += is_signed && text_[end + 1] == '-' ? "e-" : "e";
    number += digits;
    end = exponent_end;
    return true;
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

std::string normalize_newlines(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    out += text[i] == '\r' ? '\n' : text[i];
  }
  if (out.ends_with('\n')) out.pop_back();  // as keep_trailing_newline=False
  return out;
}

std::vector<Token> tokenize(std::string_view source) {
  if (source.size() > size_t{64} << 20) throw SyntaxError(0, "it is larger than the 64 MiB allowed");
  if (!is_utf8(source)) throw SyntaxError(0, "it is no valid UTF-8");
  return Lexer(source).run();
}

}  // namespace millrace::jinja
