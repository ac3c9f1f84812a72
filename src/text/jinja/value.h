// The values of a template: Python's, as far as a chat template can see them. Cheap to copy; what is shared
// is never changed, but for a namespace.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"

namespace millrace::jinja {

// The render cannot go on: an undefined operation, a spent budget, raise_exception.
struct RenderError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Value;
struct List;
struct Dict;
struct Function;

struct Undefined {
  std::string name;
};

class Value {
 public:
  using Text = std::shared_ptr<const std::string>;

  Value() = default;  // None
  Value(Undefined undefined) : value_(std::move(undefined)) {}
  Value(bool value) : value_(value) {}
  Value(int64_t value) : value_(value) {}
  Value(double value) : value_(value) {}
  Value(std::string text) : value_(std::make_shared<const std::string>(std::move(text))) {}
  Value(const char* text) : Value(std::string(text)) {}
  Value(std::string_view text) : Value(std::string(text)) {}
  // Throw RenderError where values would nest too deeply to be walked, or freed, by recursion.
  Value(std::shared_ptr<List> list);
  Value(std::shared_ptr<Dict> dict);
  Value(std::shared_ptr<Function> function) : value_(std::move(function)) {}
  static Value list(std::vector<Value> items, bool is_tuple = false);
  // What a lazy filter (map, select) gives: can be iterated, has no length and no text as JSON.
  static Value generator(std::vector<Value> items);
  // From the filters safe and escape: what is added to it is HTML-escaped.
  static Value markup(std::string text);

  bool is_none() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_undefined() const { return std::holds_alternative<Undefined>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_real() const { return std::holds_alternative<double>(value_); }
  bool is_integral() const { return is_int() || is_bool(); }
  bool is_number() const { return is_integral() || is_real(); }
  bool is_string() const { return std::holds_alternative<Text>(value_); }
  bool is_markup() const { return is_string() && is_markup_; }
  bool is_generator() const;
  bool is_list() const { return std::holds_alternative<std::shared_ptr<List>>(value_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<Dict>>(value_); }
  bool is_function() const { return std::holds_alternative<std::shared_ptr<Function>>(value_); }

  // The value as that kind. Throw RenderError, naming both, where it is another one.
  int64_t integer() const;  // also of a boolean
  double real() const;      // of any number
  const std::string& text() const;
  const std::vector<Value>& items() const;  // of a list or tuple
  Dict& dict() const;
  const Function& function() const;
  const std::string& undefined_name() const { return std::get<Undefined>(value_).name; }
  const void* identity() const;  // of a shared value
  int depth() const;             // of nested lists and dicts, 0 for others

  bool is_true() const;
  std::string_view type_name() const;  // Python's
  // str(value) and repr(value).
  std::string str() const;
  std::string repr() const;

 private:
  std::variant<std::monostate, Undefined, bool, int64_t, double, Text, std::shared_ptr<List>,
               std::shared_ptr<Dict>, std::shared_ptr<Function>>
      value_;
  bool is_markup_ = false;  // of a text
};

using Values = std::vector<Value>;

struct List {
  Values items;
  bool is_tuple = false;
  bool is_generator = false;
  int depth = 0;  // of nested lists and dicts in it
};

// In the order of insertion.
struct Dict {
  std::vector<std::pair<Value, Value>> entries{};
  bool is_namespace = false;  // only then it may be written to
  int depth = 0;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(const Value& key, Value value);
};

// What a call hands over.
struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;

  // The argument at `index` or of that name; nullptr where neither is given.
  const Value* find(size_t index, std::string_view name) const;
  const Value& need(size_t index, std::string_view name) const;
  Value get(size_t index, std::string_view name, Value otherwise) const;
};

struct Function {
  std::string name;
  std::function<Value(const Arguments&)> call;
};

bool is_equal(const Value& a, const Value& b);
// a < b; throws RenderError where Python has no order.
bool is_less(const Value& a, const Value& b);
// What iterating over the value gives: items, keys, characters. Undefined: nothing. Throws for what cannot be
// iterated.
Values iterate(const Value& value);
bool contains(const Value& container, const Value& item);
int64_t length_of(const Value& value);

Value value_of(const Json& json);
std::string repr_of(double value);  // Python's shortest text that reads back the same

// json.dumps(value, ensure_ascii=False, ...) as Python writes it.
struct JsonStyle {
  int64_t indent = -1;  // below 0: one line
  std::string item_separator, key_separator = ": ";
  bool sorts_keys = false;
  bool is_ascii = false;
};
std::string json_text(const Value& value, const JsonStyle& style);

// UTF-8 as Python's str sees it: characters.
std::vector<std::string_view> characters(std::string_view text);

}  // namespace millrace::jinja
