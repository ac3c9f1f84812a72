// Methods of str. Of a string that is markup the results are markup, and what is put into it is escaped.
#include <utf8proc.h>

#include <algorithm>
#include <memory>

#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/methods.h"
#include "text/jinja/py_string.h"
#include "text/jinja/py_text.h"

namespace millrace::jinja {
namespace {

Value like_self(Interpreter& in, const Call& call, std::string text) {
  return make_string(in.heap(), std::move(text), is_markup(call.self));
}

// A string argument, escaped where it goes into markup.
std::string inserted(const Call& call, const Value& argument) {
  const std::string& text = string_argument(argument);
  return is_markup(call.self) && !is_markup(argument) ? html_escape(text) : text;
}

void charge(Interpreter& in, const Call& call) { in.heap().step_bytes(text_of(call.self).size()); }

template <std::string (*kConvert)(std::string_view)>
Value string_convert(Interpreter& in, Call& call) {
  call.expect_none("the method");
  charge(in, call);
  return like_self(in, call, kConvert(text_of(call.self)));
}

std::string casefold(std::string_view text) {
  utf8proc_uint8_t* folded = nullptr;
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                 static_cast<utf8proc_ssize_t>(text.size()), &folded, UTF8PROC_CASEFOLD);
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(folded, &std::free);
  if (size < 0) raise("a text cannot be folded: {}", utf8proc_errmsg(size));
  return std::string(reinterpret_cast<const char*>(folded), static_cast<size_t>(size));
}

// isalpha() and the like: all characters are of the class, and there is one.
template <bool (*kHolds)(uint32_t)>
Value string_is_all(Interpreter& in, Call& call) {
  call.expect_none("the method");
  charge(in, call);
  const std::vector<uint32_t> chars = code_points(text_of(call.self));
  return Value(!chars.empty() && std::ranges::all_of(chars, kHolds));
}

Value string_isascii(Interpreter&, Call& call) {
  call.expect_none("isascii");
  return Value(call.self.as<String>().is_ascii());
}

Value string_isprintable(Interpreter& in, Call& call) {
  call.expect_none("isprintable");
  charge(in, call);
  return Value(std::ranges::all_of(code_points(text_of(call.self)), is_printable));
}

Value string_isidentifier(Interpreter&, Call& call) {
  call.expect_none("isidentifier");
  const std::string& text = text_of(call.self);
  return Value(!text.empty() && count_name_bytes(text) == text.size());
}

Value string_istitle(Interpreter& in, Call& call) {
  call.expect_none("istitle");
  charge(in, call);
  bool has_case = false;
  bool is_in_word = false;
  for (uint32_t c : code_points(text_of(call.self))) {
    if (is_upper(c) || is_title(c)) {
      if (is_in_word) return Value(false);
      has_case = is_in_word = true;
    } else if (is_lower(c)) {
      if (!is_in_word) return Value(false);
    } else {
      is_in_word = false;
    }
  }
  return Value(has_case);
}

template <const char* kTest>
Value string_by_test(Interpreter& in, Call& call) {
  return find_test(kTest)(in, call);
}
constexpr char kLower[] = "lower";
constexpr char kUpper[] = "upper";

template <StripEnds kEnds>
Value string_strip(Interpreter& in, Call& call) {
  const auto [chars] = call.bind("strip", {""});
  charge(in, call);
  const std::string_view set = is_given(chars) ? string_argument(chars) : std::string_view();
  return like_self(in, call, std::string(strip(text_of(call.self), is_given(chars) ? &set : nullptr, kEnds)));
}

// Parts of a text between separators, at most `max` cuts from the left.
std::vector<std::string_view> split_at(Heap& heap, std::string_view text, std::string_view separator,
                                       int64_t max) {
  std::vector<std::string_view> parts;
  size_t begin = 0;
  while (max-- != 0) {
    const size_t end = find_text(text, separator, begin);
    if (end == text.npos) break;
    heap.step();
    parts.push_back(text.substr(begin, end - begin));
    begin = end + separator.size();
  }
  parts.push_back(text.substr(begin));
  return parts;
}

std::vector<std::string_view> split_space(Heap& heap, std::string_view text, int64_t max) {
  std::vector<std::string_view> parts;
  text.remove_prefix(count_leading_space(text));
  while (!text.empty() && max-- != 0) {
    heap.step();
    size_t end = 0;
    while (end < text.size() && count_leading_space(text.substr(end, 4)) == 0) ++end;
    parts.push_back(text.substr(0, end));
    text.remove_prefix(end);
    text.remove_prefix(count_leading_space(text));
  }
  if (!text.empty()) parts.push_back(text);
  return parts;
}

std::vector<std::string_view> rsplit_space(Heap& heap, std::string_view text, int64_t max) {
  std::vector<std::string_view> parts;
  text.remove_suffix(count_trailing_space(text));
  while (!text.empty() && max-- != 0) {
    heap.step();
    size_t begin = text.size();
    while (begin > 0 && count_trailing_space(text.substr(0, begin)) == 0) --begin;
    parts.push_back(text.substr(begin));
    text.remove_suffix(text.size() - begin);
    text.remove_suffix(count_trailing_space(text));
  }
  if (!text.empty()) parts.push_back(text);
  std::ranges::reverse(parts);
  return parts;
}

// All separators from the left, so that the last `max` can be kept: same cuts as from the right unless a
// separator overlaps itself, which is searched backwards.
std::vector<std::string_view> rsplit_at(Heap& heap, std::string_view text, std::string_view separator,
                                        int64_t max) {
  std::vector<std::string_view> parts;
  std::string reversed(text.rbegin(), text.rend());
  const std::string reversed_separator(separator.rbegin(), separator.rend());
  for (std::string_view part : split_at(heap, reversed, reversed_separator, max)) {
    const size_t end = text.size() - static_cast<size_t>(part.data() - reversed.data());
    parts.push_back(text.substr(end - part.size(), part.size()));
  }
  std::ranges::reverse(parts);
  return parts;
}

Value make_parts(Interpreter& in, const Call& call, const std::vector<std::string_view>& parts) {
  Values values;
  values.reserve(parts.size());
  for (std::string_view part : parts) values.push_back(like_self(in, call, std::string(part)));
  return make_list(in.heap(), std::move(values));
}

template <bool kFromRight>
Value string_split(Interpreter& in, Call& call) {
  const auto [separator, maxsplit] = call.bind("split", {"sep", "maxsplit"});
  charge(in, call);
  const std::string& text = text_of(call.self);
  const int64_t max = int_argument(maxsplit, -1);
  if (!is_given(separator)) {
    return make_parts(in, call,
                      kFromRight ? rsplit_space(in.heap(), text, max) : split_space(in.heap(), text, max));
  }
  const std::string& cut = string_argument(separator);
  if (cut.empty()) raise("empty separator");
  return make_parts(in, call,
                    kFromRight ? rsplit_at(in.heap(), text, cut, max) : split_at(in.heap(), text, cut, max));
}

Value string_splitlines(Interpreter& in, Call& call) {
  const auto [keepends] = call.bind("splitlines", {"keepends"});
  charge(in, call);
  return make_parts(in, call, split_lines(text_of(call.self), is_true(in.heap(), keepends)));
}

template <bool kFromRight>
Value string_partition(Interpreter& in, Call& call) {
  const auto [separator] = call.bind("partition", {""}, 1);
  charge(in, call);
  const std::string_view text = text_of(call.self);
  const std::string_view cut = string_argument(separator);
  if (cut.empty()) raise("empty separator");
  const size_t at = kFromRight ? rfind_text(text, cut) : find_text(text, cut);
  std::string_view parts[3] = {text, "", ""};
  if (at != text.npos) {
    parts[0] = text.substr(0, at);
    parts[1] = cut;
    parts[2] = text.substr(at + cut.size());
  } else if (kFromRight) {
    std::swap(parts[0], parts[2]);
  }
  Values values;
  for (std::string_view part : parts) values.push_back(like_self(in, call, std::string(part)));
  return make_tuple(in.heap(), std::move(values));
}

// The part of the text that [start, end) names in characters, and where it begins. Nothing where it is empty
// because start lies behind the end: there even "" is not found.
struct Window {
  std::string_view text;
  size_t first_char;
  bool is_valid;
};

Window window_of(const Call& call, const Value& start, const Value& end) {
  const std::string_view text = text_of(call.self);
  const int64_t size = length_of(call.self);
  const auto bound = [size](const Value& value, int64_t open) {
    if (!is_given(value)) return open;
    const int64_t at = int_argument(value, open);
    return at < 0 ? std::max<int64_t>(at + size, 0) : at;
  };
  const int64_t from = bound(start, 0);
  const int64_t to = std::min(bound(end, size), size);
  if (from > size || from > to) return {{}, 0, false};
  const size_t first = byte_of_char(text, static_cast<size_t>(from));
  const size_t n_bytes = byte_of_char(text.substr(first), static_cast<size_t>(to - from));
  return {text.substr(first, n_bytes), static_cast<size_t>(from), true};
}

template <bool kFromRight>
int64_t find_in(Interpreter& in, Call& call, std::string_view name) {
  const auto [wanted, start, end] = call.bind(name, {"", "", ""}, 1);
  charge(in, call);
  const std::string& needle = string_argument(wanted);
  const Window window = window_of(call, start, end);
  if (!window.is_valid) return -1;
  const size_t at = kFromRight ? rfind_text(window.text, needle) : find_text(window.text, needle);
  if (at == std::string_view::npos) return -1;
  return static_cast<int64_t>(window.first_char + char_of_byte(window.text, at));
}

template <bool kFromRight>
Value string_find(Interpreter& in, Call& call) {
  return Value(find_in<kFromRight>(in, call, "find"));
}

template <bool kFromRight>
Value string_index(Interpreter& in, Call& call) {
  const int64_t at = find_in<kFromRight>(in, call, "index");
  if (at < 0) raise("substring not found");
  return Value(at);
}

Value string_count(Interpreter& in, Call& call) {
  const auto [wanted, start, end] = call.bind("count", {"", "", ""}, 1);
  charge(in, call);
  const std::string& needle = string_argument(wanted);
  const Window window = window_of(call, start, end);
  if (!window.is_valid) return Value(int64_t{0});
  if (needle.empty()) return Value(static_cast<int64_t>(count_chars(window.text)) + 1);
  const size_t n_parts = split_at(in.heap(), window.text, needle, -1).size();
  return Value(static_cast<int64_t>(n_parts) - 1);
}

template <bool kAtEnd>
Value string_has_affix(Interpreter& in, Call& call) {
  const auto [affix, start, end] = call.bind(kAtEnd ? "endswith" : "startswith", {"", "", ""}, 1);
  const Window window = window_of(call, start, end);
  const auto holds = [&](const Value& value) {
    const std::string& text = string_argument(value);
    return window.is_valid && (kAtEnd ? window.text.ends_with(text) : window.text.starts_with(text));
  };
  if (!affix.is(Kind::tuple)) return Value(holds(affix));
  for (const Value& one : affix.as<Sequence>().items) {
    in.heap().step();
    if (holds(one)) return Value(true);
  }
  return Value(false);
}

template <bool kAtEnd>
Value string_remove_affix(Interpreter& in, Call& call) {
  const auto [affix] = call.bind("removeprefix", {""}, 1);
  std::string_view text = text_of(call.self);
  const std::string& part = string_argument(affix);
  if (kAtEnd && text.ends_with(part)) text.remove_suffix(part.size());
  if (!kAtEnd && text.starts_with(part)) text.remove_prefix(part.size());
  return like_self(in, call, std::string(text));
}

// "" stands between all characters, and at both ends.
std::string replace_between(std::string_view text, std::string_view with, int64_t max) {
  std::string out;
  for (size_t at = 0; at <= text.size(); ++at) {
    const bool is_boundary = at == text.size() || (text[at] & 0xc0) != 0x80;
    if (is_boundary && max != 0) {
      out += with;
      --max;
    }
    if (at < text.size()) out += text[at];
  }
  return out;
}

Value string_replace(Interpreter& in, Call& call) {
  const auto [old, replacement, count] = call.bind("replace", {"", "", ""}, 2);
  charge(in, call);
  const std::string& text = text_of(call.self);
  const std::string& from = string_argument(old);
  const std::string to = inserted(call, replacement);
  const int64_t max = int_argument(count, -1);
  if (from.empty()) {
    in.heap().expect_room(text.size() + (call.self.as<String>().n_chars + 1) * to.size());
    return like_self(in, call, replace_between(text, to, max));
  }
  const std::vector<std::string_view> parts = split_at(in.heap(), text, from, max);
  in.heap().expect_room(text.size() + parts.size() * to.size());
  std::string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += to;
    out += parts[i];
  }
  return like_self(in, call, std::move(out));
}

Value string_join(Interpreter& in, Call& call) {
  const auto [iterable] = call.bind("join", {""}, 1);
  const Ref<Iterator> items = iterate(in, iterable);
  std::string out;
  bool is_first = true;
  for (Value item; items->next(in, item);) {
    if (!std::exchange(is_first, false)) out += text_of(call.self);
    if (!item.is_string() && !is_markup(call.self)) {
      raise("sequence item: expected str instance, {} found", type_name(item));
    }
    const Value text = item.is_string() ? item : make_string(in.heap(), to_str(in.heap(), item));
    out += inserted(call, text);
    in.heap().expect_room(out.size());
    in.heap().step_bytes(text_of(text).size() + text_of(call.self).size());
  }
  return like_self(in, call, std::move(out));
}

template <char kAlign>
Value string_pad(Interpreter& in, Call& call) {
  const auto [width, fill] = call.bind("center", {"", ""}, 1);
  const std::string filler = fill.is_missing() ? " " : string_argument(fill);
  if (count_chars(filler) != 1) raise("The fill character must be exactly one character long");
  const std::string& text = text_of(call.self);
  const int64_t n = int_argument(width, 0);
  in.heap().expect_room(n > 0 ? static_cast<size_t>(n) : 0);
  if (kAlign != '^') return like_self(in, call, pad(in.heap(), text, {filler, kAlign, n}));
  // str.center puts the odd one left where the width is odd too.
  const int64_t n_fill = std::max<int64_t>(n - length_of(call.self), 0);
  const int64_t n_left = n_fill / 2 + (n_fill & n & 1);
  const std::string left = pad(in.heap(), "", {filler, '<', n_left});
  return like_self(in, call, left + text + pad(in.heap(), "", {filler, '<', n_fill - n_left}));
}

Value string_zfill(Interpreter& in, Call& call) {
  const auto [width] = call.bind("zfill", {""}, 1);
  const std::string& text = text_of(call.self);
  const size_t n_sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  const int64_t n = int_argument(width, 0) - static_cast<int64_t>(n_sign);
  in.heap().expect_room(n > 0 ? static_cast<size_t>(n) : 0);
  return like_self(in, call, text.substr(0, n_sign) + pad(in.heap(), text.substr(n_sign), {"0", '>', n}));
}

Value string_expandtabs(Interpreter& in, Call& call) {
  const auto [tabsize] = call.bind("expandtabs", {"tabsize"});
  charge(in, call);
  const int64_t size = int_argument(tabsize, 8);
  std::string out;
  int64_t column = 0;
  for (const char c : text_of(call.self)) {
    if (c != '\t') {
      out += c;
      if ((c & 0xc0) != 0x80) column = c == '\n' || c == '\r' ? 0 : column + 1;
      continue;
    }
    const int64_t n = size > 0 ? size - column % size : 0;
    in.heap().expect_room(out.size() + static_cast<size_t>(n));
    in.heap().step_bytes(static_cast<size_t>(n));
    out.append(static_cast<size_t>(n), ' ');
    column += n;
  }
  return like_self(in, call, std::move(out));
}

Value string_format(Interpreter& in, Call& call) { return format_braces(in, call); }

Value string_format_map(Interpreter& in, Call& call) {
  const auto [mapping] = call.bind("format_map", {""}, 1);
  if (!mapping.is(Kind::dict)) raise("format_map() needs a mapping, found '{}'", type_name(mapping));
  Call format{call.self, {}, {}};
  for (const auto& [key, value] : mapping.as<Dict>().entries()) {
    if (key.is_string()) format.named.emplace_back(key, value);
  }
  return format_braces(in, format);
}

}  // namespace

std::span<const NamedBuiltin> string_methods() {
  static constexpr NamedBuiltin kMethods[] = {
      {"upper", string_convert<to_upper>},
      {"lower", string_convert<to_lower>},
      {"title", string_convert<to_title>},
      {"capitalize", string_convert<to_capitalized>},
      {"swapcase", string_convert<to_swapped_case>},
      {"casefold", string_convert<casefold>},
      {"strip", string_strip<StripEnds{true, true}>},
      {"lstrip", string_strip<StripEnds{true, false}>},
      {"rstrip", string_strip<StripEnds{false, true}>},
      {"split", string_split<false>},
      {"rsplit", string_split<true>},
      {"splitlines", string_splitlines},
      {"partition", string_partition<false>},
      {"rpartition", string_partition<true>},
      {"find", string_find<false>},
      {"rfind", string_find<true>},
      {"index", string_index<false>},
      {"rindex", string_index<true>},
      {"count", string_count},
      {"startswith", string_has_affix<false>},
      {"endswith", string_has_affix<true>},
      {"removeprefix", string_remove_affix<false>},
      {"removesuffix", string_remove_affix<true>},
      {"replace", string_replace},
      {"join", string_join},
      {"ljust", string_pad<'<'>},
      {"rjust", string_pad<'>'>},
      {"center", string_pad<'^'>},
      {"zfill", string_zfill},
      {"expandtabs", string_expandtabs},
      {"format", string_format},
      {"format_map", string_format_map},
      {"isalpha", string_is_all<is_alpha>},
      {"isalnum", string_is_all<is_alnum>},
      {"isdecimal", string_is_all<is_decimal>},
      {"isdigit", string_is_all<is_digit>},
      {"isnumeric", string_is_all<is_numeric>},
      {"isspace", string_is_all<is_space>},
      {"islower", string_by_test<kLower>},
      {"isupper", string_by_test<kUpper>},
      {"istitle", string_istitle},
      {"isascii", string_isascii},
      {"isprintable", string_isprintable},
      {"isidentifier", string_isidentifier},
  };
  return kMethods;
}

}  // namespace millrace::jinja
