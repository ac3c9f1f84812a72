// Methods and attributes of values, as Jinja's immutable sandbox gives them out.
#include <fmt/core.h>

#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/strings.h"

namespace millrace::jinja {
namespace {

using TextMethod = Value (*)(Context& context, const std::string& text, const Arguments& arguments);
using DictMethod = Value (*)(const Dict& dict, const Arguments& arguments);

std::optional<std::string> optional_text(const Arguments& arguments, size_t index, std::string_view name) {
  const Value* value = arguments.find(index, name);
  return value == nullptr || value->is_none() ? std::nullopt : std::optional(value->text());
}

Value list_of(const std::vector<std::string_view>& pieces) {
  Values items(pieces.begin(), pieces.end());
  return Value::list(std::move(items));
}

std::optional<std::string> separator_of(const Arguments& arguments) {
  std::optional<std::string> separator = optional_text(arguments, 0, "sep");
  if (separator && separator->empty()) throw RenderError("empty separator");
  return separator;
}

int64_t char_index(const std::string& text, size_t byte) {
  return byte == std::string::npos
             ? -1
             : static_cast<int64_t>(characters(std::string_view(text).substr(0, byte)).size());
}

// startswith and endswith also take a tuple of texts.
template <class F>
bool any_text(const Value& value, const F& matches) {
  if (value.is_string()) return matches(value.text());
  return std::ranges::any_of(value.items(), [&](const Value& each) { return matches(each.text()); });
}

std::string joined(Context& context, const std::string& separator, const Values& items) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    const std::string& text = items[i].text();
    context.expect_room(out.size() + text.size());
    out += (i == 0 ? "" : separator) + text;
  }
  return out;
}

Value replace(Context& context, const std::string& text, const Arguments& a) {
  const std::string& from = a.need(0, "old").text();
  const std::string& to = a.need(1, "new").text();
  context.expect_room(text.size() + (from.empty() ? text.size() + 1 : text.size() / from.size()) * to.size());
  return replaced(text, from, to, a.get(2, "count", Value(int64_t{-1})).integer());
}

// "{} {name}".format(...): plain fields only.
Value format_braces(Context& context, const std::string& text, const Arguments& a) {
  std::string out;
  size_t next = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c == '{' || c == '}') && i + 1 < text.size() && text[i + 1] == c) {
      out += c;
      ++i;
    } else if (c == '{') {
      const size_t end = text.find('}', i);
      if (end == text.npos) throw RenderError("expected '}' before end of string");
      const std::string field = text.substr(i + 1, end - i - 1);
      if (field.find_first_of(":!.[") != field.npos)
        throw RenderError("only plain fields are known in format()");
      const bool is_index =
          !field.empty() && field.find_first_not_of("0123456789") == field.npos && field.size() < 6;
      const size_t index = field.empty() ? next++ : is_index ? std::stoul(field) : SIZE_MAX;
      out += a.need(index, field).str();
      context.expect_room(out.size());
      i = end;
    } else {
      out += c;
    }
  }
  return out;
}

constexpr std::pair<std::string_view, TextMethod> kTextMethods[] = {
    {"upper", [](Context&, const std::string& t, const Arguments&) -> Value { return upper(t); }},
    {"lower", [](Context&, const std::string& t, const Arguments&) -> Value { return lower(t); }},
    {"casefold", [](Context&, const std::string& t, const Arguments&) -> Value { return lower(t); }},
    {"capitalize", [](Context&, const std::string& t, const Arguments&) -> Value { return capitalized(t); }},
    {"title", [](Context&, const std::string& t, const Arguments&) -> Value { return titled(t); }},
    {"strip",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       return stripped(t, optional_text(a, 0, "chars"), Ends::both);
     }},
    {"lstrip",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       return stripped(t, optional_text(a, 0, "chars"), Ends::left);
     }},
    {"rstrip",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       return stripped(t, optional_text(a, 0, "chars"), Ends::right);
     }},
    {"split",
     [](Context& context, const std::string& t, const Arguments& a) -> Value {
       context.step(static_cast<int64_t>(t.size() / 16));
       return list_of(split(t, separator_of(a), a.get(1, "maxsplit", Value(int64_t{-1})).integer()));
     }},
    {"rsplit",
     [](Context& context, const std::string& t, const Arguments& a) -> Value {
       context.step(static_cast<int64_t>(t.size() / 16));
       return list_of(
           split_from_right(t, separator_of(a), a.get(1, "maxsplit", Value(int64_t{-1})).integer()));
     }},
    {"splitlines",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       return list_of(split_lines(t, a.get(0, "keepends", Value(false)).is_true()));
     }},
    {"partition",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       const std::string& separator = a.need(0, "sep").text();
       const size_t at = t.find(separator);
       if (at == t.npos) return Value::list({t, "", ""}, true);
       return Value::list({t.substr(0, at), separator, t.substr(at + separator.size())}, true);
     }},
    {"startswith",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       return any_text(a.need(0, "prefix"), [&](const std::string& p) { return t.starts_with(p); });
     }},
    {"endswith",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       return any_text(a.need(0, "suffix"), [&](const std::string& p) { return t.ends_with(p); });
     }},
    {"removeprefix",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       const std::string& p = a.need(0, "prefix").text();
       return t.starts_with(p) ? t.substr(p.size()) : t;
     }},
    {"removesuffix",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       const std::string& p = a.need(0, "suffix").text();
       return t.ends_with(p) ? t.substr(0, t.size() - p.size()) : t;
     }},
    {"find",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       return char_index(t, t.find(a.need(0, "sub").text()));
     }},
    {"rfind",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       return char_index(t, t.rfind(a.need(0, "sub").text()));
     }},
    {"index",
     [](Context&, const std::string& t, const Arguments& a) -> Value {
       const int64_t i = char_index(t, t.find(a.need(0, "sub").text()));
       if (i < 0) throw RenderError("substring not found");
       return i;
     }},
    {"count",
     [](Context& context, const std::string& t, const Arguments& a) -> Value {
       context.step(static_cast<int64_t>(t.size() / 16));
       return static_cast<int64_t>(
                  split(t, a.need(0, "sub").text().empty() ? " " : a.need(0, "sub").text(), -1).size()) -
              1;
     }},
    {"replace", replace},
    {"join",
     [](Context& context, const std::string& t, const Arguments& a) -> Value {
       return joined(context, t, iterate(a.need(0, "iterable")));
     }},
    {"format", format_braces},
    {"isdigit", [](Context&, const std::string& t, const Arguments&) -> Value { return is_all_digits(t); }},
    {"isdecimal", [](Context&, const std::string& t, const Arguments&) -> Value { return is_all_digits(t); }},
    {"isnumeric", [](Context&, const std::string& t, const Arguments&) -> Value { return is_all_digits(t); }},
    {"isalpha",
     [](Context&, const std::string& t, const Arguments&) -> Value { return is_all_alpha(t, false); }},
    {"isalnum",
     [](Context&, const std::string& t, const Arguments&) -> Value { return is_all_alpha(t, true); }},
    {"isspace", [](Context&, const std::string& t, const Arguments&) -> Value { return is_all_space(t); }},
    {"isupper", [](Context&, const std::string& t, const Arguments&) -> Value { return is_upper_text(t); }},
    {"islower", [](Context&, const std::string& t, const Arguments&) -> Value { return is_lower_text(t); }},
};

Value parts_of(const Dict& dict, bool with_keys, bool with_values) {
  Values items;
  for (const auto& [key, value] : dict.entries) {
    items.push_back(with_keys && with_values ? Value::list({key, value}, true) : with_keys ? key : value);
  }
  return Value::list(std::move(items));
}

constexpr std::pair<std::string_view, DictMethod> kDictMethods[] = {
    {"items", [](const Dict& dict, const Arguments&) { return parts_of(dict, true, true); }},
    {"keys", [](const Dict& dict, const Arguments&) { return parts_of(dict, true, false); }},
    {"values", [](const Dict& dict, const Arguments&) { return parts_of(dict, false, true); }},
    {"get",
     [](const Dict& dict, const Arguments& a) {
       const Value* value = dict.find(a.need(0, "key"));
       return value != nullptr ? *value : a.get(1, "default", Value());
     }},
    {"copy",
     [](const Dict& dict, const Arguments&) -> Value {
       return std::make_shared<Dict>(Dict{.entries = dict.entries});
     }},
};

// Methods that would change a value: the sandbox lets templates name them, but not call them.
constexpr std::string_view kForbidden[] = {"append", "extend", "insert",  "remove",     "reverse", "sort",
                                           "clear",  "pop",    "popitem", "setdefault", "update"};

Value method(std::string_view name, std::function<Value(const Arguments&)> call) {
  return std::make_shared<Function>(Function{std::string(name), std::move(call)});
}

// A method of the value, or undefined.
Value method_of(Context& context, const Value& value, std::string_view name) {
  if (value.is_string()) {
    const auto* at = std::ranges::find(kTextMethods, name, &std::pair<std::string_view, TextMethod>::first);
    if (at != std::end(kTextMethods)) {
      return method(name, [&context, value, call = at->second](const Arguments& a) {
        return call(context, value.text(), a);
      });
    }
  }
  if (value.is_dict() && !value.dict().is_namespace) {
    const auto* at = std::ranges::find(kDictMethods, name, &std::pair<std::string_view, DictMethod>::first);
    if (at != std::end(kDictMethods)) {
      return method(name, [value, call = at->second](const Arguments& a) { return call(value.dict(), a); });
    }
  }
  if (value.is_list() && (name == "index" || name == "count")) {
    return method(name, [value, is_count = name == "count"](const Arguments& a) -> Value {
      int64_t n = 0;
      for (size_t i = 0; i < value.items().size(); ++i) {
        if (!is_equal(value.items()[i], a.need(0, "value"))) continue;
        if (!is_count) return static_cast<int64_t>(i);
        ++n;
      }
      if (!is_count) throw RenderError("the value is not in the list");
      return n;
    });
  }
  if ((value.is_list() || value.is_dict()) && std::ranges::find(kForbidden, name) != std::end(kForbidden)) {
    return method(name, [shown = std::string(name)](const Arguments&) -> Value {
      throw RenderError(
          fmt::format("access to attribute '{}' is unsafe: templates cannot change values", shown));
    });
  }
  return Undefined{fmt::format("{} object has no attribute '{}'", value.type_name(), name)};
}

}  // namespace

Value attribute_of(Context& context, const Value& value, std::string_view name) {
  if (value.is_undefined()) throw RenderError(fmt::format("'{}' is undefined", value.undefined_name()));
  Value found = method_of(context, value, name);
  if (!found.is_undefined() || !value.is_dict()) return found;
  const Value* item = value.dict().find(name);
  return item != nullptr ? *item : found;
}

Value item_of(Context& context, const Value& value, const Value& key) {
  if (value.is_undefined()) throw RenderError(fmt::format("'{}' is undefined", value.undefined_name()));
  if (value.is_dict()) {
    if (const Value* item = value.dict().find(key)) return *item;
  } else if (key.is_integral() && (value.is_string() || (value.is_list() && !value.is_generator()))) {
    const int64_t n = length_of(value);
    const int64_t i = key.integer() < 0 ? key.integer() + n : key.integer();
    if (i < 0 || i >= n)
      return Undefined{fmt::format("{} object has no element {}", value.type_name(), key.integer())};
    context.step(value.is_string() ? n / 16 : 0);
    return value.is_list() ? value.items()[static_cast<size_t>(i)]
                           : Value(characters(value.text())[static_cast<size_t>(i)]);
  }
  if (key.is_string()) return method_of(context, value, key.text());
  return Undefined{fmt::format("{} object has no element {}", value.type_name(), key.str())};
}

}  // namespace millrace::jinja
