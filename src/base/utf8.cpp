#include "base/utf8.h"

namespace millrace {
namespace {

struct Lead {
  int n_bytes;        // of the whole character; 0 for a byte that begins none
  uint8_t low, high;  // range of the second byte: rules out overlong forms, surrogates and > U+10FFFF
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2) return {0, 0, 0};
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3, 0x80, 0xbf};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte < 0xf4) return {4, 0x80, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {0, 0, 0};
}

}  // namespace

Utf8Char next_utf8(std::string_view text, size_t at) {
  const auto first = static_cast<uint8_t>(text[at]);
  const Lead lead = lead_of(first);
  if (lead.n_bytes == 1) return {first, 1, true};
  if (lead.n_bytes == 0) return {0xfffd, 1, false};
  uint32_t code_point = first & (0x7fu >> lead.n_bytes);
  for (int i = 1; i < lead.n_bytes; ++i) {
    if (at + i >= text.size()) return {0xfffd, i, false};
    const auto byte = static_cast<uint8_t>(text[at + i]);
    const bool fits = i == 1 ? byte >= lead.low && byte <= lead.high : (byte & 0xc0) == 0x80;
    if (!fits) return {0xfffd, i, false};
    code_point = code_point << 6 | (byte & 0x3f);
  }
  return {code_point, lead.n_bytes, true};
}

void append_utf8(std::string& out, uint32_t code_point) {
  const auto put = [&out](uint32_t byte) { out += static_cast<char>(byte); };
  if (code_point < 0x80) return put(code_point);
  if (code_point < 0x800) {
    put(0xc0 | code_point >> 6);
  } else if (code_point < 0x10000) {
    put(0xe0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3f));
  } else {
    put(0xf0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3f));
    put(0x80 | (code_point >> 6 & 0x3f));
  }
  put(0x80 | (code_point & 0x3f));
}

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    if (!c.is_valid) return false;
    at += c.n_bytes;
  }
  return true;
}

int n_unfinished_utf8(std::string_view text) {
  const size_t n_back = text.size() < 3 ? text.size() : 3;
  for (size_t back = 1; back <= n_back; ++back) {
    const size_t at = text.size() - back;
    const Lead lead = lead_of(static_cast<uint8_t>(text[at]));
    if (lead.n_bytes == 1) return 0;
    if (lead.n_bytes == 0) continue;  // a continuation byte, or one that begins nothing
    const bool is_prefix =
        !next_utf8(text, at).is_valid && next_utf8(text, at).n_bytes == static_cast<int>(back);
    return lead.n_bytes > static_cast<int>(back) && is_prefix ? static_cast<int>(back) : 0;
  }
  return 0;
}

}  // namespace millrace
