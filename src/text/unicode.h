// Properties of Unicode 16.0 characters and the normal forms. The tables are our own, since the tokenizers
// that models were trained with know Unicode 16 and the libraries of the distributions know 14 or 15.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "text/unicode_tables.h"

namespace millrace {

enum class Category : uint8_t {
  Lu,
  Ll,
  Lt,
  Lm,
  Lo,
  Mn,
  Mc,
  Me,
  Nd,
  Nl,
  No,
  Pc,
  Pd,
  Ps,
  Pe,
  Pi,
  Pf,
  Po,
  Sm,
  Sc,
  Sk,
  So,
  Zs,
  Zl,
  Zp,
  Cc,
  Cf,
  Cs,
  Co,
  Cn
};

// A set of characters by their properties: bit i is Category i; White_Space and Han have bits of their own.
using CharSet = uint32_t;

constexpr CharSet set_of(Category category) { return 1u << static_cast<int>(category); }
template <class... Categories>
constexpr CharSet set_of(Category first, Categories... rest) {
  return set_of(first) | set_of(rest...);
}

constexpr CharSet kUpper = set_of(Category::Lu);
constexpr CharSet kLetter = set_of(Category::Lu, Category::Ll, Category::Lt, Category::Lm, Category::Lo);
constexpr CharSet kMark = set_of(Category::Mn, Category::Mc, Category::Me);
constexpr CharSet kNumber = set_of(Category::Nd, Category::Nl, Category::No);
constexpr CharSet kPunctuation =
    set_of(Category::Pc, Category::Pd, Category::Ps, Category::Pe, Category::Pi, Category::Pf, Category::Po);
constexpr CharSet kSymbol = set_of(Category::Sm, Category::Sc, Category::Sk, Category::So);
constexpr CharSet kWhiteSpace = 1u << 30;
constexpr CharSet kHan = 1u << 31;

inline uint8_t unicode_property(uint32_t code_point) {
  if (code_point > 0x10ffff) return static_cast<uint8_t>(Category::Cn);
  const uint32_t block = kUnicodeBlocks[code_point >> kUnicodeBlockBits];
  return kUnicodeProperties[block << kUnicodeBlockBits | (code_point & ((1u << kUnicodeBlockBits) - 1))];
}

inline Category category_of(uint32_t code_point) {
  return static_cast<Category>(unicode_property(code_point) & 0x1f);
}

// The sets that a character is in: test with `sets_of(c) & kLetter`.
inline CharSet sets_of(uint32_t code_point) {
  const uint32_t property = unicode_property(code_point);
  return 1u << (property & 0x1f) | (property & 0x60) << 25;
}

inline bool is_in(uint32_t code_point, CharSet set) { return (sets_of(code_point) & set) != 0; }
inline bool is_white_space(uint32_t code_point) { return is_in(code_point, kWhiteSpace); }
// \w of Unicode regular expressions: letters, marks, decimal digits, connectors and joiners.
bool is_word(uint32_t code_point);

// Appends the full lower case of one character, without regard to its neighbours.
void append_lower(std::string& out, uint32_t code_point);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
// `text` must be valid UTF-8. By utf8proc, which knows Unicode 15: marks added since are not reordered.
std::string normalize(std::string_view text, NormalForm form);
// Whether NFC leaves `text` (valid UTF-8) as it is. A false answer may be wrong, a true one is not.
bool is_surely_nfc(std::string_view text);

// Broken UTF-8 becomes U+FFFD, one for each maximal broken prefix (Unicode 3.9, as Python and Rust do).
std::string repair_utf8(std::string_view text);
// The same as is_utf8(), with long runs of ASCII skipped quickly.
bool is_valid_utf8(std::string_view text);

// The number of bytes from `at` on that are ASCII, in steps of eight: a lower bound.
size_t ascii_run(std::string_view text, size_t at);

// The end of the grapheme cluster that begins at `at`. `text` must be valid UTF-8.
size_t grapheme_end(std::string_view text, size_t at);

}  // namespace millrace
