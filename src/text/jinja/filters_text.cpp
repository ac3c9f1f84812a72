#include <algorithm>

#include "base/error.h"
#include "base/utf8.h"
#include "text/jinja/filters.h"
#include "text/jinja/format.h"
#include "text/jinja/py_string.h"
#include "text/jinja/py_text.h"

namespace millrace::jinja {
namespace {

// The text of any value; what was markup stays markup.
std::string soft_text(Interpreter& in, const Value& value) { return to_str(in.heap(), value); }

Value like(Interpreter& in, const Value& original, std::string text) {
  return make_string(in.heap(), std::move(text), is_markup(original));
}

Value filter_upper(Interpreter& in, Call& call) {
  call.expect_none("upper");
  return like(in, call.self, to_upper(soft_text(in, call.self)));
}

Value filter_lower(Interpreter& in, Call& call) {
  call.expect_none("lower");
  return like(in, call.self, to_lower(soft_text(in, call.self)));
}

Value filter_capitalize(Interpreter& in, Call& call) {
  call.expect_none("capitalize");
  return like(in, call.self, to_capitalized(soft_text(in, call.self)));
}

// Words begin after space, '-' and opening brackets, other than in str.title().
Value filter_title(Interpreter& in, Call& call) {
  call.expect_none("title");
  const std::string text = soft_text(in, call.self);
  std::string out;
  size_t begin = 0;  // of the word
  const auto end_word = [&](size_t end) {
    const std::string_view word = std::string_view(text).substr(begin, end - begin);
    if (word.empty()) return;
    const auto n_first = static_cast<size_t>(next_utf8(word, 0).n_bytes);
    out += to_upper(word.substr(0, n_first)) + to_lower(word.substr(n_first));
  };
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    const auto n_bytes = static_cast<size_t>(c.n_bytes);
    const bool is_ascii = c.code_point < 0x80;
    if (is_space(c.code_point) || (is_ascii && std::string_view("-({[<").find(static_cast<char>(
                                                   c.code_point)) != std::string_view::npos)) {
      end_word(at);
      out += text.substr(at, n_bytes);
      begin = at + n_bytes;
    }
    at += n_bytes;
  }
  end_word(text.size());
  return make_string(in.heap(), std::move(out));
}

Value filter_trim(Interpreter& in, Call& call) {
  const auto [chars] = call.bind("trim", {"chars"});
  const std::string text = soft_text(in, call.self);
  const std::string_view set = is_given(chars) ? string_argument(chars) : std::string_view();
  return like(in, call.self, std::string(strip(text, is_given(chars) ? &set : nullptr, {})));
}

Value filter_replace(Interpreter& in, Call& call) {
  auto [old, with, count] = call.bind("replace", {"old", "new", "count"}, 2);
  Call replace;
  replace.self = make_string(in.heap(), soft_text(in, call.self));
  replace.positional = {make_string(in.heap(), soft_text(in, old)),
                        make_string(in.heap(), soft_text(in, with))};
  if (is_given(count)) replace.positional.push_back(count);
  return find_method(Kind::string, "replace")->builtin(in, replace);
}

Value filter_string(Interpreter& in, Call& call) {
  call.expect_none("string");
  return call.self.is_string() ? call.self : make_string(in.heap(), soft_text(in, call.self));
}

Value filter_escape(Interpreter& in, Call& call) {
  call.expect_none("escape");
  if (is_markup(call.self)) return call.self;
  return make_string(in.heap(), html_escape(soft_text(in, call.self)), true);
}

Value filter_forceescape(Interpreter& in, Call& call) {
  call.expect_none("forceescape");
  return make_string(in.heap(), html_escape(soft_text(in, call.self)), true);
}

Value filter_safe(Interpreter& in, Call& call) {
  call.expect_none("safe");
  return make_string(in.heap(), soft_text(in, call.self), true);
}

Value filter_center(Interpreter& in, Call& call) {
  const auto [width] = call.bind("center", {"width"});
  Call center;
  center.self = call.self.is_string() ? call.self : make_string(in.heap(), soft_text(in, call.self));
  center.positional = {Value(int_argument(width, 80))};
  return find_method(Kind::string, "center")->builtin(in, center);
}

Value filter_format(Interpreter& in, Call& call) {
  const Value format = call.self.is_string() ? call.self : make_string(in.heap(), soft_text(in, call.self));
  if (call.named.empty()) return format_printf(in.heap(), format, make_tuple(in.heap(), call.positional));
  if (!call.positional.empty()) raise("can't handle positional and keyword arguments at the same time");
  auto* dict = in.heap().make<Dict>(call.named.size());
  const Value arguments(Kind::dict, dict);
  for (const auto& [name, value] : call.named) dict->set(in.heap(), name, value);
  return format_printf(in.heap(), format, arguments);
}

Value filter_indent(Interpreter& in, Call& call) {
  const auto [width, first, blank] = call.bind("indent", {"width", "first", "blank"});
  const std::string& text = string_argument(call.self);
  std::string indention;
  if (width.is_string()) {
    indention = text_of(width);
  } else {
    indention = pad(in.heap(), "", {" ", '<', int_argument(width, 4)});
  }
  const bool indents_blank = is_true(in.heap(), blank);
  const std::string whole = text + "\n";
  std::string out = is_true(in.heap(), first) ? indention : "";
  bool is_first = true;
  for (std::string_view line : split_lines(whole, false)) {
    in.heap().step_bytes(indention.size());
    in.heap().expect_room(out.size() + indention.size());
    if (!is_first) {
      out += '\n';
      if (!line.empty() || indents_blank) out += indention;
    }
    out += line;
    is_first = false;
  }
  return like(in, call.self, std::move(out));
}

Value filter_truncate(Interpreter& in, Call& call) {
  const auto [size, killwords, end, leeway] = call.bind("truncate", {"length", "killwords", "end", "leeway"});
  const std::string_view tail = end.is_missing() ? std::string_view("...") : string_argument(end);
  const int64_t max = int_argument(size, 255);
  const int64_t slack = is_given(leeway) ? int_argument(leeway, 5) : 5;
  const auto n_tail = static_cast<int64_t>(count_chars(tail));
  if (max < n_tail) raise("expected length >= {}, got {}", n_tail, max);
  if (slack < 0) raise("expected leeway >= 0, got {}", slack);
  const int64_t length = length_of(call.self);
  if (length < 0) raise("object of type '{}' has no len()", type_name(call.self));
  if (length - slack <= max) return call.self;
  const std::string_view text = string_argument(call.self);
  std::string_view kept = text.substr(0, byte_of_char(text, static_cast<size_t>(max - n_tail)));
  if (!is_true(in.heap(), killwords)) kept = kept.substr(0, kept.rfind(' '));
  return like(in, call.self, std::string(kept) + std::string(tail));
}

Value filter_wordcount(Interpreter& in, Call& call) {
  call.expect_none("wordcount");
  int64_t n_words = 0;
  bool is_in_word = false;
  for (uint32_t c : code_points(soft_text(in, call.self))) {
    const bool is_word = c == '_' || is_alnum(c);
    n_words += is_word && !is_in_word ? 1 : 0;
    is_in_word = is_word;
  }
  return Value(n_words);
}

std::string quote_url(std::string_view text, bool is_query) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool is_plain =
        (byte < 0x80 && is_alnum(byte)) || std::string_view("_.-~").find(c) != std::string_view::npos;
    if (is_plain || (c == '/' && !is_query)) {
      out += c;
    } else if (c == ' ' && is_query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

Value filter_urlencode(Interpreter& in, Call& call) {
  call.expect_none("urlencode");
  if (call.self.is_string() || !is_iterable(call.self)) {
    return make_string(in.heap(), quote_url(soft_text(in, call.self), false));
  }
  Value pairs = call.self;
  if (pairs.is(Kind::dict))
    pairs = Value(Kind::dict_view, in.heap().make<DictView>(pairs, DictView::Part::items));
  std::string out;
  for (const Value& pair : to_values(in, pairs)) {
    const Values both = to_values(in, pair);
    if (both.size() != 2) raise("expected pairs of a name and a value, found {} values", both.size());
    if (!out.empty()) out += '&';
    out += quote_url(soft_text(in, both[0]), true) + "=" + quote_url(soft_text(in, both[1]), true);
    in.heap().expect_room(out.size());
  }
  return make_string(in.heap(), std::move(out));
}

Value filter_xmlattr(Interpreter& in, Call& call) {
  const auto [autospace] = call.bind("xmlattr", {"autospace"});
  if (!call.self.is(Kind::dict)) raise("expected a mapping, found '{}'", type_name(call.self));
  const auto escaped = [&](const Value& value) {
    const std::string text = soft_text(in, value);
    return is_markup(value) ? text : html_escape(text);
  };
  std::string out;
  for (const auto& [key, value] : call.self.as<Dict>().entries()) {
    if (value.is_none() || value.is_undefined()) continue;
    if (!out.empty()) out += ' ';
    out += escaped(key) + "=\"" + escaped(value) + "\"";
    in.heap().expect_room(out.size());
  }
  const bool has_space = autospace.is_missing() || is_true(in.heap(), autospace);
  return make_string(in.heap(), has_space && !out.empty() ? " " + out : out);
}

JsonStyle json_style(Interpreter& in, Call& call) {
  const auto [ascii, indent, separators, sorted] =
      call.bind("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.is_ascii = is_true(in.heap(), ascii);
  style.is_sorted = is_true(in.heap(), sorted);
  if (is_given(indent)) {
    style.is_indented = true;
    style.indent =
        indent.is_string() ? text_of(indent) : pad(in.heap(), "", {" ", '<', int_argument(indent, 0)});
    style.item_separator = ",";
  }
  if (is_given(separators)) {
    const Values both = to_values(in, separators);
    if (both.size() != 2) raise("expected two separators, found {}", both.size());
    style.item_separator = string_argument(both[0]);
    style.key_separator = string_argument(both[1]);
  }
  return style;
}

// As Hugging Face defines it: json.dumps without the escapes for HTML.
Value filter_tojson(Interpreter& in, Call& call) {
  const JsonStyle style = json_style(in, call);
  return make_string(in.heap(), to_json(in.heap(), call.self, style));
}

}  // namespace

std::span<const NamedBuiltin> text_filters() {
  static constexpr NamedBuiltin kFilters[] = {
      {"upper", filter_upper},
      {"lower", filter_lower},
      {"capitalize", filter_capitalize},
      {"title", filter_title},
      {"trim", filter_trim},
      {"replace", filter_replace},
      {"string", filter_string},
      {"escape", filter_escape},
      {"e", filter_escape},
      {"forceescape", filter_forceescape},
      {"safe", filter_safe},
      {"center", filter_center},
      {"format", filter_format},
      {"indent", filter_indent},
      {"truncate", filter_truncate},
      {"wordcount", filter_wordcount},
      {"urlencode", filter_urlencode},
      {"xmlattr", filter_xmlattr},
      {"tojson", filter_tojson},
  };
  return kFilters;
}

}  // namespace millrace::jinja
