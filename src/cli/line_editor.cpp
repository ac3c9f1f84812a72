#include "cli/line_editor.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cwchar>

#include "base/utf8.h"
#include "cli/standard_input.h"

namespace millrace {
namespace {

// The terminal gives every key at once and echoes nothing, until the end of the scope.
class RawMode {
 public:
  RawMode() {
    ::tcgetattr(STDIN_FILENO, &before_);
    termios raw = before_;
    raw.c_iflag &= ~static_cast<tcflag_t>(ICRNL | IXON);
    raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON | ISIG | IEXTEN);
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    fmt::print("\x1b[?2004h");  // mark pasted text
  }
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;
  ~RawMode() {
    fmt::print("\x1b[?2004l");
    std::fflush(stdout);
    ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }

 private:
  termios before_{};
};

constexpr char ctrl(char letter) { return static_cast<char>(letter & 31); }

std::optional<char> read_byte() {
  char c = 0;
  return ::read(STDIN_FILENO, &c, 1) == 1 ? std::optional(c) : std::nullopt;
}

int n_columns() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// Columns that a character takes: 0 for combining ones, 2 for wide ones; line breaks are shown as a sign.
int width_of(uint32_t code_point) {
  if (code_point == '\n') return 1;
  const int width = ::wcwidth(static_cast<wchar_t>(code_point));
  return width < 0 ? 1 : width;
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t'; }

std::optional<std::string> read_plain() {
  std::string line;
  for (;;) {
    const auto c = read_byte();
    if (!c) return line.empty() ? std::nullopt : std::optional(line);
    if (*c == '\n') return line;
    line += *c;
  }
}

}  // namespace

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  if (!is_terminal(STDIN_FILENO)) return read_plain();
  std::optional<std::string> line = edit(prompt);
  if (line && !line->empty() && (history_.empty() || history_.back() != *line)) history_.push_back(*line);
  return line;
}

std::optional<std::string> LineEditor::edit(const std::string& prompt) {
  line_.clear();
  cursor_ = 0;
  recalled_ = history_.size();
  const RawMode raw;
  Outcome outcome = Outcome::more;
  while (outcome == Outcome::more) {
    show(prompt);
    const auto c = read_byte();
    outcome = c ? take(*c) : Outcome::end;
  }
  fmt::print("\r\n");
  return outcome == Outcome::done ? std::optional(line_) : std::nullopt;
}

LineEditor::Outcome LineEditor::take(char c) {
  switch (c) {
    case '\r':
    case '\n':
      return Outcome::done;
    case ctrl('A'):
      cursor_ = 0;
      break;
    case ctrl('E'):
      cursor_ = line_.size();
      break;
    case ctrl('B'):
      cursor_ = before(cursor_);
      break;
    case ctrl('F'):
      cursor_ = after(cursor_);
      break;
    case ctrl('P'):
      recall(-1);
      break;
    case ctrl('N'):
      recall(1);
      break;
    case ctrl('K'):
      erase(cursor_, line_.size());
      break;
    case ctrl('U'):
      erase(0, cursor_);
      break;
    case ctrl('C'):
      erase(0, line_.size());
      break;
    case ctrl('H'):
    case 127:
      erase(before(cursor_), cursor_);
      break;
    case ctrl('D'):
      if (line_.empty()) return Outcome::end;
      erase(cursor_, after(cursor_));
      break;
    case ctrl('W'): {
      size_t begin = cursor_;
      while (begin > 0 && is_space(line_[begin - 1])) --begin;
      while (begin > 0 && !is_space(line_[begin - 1])) --begin;
      erase(begin, cursor_);
      break;
    }
    case 27:
      return take_escape();
    default:
      if (static_cast<unsigned char>(c) >= 32 || c == '\t') insert({&c, 1});
  }
  return Outcome::more;
}

// Keys that send ESC [ digits letter, or ESC O letter.
LineEditor::Outcome LineEditor::take_escape() {
  auto c = read_byte();
  if (!c || (*c != '[' && *c != 'O')) return Outcome::more;
  std::string digits;
  for (c = read_byte(); c && ((*c >= '0' && *c <= '9') || *c == ';'); c = read_byte()) digits += *c;
  if (!c) return Outcome::end;
  switch (*c) {
    case 'A':
      recall(-1);
      break;
    case 'B':
      recall(1);
      break;
    case 'C':
      cursor_ = after(cursor_);
      break;
    case 'D':
      cursor_ = before(cursor_);
      break;
    case 'H':
      cursor_ = 0;
      break;
    case 'F':
      cursor_ = line_.size();
      break;
    case '~':
      if (digits == "1" || digits == "7") cursor_ = 0;
      if (digits == "4" || digits == "8") cursor_ = line_.size();
      if (digits == "3") erase(cursor_, after(cursor_));
      if (digits == "200") take_paste();
      break;
    default:
      break;
  }
  return Outcome::more;
}

void LineEditor::take_paste() {
  constexpr std::string_view kEnd = "\x1b[201~";
  std::string pasted;
  while (!pasted.ends_with(kEnd)) {
    const auto c = read_byte();
    if (!c) return;
    pasted += *c == '\r' ? '\n' : *c;
  }
  pasted.resize(pasted.size() - kEnd.size());
  std::erase_if(pasted, [](char c) { return static_cast<unsigned char>(c) < 32 && c != '\n' && c != '\t'; });
  insert(pasted);
}

void LineEditor::insert(std::string_view bytes) {
  line_.insert(cursor_, bytes);
  cursor_ += bytes.size();
}

void LineEditor::erase(size_t begin, size_t end) {
  line_.erase(begin, end - begin);
  cursor_ = begin;
}

size_t LineEditor::before(size_t at) const {
  if (at > 0) --at;
  while (at > 0 && (line_[at] & 0xc0) == 0x80) --at;
  return at;
}

size_t LineEditor::after(size_t at) const {
  return at < line_.size() ? at + static_cast<size_t>(next_utf8(line_, at).n_bytes) : at;
}

void LineEditor::recall(int step) {
  if ((step < 0 && recalled_ == 0) || (step > 0 && recalled_ == history_.size())) return;
  recalled_ += static_cast<size_t>(step);
  line_ = recalled_ < history_.size() ? history_[recalled_] : "";
  cursor_ = line_.size();
}

// Shows as much of the line before the cursor as fits, then what fits after it.
void LineEditor::show(const std::string& prompt) const {
  const int room = std::max(8, n_columns() - static_cast<int>(prompt.size()) - 1);
  const auto width_at = [&](size_t at) { return width_of(next_utf8(line_, at).code_point); };
  size_t begin = cursor_;
  int before_width = 0;
  while (begin > 0 && before_width + width_at(before(begin)) <= room) {
    begin = before(begin);
    before_width += width_at(begin);
  }
  size_t end = cursor_;
  for (int width = before_width; end < line_.size() && width + width_at(end) <= room; end = after(end))
    width += width_at(end);
  std::string shown = line_.substr(begin, end - begin);
  for (size_t at = 0; (at = shown.find('\n', at)) != std::string::npos;) shown.replace(at, 1, "\u21b5");
  fmt::print("\r{}{}\x1b[K\r\x1b[{}C", prompt, shown, static_cast<int>(prompt.size()) + before_width);
  std::fflush(stdout);
}

}  // namespace millrace
