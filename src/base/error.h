// Errors, three kinds and three ways. Our bug: check(), which aborts. Their file, flag or machine: Error, an
// exception with one full sentence. Part of life (queue full, cancelled): a value the caller must look at.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace millrace {

// What went wrong, as the exit status of the program says it.
enum class ErrorKind { runtime = 1, usage = 2, bad_model = 3, does_not_fit = 4 };

// A fault of the file, the flags or the machine. what() is one sentence: what was expected, what was found,
// where.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& sentence) : std::runtime_error(sentence), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

// Where a function was called, as a default argument. std::source_location, which clang 14 lacks.
struct SourcePlace {
  const char* file;
  int line;
  const char* function;
  static constexpr SourcePlace current(const char* file = __builtin_FILE(), int line = __builtin_LINE(),
                                       const char* function = __builtin_FUNCTION()) {
    return {file, line, function};
  }
};

// Aborts with the place and `what` when `ok` is false. For our own bugs only: no input may trigger it.
void check(bool ok, const char* what, SourcePlace where = SourcePlace::current());

// `text` fit for a terminal or a log: control characters, escapes and broken UTF-8 are shown as \xNN, and
// more than `max_bytes` are cut with an ellipsis. For every name or string that came from a file or a client.
std::string printable(std::string_view text, size_t max_bytes = 120);

}  // namespace millrace
