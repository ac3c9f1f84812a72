// The alphabet of byte-level BPE: each byte is written as one printable character, so that vocabularies can
// be stored as text. Bytes 0x21-0x7E, 0xA1-0xAC, 0xAE-0xFF are themselves; the other 68 are U+0100 and up.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace millrace {

std::string to_byte_level(std::string_view bytes);

// Appends the bytes that `text` spells. False, and `out` unchanged, where a character is not in the alphabet.
bool append_from_byte_level(std::string& out, std::string_view text);

}  // namespace millrace
