#include "text/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/utf8.h"

namespace millrace::jinja {
namespace {

constexpr size_t kMaxDepth = 200;  // of nested values that are printed or compared

[[noreturn]] void refuse(const Value& value, std::string_view wanted) {
  if (value.is_undefined()) throw RenderError(fmt::format("'{}' is undefined", value.undefined_name()));
  throw RenderError(fmt::format("expected {}, found {}", wanted, value.type_name()));
}

void check_depth(size_t depth) {
  if (depth > kMaxDepth) throw RenderError("values nest too deeply");
}

std::string quoted(std::string_view text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == quote || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 32 || c == 127) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string repr_at(const Value& value, size_t depth) {
  check_depth(depth);
  if (value.is_string()) return quoted(value.text());
  if (value.is_generator()) return "<generator object>";
  if (value.is_list()) {
    const bool is_tuple = value.type_name() == "tuple";
    std::string out(1, is_tuple ? '(' : '[');
    for (size_t i = 0; i < value.items().size(); ++i)
      out += (i == 0 ? "" : ", ") + repr_at(value.items()[i], depth + 1);
    if (is_tuple && value.items().size() == 1) out += ",";
    return out + (is_tuple ? ')' : ']');
  }
  if (value.is_dict()) {
    std::string out = "{";
    for (const auto& [key, item] : value.dict().entries) {
      out += (out.size() == 1 ? "" : ", ") + repr_at(key, depth + 1) + ": " + repr_at(item, depth + 1);
    }
    return out + "}";
  }
  if (value.is_undefined()) return "Undefined";
  return value.str();
}

bool is_equal_at(const Value& a, const Value& b, size_t depth) {
  check_depth(depth);
  if (a.is_number() && b.is_number()) {
    return a.is_integral() && b.is_integral() ? a.integer() == b.integer() : a.real() == b.real();
  }
  if (a.is_string() && b.is_string()) return a.text() == b.text();
  if (a.is_list() && b.is_list()) {
    return a.type_name() == b.type_name() &&
           std::ranges::equal(a.items(), b.items(),
                              [&](const Value& x, const Value& y) { return is_equal_at(x, y, depth + 1); });
  }
  if (a.is_dict() && b.is_dict()) {
    const auto& entries = a.dict().entries;
    return entries.size() == b.dict().entries.size() && std::ranges::all_of(entries, [&](const auto& entry) {
             const Value* other = b.dict().find(entry.first);
             return other != nullptr && is_equal_at(entry.second, *other, depth + 1);
           });
  }
  if (a.is_function() && b.is_function()) return a.identity() == b.identity();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

void append_json_string(std::string& out, std::string_view text, bool is_ascii) {
  out += '"';
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = next_utf8(text, at);
    const uint32_t code = c.code_point;
    if (code == '"' || code == '\\') {
      out += {'\\', static_cast<char>(code)};
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (code == '\b') {
      out += "\\b";
    } else if (code == '\f') {
      out += "\\f";
    } else if (code < 32 || (is_ascii && code > 126 && code < 0x10000)) {
      out += fmt::format("\\u{:04x}", code);
    } else if (is_ascii && code >= 0x10000) {
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((code - 0x10000) >> 10),
                         0xdc00 + ((code - 0x10000) & 0x3ff));
    } else {
      out += text.substr(at, static_cast<size_t>(c.n_bytes));
    }
    at += static_cast<size_t>(c.n_bytes);
  }
  out += '"';
}

std::string json_key(const Value& key) {
  if (key.is_string()) return key.text();
  if (key.is_bool()) return key.is_true() ? "true" : "false";
  if (key.is_none()) return "null";
  if (key.is_number()) return key.str();
  throw RenderError(fmt::format("keys must be str, int, float, bool or None, not {}", key.type_name()));
}

void append_json(std::string& out, const Value& value, const JsonStyle& style, size_t depth) {
  check_depth(depth);
  const auto new_line = [&](size_t level) {
    if (style.indent >= 0) out += "\n" + std::string(static_cast<size_t>(style.indent) * level, ' ');
  };
  const auto container = [&](char open, char close, size_t n, const auto& append_item) {
    out += open;
    for (size_t i = 0; i < n; ++i) {
      if (i > 0) out += style.item_separator;
      new_line(depth + 1);
      append_item(i);
    }
    if (n > 0) new_line(depth);
    out += close;
  };
  if (value.is_string()) {
    append_json_string(out, value.text(), style.is_ascii);
  } else if (value.is_list() && !value.is_generator()) {
    container('[', ']', value.items().size(),
              [&](size_t i) { append_json(out, value.items()[i], style, depth + 1); });
  } else if (value.is_dict()) {
    auto entries = value.dict().entries;
    if (style.sorts_keys)
      std::ranges::sort(entries, [](const auto& a, const auto& b) { return is_less(a.first, b.first); });
    container('{', '}', entries.size(), [&](size_t i) {
      append_json_string(out, json_key(entries[i].first), style.is_ascii);
      out += style.key_separator;
      append_json(out, entries[i].second, style, depth + 1);
    });
  } else if (value.is_none()) {
    out += "null";
  } else if (value.is_bool()) {
    out += value.is_true() ? "true" : "false";
  } else if (value.is_real() && !std::isfinite(value.real())) {
    out += std::isnan(value.real()) ? "NaN" : value.real() > 0 ? "Infinity" : "-Infinity";
  } else if (value.is_number()) {
    out += value.str();
  } else {
    throw RenderError(fmt::format("Object of type {} is not JSON serializable", value.type_name()));
  }
}

}  // namespace

Value::Value(std::shared_ptr<List> list) {
  for (const Value& item : list->items) list->depth = std::max(list->depth, item.depth());
  check_depth(static_cast<size_t>(++list->depth));
  value_ = std::move(list);
}

Value::Value(std::shared_ptr<Dict> dict) {
  if (!dict->is_namespace) {
    for (const auto& [key, item] : dict->entries) dict->depth = std::max(dict->depth, item.depth());
  }
  check_depth(static_cast<size_t>(++dict->depth));
  value_ = std::move(dict);
}

int Value::depth() const {
  if (is_list()) return std::get<std::shared_ptr<List>>(value_)->depth;
  return is_dict() ? dict().depth : 0;
}

Value Value::list(std::vector<Value> items, bool is_tuple) {
  return Value(std::make_shared<List>(List{std::move(items), is_tuple}));
}

Value Value::generator(std::vector<Value> items) {
  return Value(std::make_shared<List>(List{.items = std::move(items), .is_generator = true}));
}

Value Value::markup(std::string text) {
  Value value(std::move(text));
  value.is_markup_ = true;
  return value;
}

bool Value::is_generator() const {
  return is_list() && std::get<std::shared_ptr<List>>(value_)->is_generator;
}

int64_t Value::integer() const {
  if (const auto* flag = std::get_if<bool>(&value_)) return *flag ? 1 : 0;
  if (const auto* integer = std::get_if<int64_t>(&value_)) return *integer;
  refuse(*this, "int");
}

double Value::real() const {
  if (const auto* real = std::get_if<double>(&value_)) return *real;
  if (is_integral()) return static_cast<double>(integer());
  refuse(*this, "a number");
}

const std::string& Value::text() const {
  if (const auto* text = std::get_if<Text>(&value_)) return **text;
  refuse(*this, "str");
}

const std::vector<Value>& Value::items() const {
  if (const auto* list = std::get_if<std::shared_ptr<List>>(&value_)) return (*list)->items;
  refuse(*this, "a list");
}

Dict& Value::dict() const {
  if (const auto* dict = std::get_if<std::shared_ptr<Dict>>(&value_)) return **dict;
  refuse(*this, "a dict");
}

const Function& Value::function() const {
  if (const auto* function = std::get_if<std::shared_ptr<Function>>(&value_)) return **function;
  if (is_undefined()) refuse(*this, "");
  throw RenderError(fmt::format("'{}' object is not callable", type_name()));
}

const void* Value::identity() const {
  return std::visit(
      [](const auto& each) -> const void* {
        if constexpr (requires { each.get(); }) return each.get();
        return nullptr;
      },
      value_);
}

bool Value::is_true() const {
  if (is_none() || is_undefined()) return false;
  if (is_integral()) return integer() != 0;
  if (is_real()) return real() != 0.0;
  if (is_string()) return !text().empty();
  if (is_list()) return is_generator() || !items().empty();
  if (is_dict()) return dict().is_namespace || !dict().entries.empty();
  return true;
}

std::string_view Value::type_name() const {
  if (is_none()) return "NoneType";
  if (is_undefined()) return "Undefined";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_real()) return "float";
  if (is_string()) return "str";
  if (is_generator()) return "generator";
  if (is_list()) return std::get<std::shared_ptr<List>>(value_)->is_tuple ? "tuple" : "list";
  if (is_dict()) return dict().is_namespace ? "Namespace" : "dict";
  return "function";
}

std::string Value::str() const {
  if (is_none()) return "None";
  if (is_undefined()) return "";
  if (is_bool()) return is_true() ? "True" : "False";
  if (is_int()) return std::to_string(integer());
  if (is_real()) return repr_of(real());
  if (is_string()) return text();
  if (is_function()) return "<function " + function().name + ">";
  return repr_at(*this, 0);
}

std::string Value::repr() const { return repr_at(*this, 0); }

const Value* Dict::find(const Value& key) const {
  if (key.is_string()) return find(std::string_view(key.text()));
  for (const auto& [known, value] : entries) {
    if (!known.is_string() && is_equal(known, key)) return &value;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [known, value] : entries) {
    if (known.is_string() && known.text() == key) return &value;
  }
  return nullptr;
}

void Dict::set(const Value& key, Value value) {
  if (key.is_list() || key.is_dict())
    throw RenderError(fmt::format("unhashable type: '{}'", key.type_name()));
  if (const Value* known = find(key)) {
    *const_cast<Value*>(known) = std::move(value);
  } else {
    entries.emplace_back(key, std::move(value));
  }
}

const Value* Arguments::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  const auto at = std::ranges::find(named, name, &std::pair<std::string, Value>::first);
  return at == named.end() ? nullptr : &at->second;
}

const Value& Arguments::need(size_t index, std::string_view name) const {
  if (const Value* value = find(index, name)) return *value;
  throw RenderError(fmt::format("the argument '{}' is missing", name));
}

Value Arguments::get(size_t index, std::string_view name, Value otherwise) const {
  const Value* value = find(index, name);
  return value != nullptr ? *value : std::move(otherwise);
}

bool is_equal(const Value& a, const Value& b) { return is_equal_at(a, b, 0); }

bool is_less(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_integral() && b.is_integral() ? a.integer() < b.integer() : a.real() < b.real();
  }
  if (a.is_string() && b.is_string()) return a.text() < b.text();  // bytes of UTF-8 order as code points do
  if (a.is_list() && b.is_list()) {
    for (size_t i = 0; i < std::min(a.items().size(), b.items().size()); ++i) {
      if (!is_equal(a.items()[i], b.items()[i])) return is_less(a.items()[i], b.items()[i]);
    }
    return a.items().size() < b.items().size();
  }
  if (a.is_undefined()) refuse(a, "");
  if (b.is_undefined()) refuse(b, "");
  throw RenderError(
      fmt::format("'<' not supported between instances of '{}' and '{}'", a.type_name(), b.type_name()));
}

Values iterate(const Value& value) {
  if (value.is_list()) return value.items();
  Values out;
  if (value.is_undefined()) return out;
  if (value.is_string()) {
    for (const std::string_view c : characters(value.text())) out.emplace_back(c);
  } else if (value.is_dict() && !value.dict().is_namespace) {
    for (const auto& [key, item] : value.dict().entries) out.push_back(key);
  } else {
    throw RenderError(fmt::format("'{}' object is not iterable", value.type_name()));
  }
  return out;
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string()) return container.text().find(item.text()) != std::string::npos;
  if (container.is_dict()) return container.dict().find(item) != nullptr;
  const Values items = iterate(container);
  return std::ranges::any_of(items, [&](const Value& each) { return is_equal(each, item); });
}

int64_t length_of(const Value& value) {
  if (value.is_string()) return static_cast<int64_t>(characters(value.text()).size());
  if (value.is_list() && !value.is_generator()) return static_cast<int64_t>(value.items().size());
  if (value.is_dict()) return static_cast<int64_t>(value.dict().entries.size());
  if (value.is_undefined()) return 0;
  throw RenderError(fmt::format("object of type '{}' has no len()", value.type_name()));
}

Value value_of(const Json& json) {
  if (json.is_bool()) return json.as_bool();
  if (json.is_int()) return json.as_int();
  if (json.is_double()) return json.as_double();
  if (json.is_string()) return json.as_string();
  if (json.is_array()) {
    Values items;
    for (const Json& each : json.as_array()) items.push_back(value_of(each));
    return Value::list(std::move(items));
  }
  if (json.is_object()) {
    auto dict = std::make_shared<Dict>();
    for (const auto& [key, each] : json.as_object()) dict->entries.emplace_back(key, value_of(each));
    return dict;
  }
  return {};
}

std::string repr_of(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[64];
  const auto scientific = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  const std::string text(buffer, scientific.ptr);
  const int exponent = std::stoi(text.substr(text.find('e') + 1));
  if (exponent < -4 || exponent >= 16) {
    return fmt::format("{}e{}{:02}", text.substr(0, text.find('e')), exponent < 0 ? '-' : '+',
                       std::abs(exponent));
  }
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string out(buffer, fixed.ptr);
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

std::string json_text(const Value& value, const JsonStyle& style) {
  JsonStyle filled = style;
  if (filled.item_separator.empty()) filled.item_separator = style.indent >= 0 ? "," : ", ";
  std::string out;
  append_json(out, value, filled, 0);
  return out;
}

std::vector<std::string_view> characters(std::string_view text) {
  std::vector<std::string_view> out;
  for (size_t at = 0; at < text.size();) {
    const auto n = static_cast<size_t>(next_utf8(text, at).n_bytes);
    out.push_back(text.substr(at, n));
    at += n;
  }
  return out;
}

}  // namespace millrace::jinja
