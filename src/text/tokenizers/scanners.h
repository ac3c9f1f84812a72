// Hand-written matchers for the patterns that published tokenizers split by: exact over the tables of
// unicode.h, and several times faster than a regular expression engine. Each has `Match next(text, from)
// const`.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "text/tokenizers/split.h"
#include "text/unicode.h"

namespace millrace {

// The character at a place, and what sets it is in. Past the end: no bytes, in no set.
struct Look {
  CharSet sets = 0;
  uint32_t code_point = 0;
  int n_bytes = 0;

  bool is_end() const { return n_bytes == 0; }
  bool is(CharSet set) const { return (sets & set) != 0; }
  bool is_newline() const { return code_point == '\n' || code_point == '\r'; }
};
Look look_wide(std::string_view text, size_t at);

extern const std::array<CharSet, 128> kAsciiSets;

inline Look look(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const auto byte = static_cast<uint8_t>(text[at]);
  if (byte < 0x80) return {kAsciiSets[byte], byte, 1};
  return look_wide(text, at);
}

// Turns `size_t end_of(text, at)`, which gives `at` itself where nothing matches, into next().
template <class Scanner>
struct ScanFrom {
  Match next(std::string_view text, size_t from) const {
    while (from < text.size()) {
      const size_t end = static_cast<const Scanner*>(this)->end_of(text, from);
      if (end > from) return {from, end};
      from += static_cast<size_t>(look(text, from).n_bytes);
    }
    return {text.size(), text.size()};
  }
};

// A run of characters of one kind: `\p{N}{1,3}`, ` ?\p{L}+`, `[\r\n]`, ...
struct RunScanner : ScanFrom<RunScanner> {
  enum class Lead { none, space, white_space };
  struct Range {
    uint32_t first, last;
  };

  CharSet set = 0;
  std::string_view ascii = {};     // further single characters
  std::vector<Range> ranges = {};  // further code points
  size_t min = 1, max = SIZE_MAX;  // characters
  Lead lead = Lead::none;          // one such character may come before the run

  size_t end_of(std::string_view text, size_t at) const;

 private:
  bool has(const Look& c) const;
  size_t run(std::string_view text, size_t at) const;
};

// White space at the end of the text or of a line: `\s+$`, where $ is before every \n too.
struct LineEndScanner {
  Match next(std::string_view text, size_t from) const;
};

// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
struct Gpt2Scanner : ScanFrom<Gpt2Scanner> {
  size_t end_of(std::string_view text, size_t at) const;
};

// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
// \s+(?!\S)|\s+` and its relatives.
struct Cl100kScanner : ScanFrom<Cl100kScanner> {
  size_t max_digits = 3;
  bool has_contractions = true;
  bool has_marks = false;  // \p{M} counts as a letter of a word and not as punctuation (Qwen 3.5)

  size_t end_of(std::string_view text, size_t at) const;
};

// Words by case: `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` or the same
// with
// + and *, each with a contraction after it or not; then as above.
struct O200kScanner : ScanFrom<O200kScanner> {
  size_t max_digits = 3;
  bool has_contractions = true;  // not in tekken
  bool has_slashes = true;       // punctuation ends with [\r\n/]*, not [\r\n]*
  bool has_han = false;          // \p{Han}+ is a piece of its own, and not in words (Kimi)

  size_t end_of(std::string_view text, size_t at) const;

 private:
  bool in(const Look& c, CharSet set) const { return c.is(set) && !(has_han && c.is(kHan)); }
  size_t word_end(std::string_view text, size_t at) const;
  size_t mixed_case_end(std::string_view text, size_t at) const;
  size_t upper_case_end(std::string_view text, size_t at) const;
};

// The third pattern of DeepSeek V3: ASCII punctuation that begins a word, words with marks, punctuation and
// symbols, white space.
struct DeepseekScanner : ScanFrom<DeepseekScanner> {
  size_t end_of(std::string_view text, size_t at) const;
};

}  // namespace millrace
