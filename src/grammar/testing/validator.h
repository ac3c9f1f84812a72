// An oracle for tests: whether a value is valid for a JSON Schema, as the specification says it, as simply as
// possible. Knows the keywords that the tests use and aborts on others.
#pragma once

#include <algorithm>
#include <cmath>
#include <regex>
#include <string>

#include "base/json.h"
#include "base/utf8.h"

namespace millrace {

class Validator {
 public:
  explicit Validator(const Json& root) : root_(root) {}
  bool is_valid(const Json& value) const { return is_valid(value, root_); }

 private:
  static int64_t n_chars(const std::string& text) {
    int64_t n = 0;
    for (size_t at = 0; at < text.size(); at += static_cast<size_t>(next_utf8(text, at).n_bytes)) ++n;
    return n;
  }

  const Json& resolve(const std::string& pointer) const {
    const Json* at = &root_;
    for (size_t begin = 1; begin < pointer.size();) {
      const size_t end = std::min(pointer.find('/', begin + 1), pointer.size());
      at = &at->at(pointer.substr(begin + 1, end - begin - 1));
      begin = end;
    }
    return *at;
  }

  static bool has_type(const Json& value, const std::string& type) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "number") return value.is_number();
    if (type == "integer") return value.is_number() && value.as_double() == std::floor(value.as_double());
    if (type == "boolean") return value.is_bool();
    return type == "null" && value.is_null();
  }

  static bool finds(const std::string& pattern, const std::string& text) {
    return std::regex_search(text, std::regex(pattern, std::regex::ECMAScript));
  }

  bool is_valid(const Json& value, const Json& schema) const {
    if (schema.is_bool()) return schema.as_bool();
    for (const auto& [key, rule] : schema.as_object())
      if (!holds(value, schema, key, rule)) return false;
    return true;
  }

  bool holds(const Json& value, const Json& schema, const std::string& key, const Json& rule) const {
    const auto n_valid = [&] {
      int64_t n = 0;
      for (const Json& each : rule.as_array()) n += is_valid(value, each) ? 1 : 0;
      return n;
    };
    if (key == "$ref") return is_valid(value, resolve(rule.as_string()));
    if (key == "anyOf") return n_valid() > 0;
    if (key == "oneOf") return n_valid() == 1;
    if (key == "allOf") return n_valid() == static_cast<int64_t>(rule.as_array().size());
    if (key == "const") return value == rule;
    if (key == "enum") return std::ranges::find(rule.as_array(), value) != rule.as_array().end();
    if (key == "type") {
      if (rule.is_string())
        return has_type(value, rule.as_string()) || (value.is_null() && is_nullable(schema));
      return std::ranges::any_of(rule.as_array(),
                                 [&](const Json& t) { return has_type(value, t.as_string()); });
    }
    if (value.is_string()) return string_holds(value.as_string(), key, rule);
    if (value.is_number()) return number_holds(value.as_double(), key, rule);
    if (value.is_array()) return array_holds(value.as_array(), schema, key, rule);
    if (value.is_object()) return object_holds(value.as_object(), schema, key, rule);
    return true;
  }

  static bool is_nullable(const Json& schema) {
    return schema.find("nullable") != nullptr && schema.at("nullable").as_bool();
  }

  static bool string_holds(const std::string& text, const std::string& key, const Json& rule) {
    if (key == "minLength") return n_chars(text) >= rule.as_int();
    if (key == "maxLength") return n_chars(text) <= rule.as_int();
    if (key == "pattern") return finds(rule.as_string(), text);
    return true;
  }

  static bool number_holds(double x, const std::string& key, const Json& rule) {
    if (key == "minimum") return x >= rule.as_double();
    if (key == "maximum") return x <= rule.as_double();
    if (key == "exclusiveMinimum") return x > rule.as_double();
    if (key == "exclusiveMaximum") return x < rule.as_double();
    if (key == "multipleOf") {
      const double quotient = x / rule.as_double();
      return std::abs(quotient - std::round(quotient)) <= 1e-9 * std::max(1.0, std::abs(quotient));
    }
    return true;
  }

  bool array_holds(const Json::Array& items, const Json& schema, const std::string& key,
                   const Json& rule) const {
    if (key == "minItems") return static_cast<int64_t>(items.size()) >= rule.as_int();
    if (key == "maxItems") return static_cast<int64_t>(items.size()) <= rule.as_int();
    const Json* prefix = schema.find("prefixItems");
    const size_t n_prefix = prefix == nullptr ? 0 : prefix->as_array().size();
    if (key == "prefixItems") {
      for (size_t i = 0; i < std::min(items.size(), n_prefix); ++i)
        if (!is_valid(items[i], prefix->as_array()[i])) return false;
    }
    if (key == "items") {
      for (size_t i = n_prefix; i < items.size(); ++i)
        if (!is_valid(items[i], rule)) return false;
    }
    return true;
  }

  bool object_holds(const Json::Object& members, const Json& schema, const std::string& key,
                    const Json& rule) const {
    const auto n = static_cast<int64_t>(members.size());
    if (key == "minProperties") return n >= rule.as_int();
    if (key == "maxProperties") return n <= rule.as_int();
    for (const auto& [name, value] : members) {
      if (key == "properties" && rule.find(name) != nullptr && !is_valid(value, rule.at(name))) return false;
      if (key == "propertyNames" && !is_valid(Json(name), rule)) return false;
      if (key == "patternProperties") {
        for (const auto& [pattern, of_pattern] : rule.as_object())
          if (finds(pattern, name) && !is_valid(value, of_pattern)) return false;
      }
      if (key == "additionalProperties" && is_additional(name, schema) && !is_valid(value, rule))
        return false;
    }
    if (key == "required") {
      for (const Json& name : rule.as_array())
        if (Json(members).find(name.as_string()) == nullptr) return false;
    }
    return true;
  }

  static bool is_additional(const std::string& name, const Json& schema) {
    if (const Json* named = schema.find("properties"); named != nullptr && named->find(name) != nullptr)
      return false;
    if (const Json* patterns = schema.find("patternProperties")) {
      for (const auto& [pattern, of_pattern] : patterns->as_object())
        if (finds(pattern, name)) return false;
    }
    return true;
  }

  const Json& root_;
};

}  // namespace millrace
