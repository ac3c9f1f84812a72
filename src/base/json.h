// JSON values with what the engine needs of them: members in the order of the text (chat templates print tool
// schemas as the client wrote them), 1 and 1.0 kept apart, limits on depth. Parsed and written by RapidJSON.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"

namespace millrace {

class Json {
 public:
  using Array = std::vector<Json>;
  using Member = std::pair<std::string, Json>;
  using Object = std::vector<Member>;  // in the order of the text; keys are unique

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool value) : value_(value) {}
  Json(int value) : value_(int64_t{value}) {}
  Json(int64_t value) : value_(value) {}
  Json(size_t value) : value_(static_cast<int64_t>(value)) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  Json(Array value) : value_(std::move(value)) {}
  Json(Object value) : value_(std::move(value)) {}

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_double() const { return std::holds_alternative<double>(value_); }
  bool is_number() const { return is_int() || is_double(); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  std::string_view type_name() const;

  // The value as that type. Throws Error(bad_model) naming both types where it is another one.
  bool as_bool() const;
  int64_t as_int() const;
  double as_double() const;  // also of an integer
  const std::string& as_string() const;
  const Array& as_array() const;
  const Object& as_object() const;
  Array& as_array();
  Object& as_object();

  // The member of that name, or nullptr where there is none or this is no object. Linear in the members.
  const Json* find(std::string_view key) const;
  // The same, but throws Error(bad_model) that names the key where there is none.
  const Json& at(std::string_view key) const;
  // The member of that name, made (null) where there is none; a null value becomes an object.
  Json& operator[](std::string_view key);

  bool operator==(const Json& other) const = default;

  // Compact, or indented by `indent` spaces a level. NaN and infinities are written as null.
  std::string dump(int indent = 0) const;

  struct Limits {
    size_t max_depth = 128;
  };
  // Throws Error of `kind` with the byte offset; `what` names the text in that sentence ("tokenizer.json").
  // Numbers that fit no int64 become doubles. Of equal keys the last one wins, at the place of the first.
  static Json parse(std::string_view text, std::string_view what, ErrorKind kind, Limits limits);
  static Json parse(std::string_view text, std::string_view what, ErrorKind kind = ErrorKind::bad_model) {
    return parse(text, what, kind, Limits{});
  }

 private:
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
};

}  // namespace millrace
