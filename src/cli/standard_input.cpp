#include "cli/standard_input.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "text/text_stream.h"

namespace millrace {

bool is_terminal(int descriptor) { return ::isatty(descriptor) == 1; }

std::string read_standard_input(size_t max_bytes) {
  std::string text;
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ErrorKind::runtime, "cannot read standard input: {}", std::strerror(errno));
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > max_bytes)
      fail(ErrorKind::usage, "standard input has more than the {} bytes allowed", max_bytes);
  }
}

std::string valid_utf8(std::string_view text) {
  TextStream stream;
  std::string out = stream.push(text);
  return out + stream.flush();
}

}  // namespace millrace
