#include "base/error.h"

#include <cstdio>
#include <cstdlib>

#include "base/utf8.h"

namespace millrace {

void check(bool ok, const char* what, SourcePlace where) {
  if (ok) return;
  std::fprintf(stderr, "bug: %s (%s:%d, %s)\n", what, where.file, where.line, where.function);
  std::abort();
}

std::string printable(std::string_view text, size_t max_bytes) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (out.size() >= max_bytes) return out + "...";
    const Utf8Char c = next_utf8(text, at);
    const bool is_control = c.code_point < 0x20 || (c.code_point >= 0x7f && c.code_point < 0xa0);
    if (c.is_valid && !is_control) {
      out += text.substr(at, c.n_bytes);
    } else {
      for (int i = 0; i < c.n_bytes; ++i)
        out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[at + i]));
    }
    at += c.n_bytes;
  }
  return out;
}

}  // namespace millrace
