#include "text/tokenizers/scanners.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr std::array<CharSet, 128> ascii_sets() {
  std::array<CharSet, 128> sets{};
  const auto put = [&sets](std::string_view chars, CharSet set) {
    for (const char c : chars) sets[static_cast<size_t>(c)] = set;
  };
  for (size_t c = 0; c < 128; ++c) {
    if (c < 0x20 || c == 0x7f) sets[c] = set_of(Category::Cc);
    if (c >= '0' && c <= '9') sets[c] = set_of(Category::Nd);
    if (c >= 'A' && c <= 'Z') sets[c] = set_of(Category::Lu);
    if (c >= 'a' && c <= 'z') sets[c] = set_of(Category::Ll);
  }
  put("!\"#%&'*,./:;?@\\", set_of(Category::Po));
  put("$", set_of(Category::Sc));
  put("([{", set_of(Category::Ps));
  put(")]}", set_of(Category::Pe));
  put("+<=>|~", set_of(Category::Sm));
  put("-", set_of(Category::Pd));
  put("_", set_of(Category::Pc));
  put("^`", set_of(Category::Sk));
  put(" ", set_of(Category::Zs) | kWhiteSpace);
  put("\t\n\v\f\r", set_of(Category::Cc) | kWhiteSpace);
  return sets;
}

size_t run_of(std::string_view text, size_t at, CharSet set) {
  for (Look c = look(text, at); c.is(set); c = look(text, at)) at += static_cast<size_t>(c.n_bytes);
  return at;
}

size_t run_of_at_most(std::string_view text, size_t at, CharSet set, size_t n) {
  for (Look c = look(text, at); n > 0 && c.is(set); --n, c = look(text, at))
    at += static_cast<size_t>(c.n_bytes);
  return at;
}

// [^\s\p{L}\p{N}]+, or with another set that it must not be in.
size_t run_outside(std::string_view text, size_t at, CharSet set) {
  for (Look c = look(text, at); !c.is_end() && !c.is(set); c = look(text, at)) {
    at += static_cast<size_t>(c.n_bytes);
  }
  return at;
}

size_t run_of_bytes(std::string_view text, size_t at, std::string_view bytes) {
  const size_t end = text.find_first_not_of(bytes, at);
  return std::min(end, text.size());
}

bool is_ascii_letter(std::string_view text, size_t at) {
  return at < text.size() && static_cast<uint8_t>(text[at]) < 0x80 &&
         (kAsciiSets[static_cast<uint8_t>(text[at])] & kLetter) != 0;
}

char lower_ascii(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

enum class Case { exact, ignored };

// 's|'t|'re|'ve|'m|'ll|'d. Without regard to case, U+017F (long s) is an s.
size_t contraction_end(std::string_view text, size_t at, Case letters) {
  if (at + 1 >= text.size() || text[at] != '\'') return at;
  const auto letter = [&](size_t i) {
    if (i >= text.size()) return '\0';
    return letters == Case::ignored ? lower_ascii(text[i]) : text[i];
  };
  const char first = letter(at + 1), second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' && second == 'e') || (first == 'v' && second == 'e') || (first == 'l' && second == 'l')) {
    return at + 3;
  }
  if (letters == Case::ignored && text.substr(at + 1).starts_with("\xc5\xbf")) return at + 3;
  return at;
}

// ` ?[^\s\p{L}\p{N}]+` and what may follow it; `at` where there is none.
size_t punctuation_end(std::string_view text, size_t at, CharSet outside, std::string_view tail) {
  const size_t begin = text[at] == ' ' ? at + 1 : at;
  const size_t end = run_outside(text, begin, outside);
  return end > begin ? run_of_bytes(text, end, tail) : at;
}

struct Spaces {
  size_t end;            // of the run of white space
  size_t last;           // where its last character begins
  size_t after_newline;  // behind its last \r or \n; 0 without one
};

Spaces spaces_at(std::string_view text, size_t at) {
  Spaces spaces{at, at, 0};
  for (Look c = look(text, at); c.is(kWhiteSpace); c = look(text, spaces.end)) {
    spaces.last = spaces.end;
    spaces.end += static_cast<size_t>(c.n_bytes);
    if (c.is_newline()) spaces.after_newline = spaces.end;
  }
  return spaces;
}

// \s+(?!\S)|\s+: all of the run but its last character, where something follows it.
size_t trailing_space_end(std::string_view text, size_t at, const Spaces& spaces) {
  return spaces.end == text.size() || spaces.last == at ? spaces.end : spaces.last;
}

// \s*[\r\n]+|\s+(?!\S)|\s+
size_t space_end(std::string_view text, size_t at) {
  const Spaces spaces = spaces_at(text, at);
  return spaces.after_newline > 0 ? spaces.after_newline : trailing_space_end(text, at, spaces);
}

constexpr CharSet kWordOrSpace = kWhiteSpace | kLetter | kNumber;

}  // namespace

const std::array<CharSet, 128> kAsciiSets = ascii_sets();

Look look_wide(std::string_view text, size_t at) {
  const Utf8Char c = next_utf8(text, at);
  return {sets_of(c.code_point), c.code_point, c.n_bytes};
}

bool RunScanner::has(const Look& c) const {
  if (c.is(set)) return true;
  if (c.is_end()) return false;
  if (c.code_point < 0x80 && ascii.find(static_cast<char>(c.code_point)) != std::string_view::npos)
    return true;
  return std::ranges::any_of(
      ranges, [&](const Range& range) { return c.code_point >= range.first && c.code_point <= range.last; });
}

size_t RunScanner::run(std::string_view text, size_t at) const {
  const size_t begin = at;
  size_t n = 0;
  for (Look c = look(text, at); n < max && has(c); ++n, c = look(text, at))
    at += static_cast<size_t>(c.n_bytes);
  return n >= min ? at : begin;
}

size_t RunScanner::end_of(std::string_view text, size_t at) const {
  const Look c = look(text, at);
  if ((lead == Lead::space && c.code_point == ' ') || (lead == Lead::white_space && c.is(kWhiteSpace))) {
    const size_t begin = at + static_cast<size_t>(c.n_bytes);
    const size_t end = run(text, begin);
    if (end > begin) return end;
  }
  return run(text, at);
}

// Greedy, then back to before the last newline. A run in which that fails is passed over as a whole: it would
// fail from every place of it.
Match LineEndScanner::next(std::string_view text, size_t from) const {
  while (from < text.size()) {
    size_t end = from;
    size_t last_newline = from;
    for (Look c = look(text, end); c.is(kWhiteSpace); c = look(text, end)) {
      if (c.code_point == '\n') last_newline = end;
      end += static_cast<size_t>(c.n_bytes);
    }
    if (end > from && end == text.size()) return {from, end};
    if (last_newline > from) return {from, last_newline};
    from = end + static_cast<size_t>(look(text, end).n_bytes);
  }
  return {text.size(), text.size()};
}

size_t Gpt2Scanner::end_of(std::string_view text, size_t at) const {
  const Look c = look(text, at);
  if (c.code_point == '\'') {
    const size_t end = contraction_end(text, at, Case::exact);
    if (end > at) return end;
  }
  const size_t begin = c.code_point == ' ' ? at + 1 : at;
  const Look first = c.code_point == ' ' ? look(text, begin) : c;
  if (first.is(kLetter)) return run_of(text, begin, kLetter);
  if (first.is(kNumber)) return run_of(text, begin, kNumber);
  if (!first.is_end() && !first.is(kWhiteSpace)) return run_outside(text, begin, kWordOrSpace);
  return trailing_space_end(text, at, spaces_at(text, at));
}

size_t Cl100kScanner::end_of(std::string_view text, size_t at) const {
  const Look c = look(text, at);
  const CharSet letters = has_marks ? kLetter | kMark : kLetter;
  if (c.is(letters)) return run_of(text, at, letters);
  if (c.is(kNumber)) return run_of_at_most(text, at, kNumber, max_digits);
  if (has_contractions && c.code_point == '\'') {
    const size_t end = contraction_end(text, at, Case::ignored);
    if (end > at) return end;
  }
  if (!c.is_newline()) {
    const size_t next = at + static_cast<size_t>(c.n_bytes);
    const size_t end = run_of(text, next, letters);
    if (end > next) return end;
  }
  const size_t end = punctuation_end(text, at, kWordOrSpace | letters, "\r\n");
  return end > at ? end : space_end(text, at);
}

namespace {

constexpr CharSet kUncased = set_of(Category::Lm, Category::Lo) | kMark;  // in both classes of a word
constexpr CharSet kUpperPart = set_of(Category::Lu, Category::Lt) | kUncased;
constexpr CharSet kLowerPart = set_of(Category::Ll) | kUncased;

}  // namespace

// U*W+ with U the upper and W the lower part. U* takes all it can; where no W follows, it gives back down to
// the last character that is in both.
size_t O200kScanner::mixed_case_end(std::string_view text, size_t at) const {
  size_t after_uncased = at;
  size_t end = at;
  Look c = look(text, end);
  for (; in(c, kUpperPart); c = look(text, end)) {
    end += static_cast<size_t>(c.n_bytes);
    if (c.is(kUncased)) after_uncased = end;
  }
  if (!in(c, kLowerPart)) return after_uncased;
  for (; in(c, kLowerPart); c = look(text, end)) end += static_cast<size_t>(c.n_bytes);
  return end;
}

// U+W*, tried where U*W+ found nothing: no W can follow.
size_t O200kScanner::upper_case_end(std::string_view text, size_t at) const {
  for (Look c = look(text, at); in(c, kUpperPart); c = look(text, at)) at += static_cast<size_t>(c.n_bytes);
  return at;
}

size_t O200kScanner::word_end(std::string_view text, size_t at) const {
  const Look c = look(text, at);
  const bool has_lead = !c.is_newline() && !c.is(kLetter | kNumber);
  const size_t next = at + static_cast<size_t>(c.n_bytes);
  size_t end = next;
  if (has_lead && (end = mixed_case_end(text, next)) > next) return end;
  if ((end = mixed_case_end(text, at)) > at) return end;
  if (has_lead && (end = upper_case_end(text, next)) > next) return end;
  return upper_case_end(text, at);
}

size_t O200kScanner::end_of(std::string_view text, size_t at) const {
  const Look c = look(text, at);
  if (has_han && c.is(kHan)) return run_of(text, at, kHan);
  if (c.is(kNumber)) return run_of_at_most(text, at, kNumber, max_digits);
  size_t end = word_end(text, at);
  if (end > at) return has_contractions ? contraction_end(text, end, Case::ignored) : end;
  end = punctuation_end(text, at, kWordOrSpace, has_slashes ? "\r\n/" : "\r\n");
  return end > at ? end : space_end(text, at);
}

size_t DeepseekScanner::end_of(std::string_view text, size_t at) const {
  constexpr CharSet kWord = kLetter | kMark;
  constexpr CharSet kSign = kPunctuation | kSymbol;
  const Look c = look(text, at);
  const size_t next = at + static_cast<size_t>(c.n_bytes);
  if (c.code_point < 0x80 && c.is(kSign)) {
    size_t end = next;
    while (is_ascii_letter(text, end)) ++end;
    if (end > next) return end;
  }
  if (c.is(kWord)) return run_of(text, at, kWord);
  if (!c.is_newline() && !c.is(kSign)) {
    const size_t end = run_of(text, next, kWord);
    if (end > next) return end;
  }
  const size_t begin = c.code_point == ' ' ? next : at;
  const size_t end = run_of(text, begin, kSign);
  if (end > begin) return run_of_bytes(text, end, "\r\n");
  return space_end(text, at);
}

}  // namespace millrace
