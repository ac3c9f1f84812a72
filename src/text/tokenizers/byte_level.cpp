#include "text/tokenizers/byte_level.h"

#include <array>
#include <cstdint>

#include "base/utf8.h"

namespace millrace {
namespace {

struct Alphabet {
  std::array<uint16_t, 256> char_of{};
  std::array<int16_t, 512> byte_of{};  // -1: not in the alphabet

  constexpr Alphabet() {
    byte_of.fill(-1);
    uint16_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool is_itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      char_of[static_cast<size_t>(byte)] = is_itself ? static_cast<uint16_t>(byte) : next++;
      byte_of[char_of[static_cast<size_t>(byte)]] = static_cast<int16_t>(byte);
    }
  }
};
constexpr Alphabet kAlphabet;

}  // namespace

std::string to_byte_level(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 4);
  for (const char byte : bytes) append_utf8(out, kAlphabet.char_of[static_cast<uint8_t>(byte)]);
  return out;
}

bool append_from_byte_level(std::string& out, std::string_view text) {
  const size_t n_before = out.size();
  for (size_t at = 0; at < text.size();) {
    const auto first = static_cast<uint8_t>(text[at]);
    // All characters of the alphabet are below U+0200: one byte, or two of which the first is C2 to C7.
    uint32_t code_point = 0xffff;
    if (first < 0x80) {
      code_point = first;
      at += 1;
    } else if (first >= 0xc2 && first <= 0xc7 && at + 1 < text.size() &&
               (static_cast<uint8_t>(text[at + 1]) & 0xc0) == 0x80) {
      code_point = (first & 0x1fu) << 6 | (static_cast<uint8_t>(text[at + 1]) & 0x3fu);
      at += 2;
    }
    const int byte = code_point < 512 ? kAlphabet.byte_of[code_point] : -1;
    if (byte < 0) {
      out.resize(n_before);
      return false;
    }
    out += static_cast<char>(byte);
  }
  return true;
}

}  // namespace millrace
