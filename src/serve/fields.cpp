#include "serve/fields.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/nearest.h"

namespace millrace {
namespace {

// A value as a sentence shows it.
std::string shown(const Json& value) {
  if (value.is_array() || value.is_object()) return std::string(value.type_name());
  return printable(value.dump(), 60);
}

}  // namespace

Fields::Fields(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object())
    refuse_field(path_, "{} should be an object, found {}", path_.empty() ? "the body" : path_,
                 shown(object));
}

std::string Fields::full_name(std::string_view name) const {
  return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
}

const Json* Fields::take(std::string_view name) {
  known_.push_back(name);
  const Json* value = object_.find(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void Fields::refuse_type(std::string_view name, std::string_view expected, const Json& found) const {
  const std::string full = full_name(name);
  refuse_field(full, "{} should be {}, found {}", full, expected, shown(found));
}

void Fields::refuse_missing(std::string_view name) const {
  const std::string full = full_name(name);
  refuse_field(full, "{} is missing", full);
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) refuse_type(name, "true or false", *value);
  return value->as_bool();
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t min, int64_t max) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_int() || value->as_int() < min || value->as_int() > max)
    refuse_type(name, fmt::format("an integer from {} to {}", min, max), *value);
  return value->as_int();
}

std::optional<double> Fields::number(std::string_view name, double min, double max) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !(value->as_double() >= min && value->as_double() <= max))
    refuse_type(name, fmt::format("a number from {} to {}", min, max), *value);
  return value->as_double();
}

std::optional<std::string> Fields::text(std::string_view name) {
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse_type(name, "a string", *value);
  return value->as_string();
}

std::optional<std::string> Fields::choice(std::string_view name,
                                          std::initializer_list<std::string_view> values) {
  std::optional<std::string> value = text(name);
  if (value && std::ranges::find(values, *value) == values.end())
    refuse_type(name, fmt::format("one of: {}", fmt::join(values, ", ")), Json(*value));
  return value;
}

std::vector<std::string> Fields::texts(std::string_view name, size_t max_count) {
  const Json* value = take(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->as_string()};
  const bool is_list = value->is_array() && value->as_array().size() <= max_count;
  if (!is_list) refuse_type(name, fmt::format("a string or a list of at most {}", max_count), *value);
  std::vector<std::string> out;
  for (const Json& each : value->as_array()) {
    if (!each.is_string()) refuse_type(name, "a list of strings", each);
    out.push_back(each.as_string());
  }
  return out;
}

std::vector<int32_t> Fields::ids(std::string_view name, size_t max_count) {
  const Json* list = array(name, max_count);
  if (list == nullptr) return {};
  std::vector<int32_t> out;
  for (const Json& each : list->as_array()) {
    if (!each.is_int() || each.as_int() < 0 || each.as_int() > INT32_MAX)
      refuse_type(name, "a list of token ids", each);
    out.push_back(static_cast<int32_t>(each.as_int()));
  }
  return out;
}

const Json* Fields::array(std::string_view name, size_t max_count) {
  const Json* value = take(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) refuse_type(name, "a list", *value);
  if (value->as_array().size() > max_count) {
    const std::string full = full_name(name);
    refuse_field(full, "{} has {} entries, expected at most {}", full, value->as_array().size(), max_count);
  }
  return value;
}

const Json* Fields::object(std::string_view name) {
  const Json* value = take(name);
  if (value != nullptr && !value->is_object()) refuse_type(name, "an object", *value);
  return value;
}

const Json* Fields::any(std::string_view name) { return take(name); }

void Fields::allow(std::initializer_list<std::string_view> names) {
  known_.insert(known_.end(), names.begin(), names.end());
}

void Fields::refuse(std::string_view name, std::string_view why) {
  if (take(name) == nullptr) return;
  throw ApiError(400, fmt::format("{} is not served: {}", full_name(name), why), full_name(name),
                 "unsupported_parameter");
}

void Fields::refuse_unless(std::string_view name, const Json& harmless, std::string_view why) {
  const Json* value = object_.find(name);
  if (value != nullptr && *value == harmless) return allow({name});
  refuse(name, why);
}

void Fields::finish() const {
  for (const auto& [name, value] : object_.as_object()) {
    if (std::ranges::find(known_, name) != known_.end()) continue;
    const std::string full = full_name(printable(name, 60));
    throw ApiError(400,
                   fmt::format("{} is no field that this server knows; did you mean {}?", full,
                               nearest_name(name, known_)),
                   full, "unknown_parameter");
  }
}

}  // namespace millrace
