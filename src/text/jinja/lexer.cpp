#include "text/jinja/lexer.h"

#include <fmt/core.h>

#include "base/utf8.h"

namespace millrace::jinja {
namespace {

constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=",  // longest first
                                           "+",  "-",  "/",  "*",  "%",  "~",  "[", "]", "(", ")",
                                           "{",  "}",  ">",  "<",  "=",  ".",  ":", "|", ",", ";"};

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_begin(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(source) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) read_data();
    add(TokenKind::end, at_, "");
    return std::move(tokens_);
  }

 private:
  enum class Tag { block, print, comment };

  void add(TokenKind kind, size_t offset, std::string text) {
    tokens_.push_back({kind, offset, std::move(text)});
  }
  bool has(std::string_view what) const { return text_.substr(at_).starts_with(what); }
  bool skip(std::string_view what) {
    if (!has(what)) return false;
    at_ += what.size();
    return true;
  }
  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }

  // Text up to the next tag, then the tag.
  void read_data() {
    const size_t begin = at_;
    size_t tag = begin;
    for (;; ++tag) {
      tag = text_.find('{', tag);
      if (tag == text_.npos || tag + 1 >= text_.size()) {
        tag = text_.size();
        break;
      }
      if (text_[tag + 1] == '%' || text_[tag + 1] == '{' || text_[tag + 1] == '#') break;
    }
    at_ = tag;
    if (tag == text_.size()) return add_data(begin, tag);
    const Tag kind = text_[tag + 1] == '%' ? Tag::block : text_[tag + 1] == '{' ? Tag::print : Tag::comment;
    at_ += 2;
    const char sign = at_ < text_.size() && (text_[at_] == '-' || text_[at_] == '+') ? text_[at_++] : '\0';
    add_data(begin, trimmed(begin, tag, sign, kind));
    if (kind == Tag::comment) return read_comment(tag);
    if (kind == Tag::block && read_raw(tag)) return;
    add(kind == Tag::block ? TokenKind::block_begin : TokenKind::print_begin, tag, "");
    read_code(kind);
  }

  void add_data(size_t begin, size_t end) {
    if (end > begin) add(TokenKind::data, begin, std::string(text_.substr(begin, end - begin)));
  }

  // Where the text before a tag ends once the tag has had its way with the whitespace.
  size_t trimmed(size_t begin, size_t end, char sign, Tag kind) const {
    size_t trimmed_end = end;
    if (sign == '-') {
      while (trimmed_end > begin && is_space(text_[trimmed_end - 1])) --trimmed_end;
      return trimmed_end;
    }
    if (sign == '+' || kind == Tag::print) return end;
    while (trimmed_end > begin && is_space(text_[trimmed_end - 1]) && text_[trimmed_end - 1] != '\n')
      --trimmed_end;
    const bool begins_line = trimmed_end == 0 || text_[trimmed_end - 1] == '\n';
    return begins_line ? trimmed_end : end;
  }

  void after_tag(char sign, Tag kind) {
    if (sign == '-') return skip_space();
    if (sign != '+' && kind != Tag::print) skip("\n");
  }

  void read_comment(size_t begin) {
    const size_t end = text_.find("#}", at_);
    if (end == text_.npos) throw SyntaxError(begin, "a comment is not closed");
    const char sign = end > at_ && (text_[end - 1] == '-' || text_[end - 1] == '+') ? text_[end - 1] : '\0';
    at_ = end + 2;
    after_tag(sign, Tag::comment);
  }

  // {% raw %} ... {% endraw %}: text as it stands. False when the block is another one.
  bool read_raw(size_t begin) {
    const size_t back = at_;
    skip_space();
    char sign = '\0';
    if (!skip("raw") || !close_block(sign)) {
      at_ = back;
      return false;
    }
    after_tag(sign, Tag::block);
    const size_t data = at_;
    for (size_t tag = text_.find("{%", at_); tag != text_.npos; tag = text_.find("{%", tag + 2)) {
      at_ = tag + 2;
      const char open = at_ < text_.size() && (text_[at_] == '-' || text_[at_] == '+') ? text_[at_++] : '\0';
      skip_space();
      if (!skip("endraw") || !close_block(sign)) continue;
      add_data(data, trimmed(data, tag, open, Tag::block));
      after_tag(sign, Tag::block);
      return true;
    }
    throw SyntaxError(begin, "a raw block is not closed");
  }

  bool close_block(char& sign) {
    skip_space();
    sign = has("-%}") || has("+%}") ? text_[at_++] : '\0';
    return skip("%}");
  }

  void read_code(Tag kind) {
    const std::string_view close = kind == Tag::block ? "%}" : "}}";
    int depth = 0;  // of brackets: }} may also end two dicts
    for (;;) {
      skip_space();
      const size_t begin = at_;
      if (at_ >= text_.size()) throw SyntaxError(begin, "a tag is not closed");
      const bool has_sign =
          (text_[at_] == '-' || text_[at_] == '+') && text_.substr(at_ + 1).starts_with(close);
      if (depth == 0 && (has_sign || has(close))) {
        const char sign = has_sign ? text_[at_++] : '\0';
        at_ += close.size();
        add(kind == Tag::block ? TokenKind::block_end : TokenKind::print_end, begin, "");
        return after_tag(sign, kind);
      }
      read_token();
      const std::string& text = tokens_.back().text;
      if (tokens_.back().kind != TokenKind::op) continue;
      if (text == "(" || text == "[" || text == "{") ++depth;
      if (text == ")" || text == "]" || text == "}") --depth;
      if (depth < 0) throw SyntaxError(begin, fmt::format("unexpected '{}'", text));
    }
  }

  void read_token() {
    const char c = text_[at_];
    if (c == '"' || c == '\'') return read_string(c);
    if (is_digit(c)) return read_number();
    const size_t begin = at_;
    if (is_name_begin(c)) {
      while (at_ < text_.size() && (is_name_begin(text_[at_]) || is_digit(text_[at_]))) ++at_;
      return add(TokenKind::name, begin, std::string(text_.substr(begin, at_ - begin)));
    }
    for (const std::string_view op : kOperators) {
      if (skip(op)) return add(TokenKind::op, begin, std::string(op));
    }
    throw SyntaxError(begin, fmt::format("unexpected character at byte {}", begin));
  }

  void read_number() {
    const size_t begin = at_;
    const auto digits = [&] {
      while (at_ < text_.size() && (is_digit(text_[at_]) || text_[at_] == '_')) ++at_;
    };
    digits();
    bool is_real = false;
    if (at_ + 1 < text_.size() && text_[at_] == '.' && is_digit(text_[at_ + 1])) {
      is_real = true;
      ++at_;
      digits();
    }
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
      const size_t back = at_++;
      if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
      if (at_ < text_.size() && is_digit(text_[at_])) {
        is_real = true;
        digits();
      } else {
        at_ = back;
      }
    }
    std::string number(text_.substr(begin, at_ - begin));
    std::erase(number, '_');
    add(is_real ? TokenKind::real : TokenKind::integer, begin, std::move(number));
  }

  void read_string(char quote) {
    const size_t begin = at_++;
    std::string value;
    for (;; ++at_) {
      if (at_ >= text_.size()) throw SyntaxError(begin, "a string is not closed");
      if (text_[at_] == quote) break;
      if (text_[at_] == '\\' && at_ + 1 < text_.size()) {
        ++at_;
        read_escape(begin, value);
      } else {
        value += text_[at_];
      }
    }
    ++at_;
    add(TokenKind::string, begin, std::move(value));
  }

  // The character after a backslash, which at_ stands on; leaves at_ on its last one.
  void read_escape(size_t begin, std::string& out) {
    static constexpr std::string_view kFrom = "nrtbfav0\\'\"", kTo{"\n\r\t\b\f\a\v\0\\'\"", 11};
    const char c = text_[at_];
    const size_t n_digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    if (n_digits > 0) {
      uint32_t code = 0;
      for (size_t i = 0; i < n_digits; ++i) {
        const char digit = ++at_ < text_.size() ? text_[at_] : '\0';
        const int value = is_digit(digit)                ? digit - '0'
                          : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                          : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                                         : -1;
        if (value < 0) throw SyntaxError(begin, "an escape has too few hexadecimal digits");
        code = code << 4 | static_cast<uint32_t>(value);
      }
      append_utf8(out, code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0xfffd : code);
    } else if (const size_t i = kFrom.find(c); i != kFrom.npos) {
      out += kTo[i];
    } else if (c != '\n') {  // a backslash before a line end joins lines
      out += {'\\', c};
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<Token> tokens_{};
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace millrace::jinja
