#include "text/jinja/strings.h"

#include <utf8proc.h>

#include <algorithm>

#include "base/utf8.h"

namespace millrace::jinja {
namespace {

template <class F>
void for_each_char(std::string_view text, F f) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    f(c.code_point, text.substr(at, static_cast<size_t>(c.n_bytes)));
    at += static_cast<size_t>(c.n_bytes);
  }
}

uint32_t upper_of(uint32_t c) {
  return static_cast<uint32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
uint32_t lower_of(uint32_t c) {
  return static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

void append_upper(std::string& out, uint32_t c) {
  if (c == 0xdf) {
    out += "SS";  // the one common character whose upper case is longer
  } else {
    append_utf8(out, upper_of(c));
  }
}

utf8proc_category_t category(uint32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(c)); }
bool is_alpha(uint32_t c) {
  return category(c) >= UTF8PROC_CATEGORY_LU && category(c) <= UTF8PROC_CATEGORY_LO;
}
bool is_digit(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
bool is_number(uint32_t c) {
  return category(c) >= UTF8PROC_CATEGORY_ND && category(c) <= UTF8PROC_CATEGORY_NO;
}

// str.isspace
bool is_space(uint32_t c) {
  return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

template <class F>
bool all_chars(std::string_view text, const F& is) {
  bool all = !text.empty();
  for_each_char(text, [&](uint32_t c, std::string_view) { all = all && is(c); });
  return all;
}

// The character that ends before byte `end`.
std::string_view last_char(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && (text[begin] & 0xc0) == 0x80) --begin;
  return text.substr(begin);
}

}  // namespace

std::string upper(std::string_view text) {
  std::string out;
  for_each_char(text, [&](uint32_t c, std::string_view) { append_upper(out, c); });
  return out;
}

std::string lower(std::string_view text) {
  std::string out;
  for_each_char(text, [&](uint32_t c, std::string_view) { append_utf8(out, lower_of(c)); });
  return out;
}

std::string capitalized(std::string_view text) {
  std::string out;
  for_each_char(text, [&, is_first = true](uint32_t c, std::string_view) mutable {
    is_first ? append_upper(out, c) : append_utf8(out, lower_of(c));
    is_first = false;
  });
  return out;
}

std::string titled(std::string_view text) {
  std::string out;
  for_each_char(text, [&, is_inside = false](uint32_t c, std::string_view) mutable {
    is_inside ? append_utf8(out, lower_of(c)) : append_upper(out, c);
    is_inside = is_alpha(c);
  });
  return out;
}

std::string_view stripped(std::string_view text, const std::optional<std::string>& chars, Ends ends) {
  const auto goes = [&](std::string_view c) {
    return chars ? chars->find(c) != std::string::npos : is_space(next_utf8(c, 0).code_point);
  };
  if (ends != Ends::right) {
    while (!text.empty()) {
      const std::string_view c = text.substr(0, static_cast<size_t>(next_utf8(text, 0).n_bytes));
      if (!goes(c)) break;
      text.remove_prefix(c.size());
    }
  }
  if (ends != Ends::left) {
    while (!text.empty() && goes(last_char(text))) text.remove_suffix(last_char(text).size());
  }
  return text;
}

std::vector<std::string_view> split(std::string_view text, const std::optional<std::string>& separator,
                                    int64_t n_splits) {
  std::vector<std::string_view> out;
  const auto is_full = [&] { return n_splits >= 0 && static_cast<int64_t>(out.size()) >= n_splits; };
  if (separator) {
    for (size_t at = text.find(*separator); at != text.npos && !is_full(); at = text.find(*separator)) {
      out.push_back(text.substr(0, at));
      text.remove_prefix(at + separator->size());
    }
    out.push_back(text);
    return out;
  }
  for (text = stripped(text, {}, Ends::left); !text.empty(); text = stripped(text, {}, Ends::left)) {
    if (is_full()) {
      out.push_back(stripped(text, {}, Ends::right));
      return out;
    }
    size_t end = 0;
    while (end < text.size() && !is_space(next_utf8(text, end).code_point))
      end += static_cast<size_t>(next_utf8(text, end).n_bytes);
    out.push_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return out;
}

std::vector<std::string_view> split_from_right(std::string_view text,
                                               const std::optional<std::string>& separator,
                                               int64_t n_splits) {
  if (n_splits < 0) return split(text, separator, -1);
  std::vector<std::string_view> out;
  const auto has_room = [&] { return static_cast<int64_t>(out.size()) < n_splits; };
  if (separator) {
    for (size_t at = text.rfind(*separator); at != text.npos && has_room(); at = text.rfind(*separator)) {
      out.push_back(text.substr(at + separator->size()));
      text = text.substr(0, at);
    }
    out.push_back(text);
  } else {
    const std::vector<std::string_view> words = split(text, {}, -1);
    size_t n = words.size();
    for (; n > 0 && has_room(); --n) out.push_back(words[n - 1]);
    if (n > 0)
      out.push_back(
          stripped(text.substr(0, static_cast<size_t>(words[n - 1].end() - text.begin())), {}, Ends::left));
  }
  std::ranges::reverse(out);
  return out;
}

std::vector<std::string_view> split_lines(std::string_view text, bool keeps_ends) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = text.find_first_of("\n\r\v\f\x1c\x1d\x1e");
    if (end == text.npos) {
      out.push_back(text);
      break;
    }
    const size_t next = end + (text.substr(end).starts_with("\r\n") ? 2 : 1);
    out.push_back(text.substr(0, keeps_ends ? next : end));
    text.remove_prefix(next);
  }
  return out;
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to, int64_t count) {
  std::string out;
  if (from.empty()) {  // between all characters
    int64_t n = 0;
    const auto put = [&] {
      if (count < 0 || n++ < count) out += to;
    };
    for_each_char(text, [&](uint32_t, std::string_view c) {
      put();
      out += c;
    });
    put();
    return out;
  }
  for (int64_t n = 0; count < 0 || n < count; ++n) {
    const size_t at = text.find(from);
    if (at == text.npos) break;
    out += text.substr(0, at);
    out += to;
    text.remove_prefix(at + from.size());
  }
  return out += text;
}

bool is_all_digits(std::string_view text) { return all_chars(text, is_digit); }
bool is_all_alpha(std::string_view text, bool or_digits) {
  return all_chars(text, [or_digits](uint32_t c) { return is_alpha(c) || (or_digits && is_number(c)); });
}
bool is_all_space(std::string_view text) { return all_chars(text, is_space); }
bool is_upper_text(std::string_view text) { return text == upper(text) && text != lower(text); }
bool is_lower_text(std::string_view text) { return text == lower(text) && text != upper(text); }

std::string html_escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
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
      case '"':
        out += "&#34;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace millrace::jinja
