#include "text/jinja/py_string.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "base/utf8.h"
#include "text/jinja/special_case.h"

namespace millrace::jinja {
namespace {

struct CodeRange {
  uint32_t first, last;
};

// Digits that are no decimals (Numeric_Type=Digit): superscripts, circled digits.
constexpr CodeRange kDigits[] = {
    {0xb2, 0xb3},     {0xb9, 0xb9},       {0x1369, 0x1371},   {0x19da, 0x19da},   {0x2070, 0x2070},
    {0x2074, 0x2079}, {0x2080, 0x2089},   {0x2460, 0x2468},   {0x2474, 0x247c},   {0x2488, 0x2490},
    {0x24ea, 0x24ea}, {0x24f5, 0x24fd},   {0x24ff, 0x24ff},   {0x2776, 0x277e},   {0x2780, 0x2788},
    {0x278a, 0x2792}, {0x10a40, 0x10a43}, {0x10e60, 0x10e68}, {0x11052, 0x1105a}, {0x1f100, 0x1f10a}};

utf8proc_category_t category(uint32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }

template <class Visit>
void for_each_char(std::string_view text, const Visit& visit) {
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 0x80) {
      visit(uint32_t{byte}, at++);
      continue;
    }
    const Utf8Char c = next_utf8(text, at);
    visit(c.code_point, at);
    at += static_cast<size_t>(c.n_bytes);
  }
}

const SpecialCase* find_special(uint32_t c) {
  const auto* at = std::ranges::lower_bound(kSpecialCases, c, {}, &SpecialCase::code_point);
  return at != std::end(kSpecialCases) && at->code_point == c ? at : nullptr;
}

void append_upper(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 0x20 : c);
  } else if (const SpecialCase* special = find_special(c)) {
    out += reinterpret_cast<const char*>(special->upper);
  } else {
    append_utf8(out, static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c))));
  }
}

void append_title(std::string& out, uint32_t c) {
  if (const SpecialCase* special = c < 0x80 ? nullptr : find_special(c)) {
    out += reinterpret_cast<const char*>(special->title);
  } else {
    append_utf8(out, static_cast<uint32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(c))));
  }
}

void append_lower(std::string& out, uint32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 0x20 : c);
  } else if (c == 0x130) {
    out += "i\u0307";
  } else {
    append_utf8(out, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
}

bool is_cased(uint32_t c) { return is_upper(c) || is_lower(c) || is_title(c); }

// Characters that casing looks through: marks, modifiers, apostrophes (Case_Ignorable).
bool is_case_ignorable(uint32_t c) {
  constexpr uint32_t kPunctuation[] = {'\'',   '.',    ':',    0xb7,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019,
                                       0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
  if (std::ranges::find(kPunctuation, c) != std::end(kPunctuation)) return true;
  const utf8proc_category_t kind = category(c);
  return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_CF ||
         kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_SK;
}

// A capital sigma at the end of a word has its own small letter.
bool is_final_sigma(const std::vector<uint32_t>& text, size_t at) {
  size_t before = at;
  while (before > 0 && is_case_ignorable(text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  size_t after = at + 1;
  while (after < text.size() && is_case_ignorable(text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

void append_lower_at(std::string& out, const std::vector<uint32_t>& text, size_t at) {
  if (text[at] == 0x3a3) {
    append_utf8(out, is_final_sigma(text, at) ? 0x3c2 : 0x3c3);
  } else {
    append_lower(out, text[at]);
  }
}

bool is_line_end(uint32_t c) {
  return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

bool is_space(uint32_t c) {
  if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 28 && c <= 32);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_decimal(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }

bool is_digit(uint32_t c) {
  const auto holds = [c](const CodeRange& range) { return c >= range.first && c <= range.last; };
  return is_decimal(c) || std::ranges::any_of(kDigits, holds);
}

bool is_numeric(uint32_t c) {
  const utf8proc_category_t kind = category(c);
  return kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool is_alpha(uint32_t c) {
  if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
  const utf8proc_category_t kind = category(c);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_alnum(uint32_t c) { return is_alpha(c) || is_numeric(c); }
bool is_upper(uint32_t c) { return utf8proc_isupper(static_cast<utf8proc_int32_t>(c)) != 0; }
bool is_lower(uint32_t c) { return utf8proc_islower(static_cast<utf8proc_int32_t>(c)) != 0; }
bool is_title(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }

bool is_printable(uint32_t c) {
  if (c == ' ') return true;
  const utf8proc_category_t kind = category(c);
  return kind != UTF8PROC_CATEGORY_CN && (kind < UTF8PROC_CATEGORY_ZS || kind > UTF8PROC_CATEGORY_CO);
}

size_t count_leading_space(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Char c = next_utf8(text, at);
    if (!is_space(c.code_point)) break;
    at += static_cast<size_t>(c.n_bytes);
  }
  return at;
}

size_t count_trailing_space(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && (text[begin] & 0xc0) == 0x80) --begin;
    if (!is_space(next_utf8(text, begin).code_point)) break;
    end = begin;
  }
  return text.size() - end;
}

size_t count_name_bytes(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const Utf8Char c = next_utf8(text, at);
    if (c.code_point != '_' && !is_alpha(c.code_point) && (at == 0 || !is_alnum(c.code_point))) break;
    at += static_cast<size_t>(c.n_bytes);
  }
  return at;
}

std::vector<uint32_t> code_points(std::string_view text) {
  std::vector<uint32_t> out;
  out.reserve(text.size());
  for_each_char(text, [&](uint32_t c, size_t) { out.push_back(c); });
  return out;
}

size_t byte_of_char(std::string_view text, size_t index) {
  for (size_t at = 0; at < text.size(); ++at) {
    if ((text[at] & 0xc0) != 0x80 && index-- == 0) return at;
  }
  return text.size();
}

size_t char_of_byte(std::string_view text, size_t at) { return count_chars(text.substr(0, at)); }

size_t count_chars(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string to_upper(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_char(text, [&](uint32_t c, size_t) { append_upper(out, c); });
  return out;
}

std::string to_lower(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  if (text.find("\u03a3") == text.npos) {
    for_each_char(text, [&](uint32_t c, size_t) { append_lower(out, c); });
    return out;
  }
  const std::vector<uint32_t> chars = code_points(text);
  for (size_t i = 0; i < chars.size(); ++i) append_lower_at(out, chars, i);
  return out;
}

std::string to_title(std::string_view text) {
  std::string out;
  const std::vector<uint32_t> chars = code_points(text);
  bool is_in_word = false;
  for (size_t i = 0; i < chars.size(); ++i) {
    if (is_in_word) {
      append_lower_at(out, chars, i);
    } else {
      append_title(out, chars[i]);
    }
    is_in_word = is_cased(chars[i]);
  }
  return out;
}

std::string to_capitalized(std::string_view text) {
  std::string out;
  const std::vector<uint32_t> chars = code_points(text);
  for (size_t i = 0; i < chars.size(); ++i) {
    if (i == 0) {
      append_title(out, chars[i]);
    } else {
      append_lower_at(out, chars, i);
    }
  }
  return out;
}

std::string to_swapped_case(std::string_view text) {
  std::string out;
  const std::vector<uint32_t> chars = code_points(text);
  for (size_t i = 0; i < chars.size(); ++i) {
    if (is_upper(chars[i])) {
      append_lower_at(out, chars, i);
    } else if (is_lower(chars[i])) {
      append_upper(out, chars[i]);
    } else {
      append_utf8(out, chars[i]);
    }
  }
  return out;
}

size_t find_text(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return text.npos;
  if (needle.empty()) return from;
  // memmem is linear (two-way search); std::string_view::find is not.
  const void* at = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  return at == nullptr ? text.npos : static_cast<size_t>(static_cast<const char*>(at) - text.data());
}

size_t rfind_text(std::string_view text, std::string_view needle) {
  // Searched backwards in reversed copies, for the same reason.
  const std::string reversed(text.rbegin(), text.rend());
  const std::string reversed_needle(needle.rbegin(), needle.rend());
  const size_t at = find_text(reversed, reversed_needle);
  return at == text.npos ? at : text.size() - at - needle.size();
}

std::string_view strip(std::string_view text, const std::string_view* chars, StripEnds ends) {
  if (chars == nullptr) {
    if (ends.left) text.remove_prefix(count_leading_space(text));
    if (ends.right) text.remove_suffix(count_trailing_space(text));
    return text;
  }
  std::vector<uint32_t> set = code_points(*chars);
  std::ranges::sort(set);
  while (ends.left && !text.empty()) {
    const Utf8Char c = next_utf8(text, 0);
    if (!std::ranges::binary_search(set, c.code_point)) break;
    text.remove_prefix(static_cast<size_t>(c.n_bytes));
  }
  while (ends.right && !text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (text[begin] & 0xc0) == 0x80) --begin;
    if (!std::ranges::binary_search(set, next_utf8(text, begin).code_point)) break;
    text.remove_suffix(text.size() - begin);
  }
  return text;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string_view> lines;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    const size_t line_end = at;
    at += static_cast<size_t>(c.n_bytes);
    if (!is_line_end(c.code_point)) continue;
    if (c.code_point == '\r' && at < text.size() && text[at] == '\n') ++at;
    lines.push_back(text.substr(begin, (keep_ends ? at : line_end) - begin));
    begin = at;
  }
  if (begin < text.size()) lines.push_back(text.substr(begin));
  return lines;
}

std::string html_escape(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace millrace::jinja
