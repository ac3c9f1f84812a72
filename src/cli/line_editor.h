// Lines typed by a person: editing, history, pasted text. Where standard input is no terminal it just reads
// lines.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace millrace {

// Emacs keys (Ctrl-A E B F D H K U W), arrows, Home and End, UTF-8. A line wider than the terminal scrolls.
// Pasted line breaks stay in the text (bracketed paste). Ctrl-C empties the line.
class LineEditor {
 public:
  // The line without its end; nothing at the end of the input (Ctrl-D on an empty line).
  std::optional<std::string> read(const std::string& prompt);

 private:
  enum class Outcome { more, done, end };

  std::optional<std::string> edit(const std::string& prompt);
  Outcome take(char c);
  Outcome take_escape();
  void take_paste();
  void insert(std::string_view bytes);
  void erase(size_t begin, size_t end);
  size_t before(size_t at) const;
  size_t after(size_t at) const;
  void recall(int step);
  void show(const std::string& prompt) const;

  std::string line_;
  size_t cursor_ = 0;  // byte in line_, at a character
  std::vector<std::string> history_;
  size_t recalled_ = 0;  // index in history_; its size: the new line
};

}  // namespace millrace
