#include "serve/field_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace millrace {
namespace {

thread_local FieldLog* recording_log = nullptr;

// "messages[3].role" is messages[].role.
std::string of_every_entry(std::string_view name) {
  std::string out;
  bool is_index = false;
  for (const char c : name) {
    if (c == ']') is_index = false;
    if (!is_index) out += c;
    if (c == '[') is_index = true;
  }
  return out;
}

std::string parent_of(const std::string& name) {
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

// The place of `name` in a schema, made where it is not there.
Json& place_of(Json& root, std::string_view name) {
  Json* at = &root;
  while (!name.empty()) {
    if (name.starts_with("[]")) {
      at = &(*at)["items"];
      name.remove_prefix(2);
    } else {
      const size_t end = std::min(name.find_first_of(".["), name.size());
      at = &(*at)["properties"][name.substr(0, end)];
      name.remove_prefix(end);
    }
    if (name.starts_with('.')) name.remove_prefix(1);
  }
  if (at->is_null()) *at = Json::Object();
  return *at;
}

void describe(Json& at, const FieldLog::Field& field) {
  if (field.schemas.size() == 1) {
    for (const auto& [name, value] : field.schemas.front().as_object()) at[name] = value;
  } else if (field.schemas.size() > 1) {
    at["anyOf"] = Json::Array(field.schemas.begin(), field.schemas.end());
  }
  if (field.use == FieldLog::Use::honoured) return;
  const bool is_refused = field.use == FieldLog::Use::refused;
  at["x-millrace"] = is_refused ? "refused" : "ignored";
  at["description"] = is_refused ? "Refused: " + field.why : "Read; changes no answer";
}

}  // namespace

FieldLog::Recording::Recording(FieldLog& log) { recording_log = &log; }
FieldLog::Recording::~Recording() { recording_log = nullptr; }
FieldLog* FieldLog::current() { return recording_log; }

size_t FieldLog::field_at(std::string_view name) {
  const std::string full = of_every_entry(name);
  const auto found = std::ranges::find(fields_, full, &Field::name);
  if (found != fields_.end()) return static_cast<size_t>(found - fields_.begin());
  fields_.push_back({.name = full, .schemas = {}, .why = {}});
  return fields_.size() - 1;
}

void FieldLog::add(std::string_view name, Use use, Json schema, std::string_view why) {
  Field& field = fields_[field_at(name)];
  if (std::ranges::find(field.schemas, schema) == field.schemas.end())
    field.schemas.push_back(std::move(schema));
  field.use = std::max(field.use, use);
  if (use == Use::refused) field.why = why;
}

void FieldLog::need(std::string_view name) { ++n_needed_[of_every_entry(name)]; }
void FieldLog::begin_object(std::string_view path) { ++n_objects_[of_every_entry(path)]; }
void FieldLog::end_object(std::string_view path) { whole_.insert(of_every_entry(path)); }

std::vector<FieldLog::Field> FieldLog::fields() const {
  std::vector<Field> out = fields_;
  for (Field& field : out) {
    const auto needed = n_needed_.find(field.name);
    const auto objects = n_objects_.find(parent_of(field.name));
    field.is_needed =
        needed != n_needed_.end() && objects != n_objects_.end() && needed->second == objects->second;
    // What may be anything says so with an empty schema, beside which the others say nothing.
    if (std::ranges::find(field.schemas, Json(Json::Object())) != field.schemas.end()) field.schemas.clear();
  }
  return out;
}

Json FieldLog::schema() const {
  Json out;
  out["type"] = "object";
  for (const Field& field : fields()) {
    describe(place_of(out, field.name), field);
    if (!field.is_needed) continue;
    const std::string parent = parent_of(field.name);
    Json& required = place_of(out, parent)["required"];
    if (required.is_null()) required = Json::Array();
    required.as_array().emplace_back(field.name.substr(parent.empty() ? 0 : parent.size() + 1));
  }
  for (const std::string& path : whole_) place_of(out, path)["additionalProperties"] = false;
  return out;
}

}  // namespace millrace
