#include "serve/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/nearest.h"
#include "serve/field_log.h"

namespace millrace {
namespace {

// A value as a sentence shows it.
std::string shown(const Json& value) {
  if (value.is_array() || value.is_object()) return std::string(value.type_name());
  return printable(value.dump(), 60);
}

// 0.0 asks for what 0 does.
bool is_same(const Json& one, const Json& other) {
  if (one.is_number() && other.is_number()) return one.as_double() == other.as_double();
  return one == other;
}

Json of_type(std::string_view type) {
  Json out;
  out["type"] = type;
  return out;
}

// Bounds that are those of the type go without saying.
Json integer_schema(int64_t min, int64_t max) {
  Json out = of_type("integer");
  if (min != std::numeric_limits<int64_t>::min()) out["minimum"] = min;
  if (max != std::numeric_limits<int64_t>::max() && max != INT32_MAX) out["maximum"] = max;
  return out;
}

Json number_schema(double min, double max) {
  Json out = of_type("number");
  out["minimum"] = min;
  out["maximum"] = max;
  return out;
}

Json list_schema(size_t max_count, Json items = {}) {
  Json out = of_type("array");
  out["maxItems"] = max_count;
  if (!items.is_null()) out["items"] = std::move(items);
  return out;
}

Json choice_schema(std::initializer_list<std::string_view> values) {
  Json out = of_type("string");
  out["enum"] = Json::Array(values.begin(), values.end());
  return out;
}

Json texts_schema(size_t max_count) {
  Json out;
  out["anyOf"] = Json::Array{of_type("string"), list_schema(max_count, of_type("string"))};
  return out;
}

Json only(const Json& value) {
  Json out;
  out["const"] = value;
  return out;
}

}  // namespace

Fields::Fields(const Json& object, std::string path)
    : object_(object), path_(std::move(path)), log_(FieldLog::current()) {
  if (log_ != nullptr) log_->begin_object(path_);
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

void Fields::note(std::string_view name, const Json& schema) const {
  log_->add(full_name(name), FieldLog::Use::honoured, schema);
}

void Fields::note_need(std::string_view name) const {
  if (log_ != nullptr) log_->need(full_name(name));
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
  if (log_ != nullptr) note(name, of_type("boolean"));
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) refuse_type(name, "true or false", *value);
  return value->as_bool();
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t min, int64_t max) {
  if (log_ != nullptr) note(name, integer_schema(min, max));
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_int() || value->as_int() < min || value->as_int() > max)
    refuse_type(name, fmt::format("an integer from {} to {}", min, max), *value);
  return value->as_int();
}

std::optional<double> Fields::number(std::string_view name, double min, double max) {
  if (log_ != nullptr) note(name, number_schema(min, max));
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !(value->as_double() >= min && value->as_double() <= max))
    refuse_type(name, fmt::format("a number from {} to {}", min, max), *value);
  return value->as_double();
}

std::optional<std::string> Fields::text(std::string_view name) {
  if (log_ != nullptr) note(name, of_type("string"));
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse_type(name, "a string", *value);
  return value->as_string();
}

std::optional<std::string> Fields::choice(std::string_view name,
                                          std::initializer_list<std::string_view> values) {
  if (log_ != nullptr) note(name, choice_schema(values));
  const Json* value = take(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string() || std::ranges::find(values, value->as_string()) == values.end())
    refuse_type(name, fmt::format("one of: {}", fmt::join(values, ", ")), *value);
  return value->as_string();
}

std::vector<std::string> Fields::texts(std::string_view name, size_t max_count) {
  if (log_ != nullptr) note(name, texts_schema(max_count));
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

std::optional<std::vector<int32_t>> Fields::ids(std::string_view name, size_t max_count) {
  if (log_ != nullptr) note(name, list_schema(max_count, integer_schema(0, INT32_MAX)));
  const Json* list = take_array(name, max_count);
  if (list == nullptr) return std::nullopt;
  std::vector<int32_t> out;
  for (const Json& each : list->as_array()) {
    if (!each.is_int() || each.as_int() < 0 || each.as_int() > INT32_MAX)
      refuse_type(name, "a list of token ids", each);
    out.push_back(static_cast<int32_t>(each.as_int()));
  }
  return out;
}

const Json* Fields::array(std::string_view name, size_t max_count) {
  if (log_ != nullptr) note(name, list_schema(max_count));
  return take_array(name, max_count);
}

const Json* Fields::take_array(std::string_view name, size_t max_count) {
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
  if (log_ != nullptr) note(name, of_type("object"));
  const Json* value = take(name);
  if (value != nullptr && !value->is_object()) refuse_type(name, "an object", *value);
  return value;
}

const Json* Fields::any(std::string_view name) {
  if (log_ != nullptr) note(name, Json::Object());
  return take(name);
}

void Fields::allow(std::initializer_list<std::string_view> names) {
  known_.insert(known_.end(), names.begin(), names.end());
  if (log_ == nullptr) return;
  for (const std::string_view name : names) log_->add(full_name(name), FieldLog::Use::ignored);
}

void Fields::refuse(std::string_view name, std::string_view why) {
  if (log_ != nullptr) log_->add(full_name(name), FieldLog::Use::refused, only({}), why);
  if (take(name) != nullptr) refuse_unserved(name, why);
}

void Fields::refuse_unserved(std::string_view name, std::string_view why) const {
  throw ApiError(400, fmt::format("{} is not served: {}", full_name(name), why), full_name(name),
                 "unsupported_parameter");
}

void Fields::refuse_unless(std::string_view name, const Json& harmless, std::string_view why) {
  if (log_ != nullptr) log_->add(full_name(name), FieldLog::Use::refused, only(harmless), why);
  const Json* value = take(name);
  if (value != nullptr && !is_same(*value, harmless)) refuse_unserved(name, why);
}

void Fields::finish() const {
  if (log_ != nullptr) log_->end_object(path_);
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
