#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"

namespace millrace {
namespace {

constexpr uint8_t kNfcUnsafe = 0x80;

bool is_nfc_unsafe(uint32_t code_point) { return (unicode_property(code_point) & kNfcUnsafe) != 0; }

utf8proc_option_t options_of(NormalForm form) {
  const bool is_compat = form == NormalForm::nfkc || form == NormalForm::nfkd;
  const bool is_composed = form == NormalForm::nfc || form == NormalForm::nfkc;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (is_compat ? UTF8PROC_COMPAT : 0) |
                                        (is_composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE));
}

void append_decomposed(std::vector<utf8proc_int32_t>& out, uint32_t code_point, utf8proc_option_t options) {
  constexpr utf8proc_ssize_t kLongest = 32;  // U+FDFA becomes 18 characters
  const size_t n_before = out.size();
  out.resize(n_before + kLongest);
  const auto options_down =
      static_cast<utf8proc_option_t>((options & ~UTF8PROC_COMPOSE) | UTF8PROC_DECOMPOSE);
  const utf8proc_ssize_t n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point),
                                                     out.data() + n_before, kLongest, options_down, nullptr);
  check(n >= 0 && n <= kLongest, "a character decomposes into at most 32");
  out.resize(n_before + static_cast<size_t>(n));
}

int combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

// Marks in the order of their classes. utf8proc does the same by insertion, in quadratic time: a megabyte of
// marks would take hours.
void order_marks(std::vector<utf8proc_int32_t>& chars) {
  for (size_t at = 0; at < chars.size();) {
    size_t end = at;
    while (end < chars.size() && combining_class(chars[end]) != 0) ++end;
    std::stable_sort(
        chars.begin() + static_cast<ptrdiff_t>(at), chars.begin() + static_cast<ptrdiff_t>(end),
        [](utf8proc_int32_t a, utf8proc_int32_t b) { return combining_class(a) < combining_class(b); });
    at = end + 1;
  }
}

void append_normalized(std::string& out, std::string_view text, NormalForm form) {
  const utf8proc_option_t options = options_of(form);
  std::vector<utf8proc_int32_t> chars;
  chars.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    append_decomposed(chars, c.code_point, options);
    at += c.n_bytes;
  }
  order_marks(chars);
  const utf8proc_ssize_t n =
      utf8proc_normalize_utf32(chars.data(), static_cast<utf8proc_ssize_t>(chars.size()), options);
  check(n >= 0, "utf8proc composes what it decomposed");
  for (utf8proc_ssize_t i = 0; i < n; ++i)
    append_utf8(out, static_cast<uint32_t>(chars[static_cast<size_t>(i)]));
}

// NFC of the short stretches that it can change; what lies between is copied. A character that is not unsafe
// neither moves nor joins what stands before it, so a stretch begins with the last such character.
std::string nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t copied = 0;      // bytes of text that are in `out`
  size_t last_start = 0;  // where the last character begins that is not unsafe
  for (size_t at = 0; at < text.size();) {
    at += ascii_run(text, at);
    if (at >= text.size()) break;
    Utf8Char c = next_utf8(text, at);
    if (!is_nfc_unsafe(c.code_point)) {
      last_start = at;
      at += c.n_bytes;
      continue;
    }
    // The character before an unsafe one may lie at the end of an ASCII run.
    if (at > 0 && static_cast<uint8_t>(text[at - 1]) < 0x80) last_start = at - 1;
    const size_t begin = std::max(copied, last_start);
    while (at < text.size()) {
      c = next_utf8(text, at);
      if (!is_nfc_unsafe(c.code_point)) break;
      at += c.n_bytes;
    }
    out.append(text.substr(copied, begin - copied));
    append_normalized(out, text.substr(begin, at - begin), NormalForm::nfc);
    copied = at;
  }
  out.append(text.substr(copied));
  return out;
}

}  // namespace

bool is_word(uint32_t code_point) {
  constexpr CharSet kWord = kLetter | kMark | set_of(Category::Nd, Category::Nl, Category::Pc);
  if (is_in(code_point, kWord)) return true;
  const auto between = [code_point](uint32_t low, uint32_t high) {
    return code_point >= low && code_point <= high;
  };
  return between(0x200c, 0x200d) || between(0x24b6, 0x24e9) || between(0x1f130, 0x1f149) ||
         between(0x1f150, 0x1f169) || between(0x1f170, 0x1f189);  // joiners; letters in circles and squares
}

void append_lower(std::string& out, uint32_t code_point) {
  if (code_point < 0x80) {
    out += static_cast<char>(code_point - 'A' < 26u ? code_point + 32 : code_point);
    return;
  }
  if (code_point == 0x130) return out.append("i\xcc\x87"), void();
  const LowerRun* end = kLowerRuns + kNLowerRuns;
  const LowerRun* run = std::upper_bound(kLowerRuns, end, code_point,
                                         [](uint32_t value, const LowerRun& r) { return value < r.first; });
  if (run != kLowerRuns) {
    --run;
    if (code_point <= run->last && (code_point - run->first) % run->step == 0) {
      code_point = static_cast<uint32_t>(static_cast<int32_t>(code_point) + run->delta);
    }
  }
  append_utf8(out, code_point);
}

size_t ascii_run(std::string_view text, size_t at) {
  const size_t begin = at;
  while (at + 8 <= text.size()) {
    uint64_t word;
    std::memcpy(&word, text.data() + at, 8);
    if ((word & 0x8080808080808080u) != 0) break;
    at += 8;
  }
  return at - begin;
}

std::string normalize(std::string_view text, NormalForm form) {
  if (ascii_run(text, 0) == text.size()) return std::string(text);
  if (form == NormalForm::nfc) return nfc(text);
  std::string out;
  append_normalized(out, text, form);
  return out;
}

bool is_surely_nfc(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    at += ascii_run(text, at);
    if (at >= text.size()) break;
    const Utf8Char c = next_utf8(text, at);
    if (is_nfc_unsafe(c.code_point)) return false;
    at += c.n_bytes;
  }
  return true;
}

bool is_valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    at += ascii_run(text, at);
    if (at >= text.size()) break;
    const Utf8Char c = next_utf8(text, at);
    if (!c.is_valid) return false;
    at += c.n_bytes;
  }
  return true;
}

std::string repair_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    append_utf8(out, c.code_point);
    at += c.n_bytes;
  }
  return out;
}

size_t grapheme_end(std::string_view text, size_t at) {
  Utf8Char c = next_utf8(text, at);
  utf8proc_int32_t state = 0;
  at += c.n_bytes;
  while (at < text.size()) {
    const Utf8Char next = next_utf8(text, at);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.code_point),
                                         static_cast<utf8proc_int32_t>(next.code_point), &state)) {
      break;
    }
    c = next;
    at += c.n_bytes;
  }
  return at;
}

}  // namespace millrace
