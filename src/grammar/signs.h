// Kinds of characters, one bit each, so that what a whole branch of the vocabulary is made of fits in a word.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace millrace {

// Of everything that is not ASCII; and of what is no whole character.
constexpr uint64_t kBeyondAscii = uint64_t{1} << 62, kBrokenChars = uint64_t{1} << 63;

namespace detail {

constexpr std::array<uint64_t, 128> make_signs() {
  std::array<uint64_t, 128> signs{};
  constexpr std::string_view kAlone = " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\n\r\t\x7f";
  for (size_t c = 0; c < 128; ++c) {
    signs[c] = uint64_t{1} << 5;  // control characters
    if (c >= '0' && c <= '9') signs[c] = 1;
    if (c >= 'a' && c <= 'z') signs[c] = uint64_t{1} << (c <= 'f' ? 1 : 2);
    if (c >= 'A' && c <= 'Z') signs[c] = uint64_t{1} << (c <= 'F' ? 3 : 4);
  }
  for (size_t i = 0; i < kAlone.size(); ++i) signs[static_cast<uint8_t>(kAlone[i])] = uint64_t{1} << (6 + i);
  return signs;
}

}  // namespace detail

// Of each character of ASCII. Letters and digits share bits, signs have their own.
inline constexpr std::array<uint64_t, 128> kSigns = detail::make_signs();

}  // namespace millrace
