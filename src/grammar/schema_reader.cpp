#include "grammar/schema_reader.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "grammar/schema_merge.h"

namespace millrace {
namespace {

// Keywords and the type they speak of; "" for those that are not of one type, "-" for annotations.
struct Keyword {
  std::string_view name, type;
};
constexpr Keyword kKeywords[] = {
    {"type", ""},
    {"enum", ""},
    {"const", ""},
    {"anyOf", ""},
    {"oneOf", ""},
    {"allOf", ""},
    {"$ref", ""},
    {"nullable", ""},
    {"minLength", "string"},
    {"maxLength", "string"},
    {"pattern", "string"},
    {"format", ""},
    {"minimum", "number"},
    {"maximum", "number"},
    {"exclusiveMinimum", "number"},
    {"exclusiveMaximum", "number"},
    {"multipleOf", "number"},
    {"items", "array"},
    {"prefixItems", "array"},
    {"minItems", "array"},
    {"maxItems", "array"},
    {"additionalItems", "array"},
    {"uniqueItems", "array"},
    {"properties", "object"},
    {"required", "object"},
    {"additionalProperties", "object"},
    {"patternProperties", "object"},
    {"propertyNames", "object"},
    {"minProperties", "object"},
    {"maxProperties", "object"},
    {"$defs", "-"},
    {"definitions", "-"},
    {"$schema", "-"},
    {"$id", "-"},
    {"id", "-"},
    {"$comment", "-"},
    {"$anchor", "-"},
    {"title", "-"},
    {"description", "-"},
    {"default", "-"},
    {"example", "-"},
    {"examples", "-"},
    {"deprecated", "-"},
    {"readOnly", "-"},
    {"writeOnly", "-"},
    {"contentEncoding", "-"},
    {"contentMediaType", "-"},
    {"contentSchema", "-"},
    {"enumDescriptions", "-"},
    {"markdownDescription", "-"},
    {"discriminator", "-"},
    {"externalDocs", "-"},
    {"xml", "-"},
    {"strict", "-"},
    {"name", "-"},
    {"propertyOrdering", "-"},
};

// Nothing for one that nobody knows.
const Keyword* known_keyword(std::string_view key) {
  const auto* known = std::ranges::find(kKeywords, key, &Keyword::name);
  return known == std::end(kKeywords) ? nullptr : known;
}

const Json* step(const Json& from, const std::string& name) {
  if (from.is_object()) return from.find(name);
  if (!from.is_array() || name.empty() || name.size() > 6 ||
      name.find_first_not_of("0123456789") != std::string::npos)
    return nullptr;
  const auto index = static_cast<size_t>(std::stoul(name));
  return index < from.as_array().size() ? &from.as_array()[index] : nullptr;
}

std::string unescaped(std::string name) {
  for (const auto& [escape, sign] : {std::pair("~1", "/"), std::pair("~0", "~"), std::pair("%25", "%")})
    for (size_t at; (at = name.find(escape)) != std::string::npos;)
      name.replace(at, std::string_view(escape).size(), sign);
  return name;
}

}  // namespace

SchemaReader::Place::Place(SchemaReader& reader, std::string_view step)
    : reader_(reader), n_before_(reader.path_.size()) {
  constexpr int kMaxDepth = 100;
  reader_.path_ += '/';
  reader_.path_ += step;
  if (++reader_.depth_ > kMaxDepth) reader_.refuse("schemas are more than {} deep in each other", kMaxDepth);
}
SchemaReader::Place::~Place() {
  reader_.path_.resize(n_before_);
  --reader_.depth_;
}

const Json::Array& SchemaReader::need_array(const Json& value, std::string_view key) const {
  if (!value.is_array()) refuse("{} is a {}, expected an array", key, value.type_name());
  return value.as_array();
}

const std::string& SchemaReader::need_string(const Json& value, std::string_view key) const {
  if (!value.is_string()) refuse("{} is a {}, expected a string", key, value.type_name());
  return value.as_string();
}

bool SchemaReader::flag(const Json& schema, std::string_view key) const {
  const Json* value = schema.find(key);
  if (value != nullptr && !value->is_bool())
    refuse("{} is a {}, expected a boolean", key, value->type_name());
  return value != nullptr && value->as_bool();
}

int64_t SchemaReader::count(const Json& schema, std::string_view key, int64_t otherwise) const {
  const Json* value = schema.find(key);
  if (value == nullptr) return otherwise;
  const bool is_whole =
      value->is_int() ||
      (value->is_double() && value->as_double() == static_cast<double>(static_cast<int64_t>(
                                                       std::clamp(value->as_double(), 0.0, 1e9))));
  if (!is_whole || value->as_double() < 0)
    refuse("{} is {}, expected a whole number from 0", key, value->dump());
  return static_cast<int64_t>(value->as_double());
}

std::pair<int64_t, int64_t> SchemaReader::counts(const Json& schema, std::string_view min_key,
                                                 std::string_view max_key) const {
  const int64_t min = count(schema, min_key, 0), max = count(schema, max_key, Rules::kUnbounded);
  if (max != Rules::kUnbounded && min > max) refuse("{} {} is above {} {}", min_key, min, max_key, max);
  if (std::max(min, max) > max_count_)
    refuse("{} of {} cannot be enforced, at most {} can", max > max_count_ ? max_key : min_key,
           std::max(min, max), max_count_);
  return {min, max};
}

void SchemaReader::check_keywords(const Json& schema) const {
  for (const auto& [key, value] : schema.as_object()) {
    if (known_keyword(key) == nullptr && !key.starts_with("x-"))
      refuse("the keyword \"{}\" cannot be enforced", printable(key));
  }
}

const Json& SchemaReader::resolve(const Json& ref) const {
  const std::string& pointer = need_string(ref, "$ref");
  if (!pointer.starts_with('#')) refuse("$ref \"{}\" leads out of the schema", printable(pointer));
  const Json* at = &root_;
  size_t begin = 1;
  while (begin < pointer.size()) {
    if (pointer[begin] != '/') refuse("$ref \"{}\" is no JSON pointer", printable(pointer));
    const size_t end = std::min(pointer.find('/', begin + 1), pointer.size());
    at = step(*at, unescaped(pointer.substr(begin + 1, end - begin - 1)));
    if (at == nullptr) refuse("$ref \"{}\" leads to nothing", printable(pointer));
    begin = end;
  }
  return *at;
}

std::vector<std::string> SchemaReader::types(const Json& schema) const {
  static constexpr std::array<std::string_view, 7> kTypes{"object",  "array",   "string", "number",
                                                          "integer", "boolean", "null"};
  if (const Json* type = schema.find("type")) {
    if (!type->is_string() && !type->is_array())
      refuse("type is a {}, expected a string or a list", type->type_name());
    if (type->is_array() && type->as_array().empty()) refuse("type is an empty list");
  }
  std::vector<std::string> out = types_of(schema);
  for (const std::string& type : out)
    if (std::ranges::find(kTypes, type) == kTypes.end()) refuse("there is no type \"{}\"", printable(type));
  if (schema.find("type") != nullptr) return out;
  return narrowed(schema, std::move(out));
}

// Keywords of one type alone, and no `type`: who writes so means that type.
std::vector<std::string> SchemaReader::narrowed(const Json& schema, std::vector<std::string> types) const {
  std::vector<std::string> meant;
  for (const auto& [key, value] : schema.as_object()) {
    const Keyword* known = known_keyword(key);
    if (known == nullptr) continue;
    std::string type(known->type);
    if (key == "format") type = "string";
    if (type.empty() || type == "-" || std::ranges::find(meant, type) != meant.end()) continue;
    meant.push_back(std::move(type));
  }
  if (meant.empty()) return types;
  if (flag(schema, "nullable")) meant.emplace_back("null");
  return meant;
}

bool is_enforced_keyword(std::string_view key) {
  const Keyword* known = known_keyword(key);
  return known != nullptr && known->type != "-";
}

bool says_nothing(const Json& schema) {
  return std::ranges::none_of(schema.as_object(),
                              [](const Json::Member& member) { return is_enforced_keyword(member.first); });
}

Json without(const Json& schema, std::initializer_list<std::string_view> keys) {
  Json out = Json::Object();
  for (const auto& [key, value] : schema.as_object())
    if (std::ranges::find(keys, key) == keys.end()) out[key] = value;
  return out;
}

}  // namespace millrace
