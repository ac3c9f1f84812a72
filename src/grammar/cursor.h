// Reading a grammar that somebody wrote: one character after another, errors with line and column.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "grammar/char_class.h"

namespace millrace {

// A place in a text. `what` names the text in messages ("the regular expression"). All errors are
// Error(usage).
class Cursor {
 public:
  // Throws where the text is no UTF-8 or longer than max_bytes.
  Cursor(std::string_view text, std::string_view what, size_t max_bytes);

  bool is_at_end() const { return at_ >= text_.size(); }
  // The byte here, or so many further on; 0 behind the end.
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }
  bool is_at(std::string_view token) const { return text_.substr(at_).starts_with(token); }
  bool take(std::string_view token);
  void need(std::string_view token);
  void skip(size_t n) { at_ += n; }
  // The next whole character.
  uint32_t next_char();
  // A number in decimal digits, at most nine of them.
  int64_t need_number();
  // n hexadecimal digits.
  uint32_t need_hex(int n);
  // What an escape stands for that is one character in every notation: \n \r \t \f \v \a \e \0 \xHH \uHHHH
  // \UHHHHHHHH, or a sign that is itself; the backslash is taken. Letters that mean nothing are refused.
  uint32_t need_escaped();
  template <class Predicate>
  std::string_view take_while(Predicate is_wanted) {
    const size_t begin = at_;
    while (!is_at_end() && is_wanted(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }
  size_t at() const { return at_; }
  void go_to(size_t at) { at_ = at; }

  [[noreturn]] void fail_here(std::string_view sentence) const;

  // What nests counts itself; deeper than a stack bears is refused.
  class Nesting {
   public:
    explicit Nesting(Cursor& cursor);
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    ~Nesting() { --cursor_.depth_; }

   private:
    Cursor& cursor_;
  };

 private:
  std::string_view text_;
  std::string what_;
  size_t at_ = 0;
  int depth_ = 0;
};

// Classes of regular expressions: \d \w \s, in capitals what is not in them. Empty for other letters.
CharClass class_of_letter(char letter);

}  // namespace millrace
