#include "grammar/schema_merge.h"

#include <algorithm>
#include <optional>

#include "base/error.h"

namespace millrace {
namespace {

constexpr int kMaxDepth = 40;

std::vector<std::string> common_types(const std::vector<std::string>& a, const std::vector<std::string>& b) {
  const auto has = [](const std::vector<std::string>& list, std::string_view type) {
    return std::ranges::find(list, type) != list.end();
  };
  std::vector<std::string> out;
  for (const std::string& type : a) {
    if (has(b, type) || (type == "integer" && has(b, "number"))) out.push_back(type);
    if (type == "number" && has(b, "integer") && !has(b, "number")) out.emplace_back("integer");
  }
  return out;
}

double number_of(const Json& value) { return value.is_number() ? value.as_double() : 0.0; }

// Values in both lists.
Json::Array common_values(const Json::Array& a, const Json::Array& b) {
  Json::Array out;
  for (const Json& value : a)
    if (std::ranges::find(b, value) != b.end()) out.push_back(value);
  return out;
}

Json::Array listed(const Json& value) { return value.is_array() ? value.as_array() : Json::Array{value}; }

class Merge {
 public:
  Merge(const Json& a, const Json& b, const SchemaScope& scope, int depth)
      : a_(a), b_(b), scope_(scope), depth_(depth) {}

  Json run() {
    out_ = a_;
    merge_members();
    for (const auto& [key, value] : b_.as_object()) {
      if (is_nothing_) return false;
      merge(key, value);
    }
    if (is_nothing_) return false;
    return std::move(out_);
  }

 private:
  Json both(const Json& a, const Json& b) const { return conjoined(a, b, scope_, depth_ + 1); }

  void merge(const std::string& key, const Json& theirs) {
    if (key == "properties" || key == "additionalProperties" || key == "patternProperties") return;
    const Json* mine = a_.find(key);
    if (mine == nullptr || *mine == theirs) {
      out_[key] = theirs;
      return;
    }
    Json& out = out_[key];
    if (key == "type") {
      merge_types();
    } else if (key == "required") {
      for (const Json& name : listed(theirs))
        if (std::ranges::find(out.as_array(), name) == out.as_array().end()) out.as_array().push_back(name);
    } else if (key == "enum") {
      Json::Array common = common_values(listed(*mine), listed(theirs));
      is_nothing_ |= common.empty();
      out = std::move(common);
    } else if (key == "const") {
      is_nothing_ = true;  // they differ
    } else if (key == "minimum" || key == "exclusiveMinimum" || key == "minLength" || key == "minItems" ||
               key == "minProperties") {
      out = number_of(*mine) >= number_of(theirs) ? *mine : theirs;
    } else if (key == "maximum" || key == "exclusiveMaximum" || key == "maxLength" || key == "maxItems" ||
               key == "maxProperties") {
      out = number_of(*mine) <= number_of(theirs) ? *mine : theirs;
    } else if (key == "pattern") {
      Json::Array patterns = listed(*mine);
      for (const Json& pattern : listed(theirs)) patterns.push_back(pattern);
      out = std::move(patterns);
    } else if (key == "items" || key == "propertyNames") {
      out = both(*mine, theirs);
    } else if (key == "prefixItems") {
      merge_prefix(listed(*mine), listed(theirs));
    } else if (key == "anyOf") {
      merge_alternatives(key, listed(*mine), listed(theirs));
    } else if (key == "allOf") {
      for (const Json& each : listed(theirs)) out.as_array().push_back(each);
    } else if (key == "uniqueItems") {
      out = true;
    } else if (key == "oneOf" || key == "multipleOf" || key == "format" || key == "not" || key == "if") {
      scope_.refuse("allOf joins two different values of " + key + ", which cannot be enforced");
    }
  }

  void merge_types() {
    const std::vector<std::string> common = common_types(types_of(a_), types_of(b_));
    is_nothing_ |= common.empty();
    out_["type"] = Json::Array(common.begin(), common.end());
  }

  void merge_prefix(const Json::Array& a, const Json::Array& b) {
    if (a.size() != b.size())
      scope_.refuse("allOf joins prefixItems of different length, which cannot be enforced");
    Json::Array items;
    for (size_t i = 0; i < a.size(); ++i) items.push_back(both(a[i], b[i]));
    out_["prefixItems"] = std::move(items);
  }

  void merge_alternatives(const std::string& key, const Json::Array& a, const Json::Array& b) {
    constexpr size_t kMaxPairs = 200;
    if (a.size() * b.size() > kMaxPairs) scope_.refuse("allOf joins " + key + " of too many alternatives");
    Json::Array pairs;
    for (const Json& x : a) {
      for (const Json& y : b)
        if (Json pair = both(x, y); pair != Json(false)) pairs.push_back(std::move(pair));
    }
    is_nothing_ |= pairs.empty();
    out_[key] = std::move(pairs);
  }

  // A member that only one of them names has to satisfy what the other one says of all further members.
  void merge_members() {
    const Json *of_a = a_.find("properties"), *of_b = b_.find("properties");
    const Json *rest_a = a_.find("additionalProperties"), *rest_b = b_.find("additionalProperties");
    const Json *patterns_a = a_.find("patternProperties"), *patterns_b = b_.find("patternProperties");
    if ((patterns_a != nullptr && (of_b != nullptr || rest_b != nullptr || patterns_b != nullptr)) ||
        (patterns_b != nullptr && (of_a != nullptr || rest_a != nullptr)))
      scope_.refuse("allOf joins patternProperties with other members, which cannot be enforced");
    if (patterns_b != nullptr) out_["patternProperties"] = *patterns_b;
    if (of_a != nullptr || of_b != nullptr) {
      Json members = Json::Object();
      const auto add = [&](const Json* own, const Json* other, const Json* other_rest) {
        if (own == nullptr || !own->is_object()) return;
        for (const auto& [name, schema] : own->as_object()) {
          if (members.find(name) != nullptr) continue;
          const Json* theirs = other == nullptr ? nullptr : other->find(name);
          if (theirs == nullptr) theirs = other_rest;
          members[name] = theirs == nullptr ? schema : both(schema, *theirs);
        }
      };
      add(of_a, of_b, rest_b);
      add(of_b, of_a, rest_a);
      out_["properties"] = std::move(members);
    }
    if (rest_b != nullptr)
      out_["additionalProperties"] = rest_a == nullptr ? *rest_b : both(*rest_a, *rest_b);
  }

  const Json &a_, &b_;
  const SchemaScope& scope_;
  int depth_;
  Json out_;
  bool is_nothing_ = false;
};

// Values, where a schema lists them.
std::optional<Json::Array> values_of(const Json& schema) {
  if (const Json* value = schema.find("const")) return Json::Array{*value};
  if (const Json* values = schema.find("enum"); values != nullptr && values->is_array())
    return values->as_array();
  return std::nullopt;
}

bool is_required(const Json& schema, const std::string& name) {
  const Json* required = schema.find("required");
  return required != nullptr && required->is_array() &&
         std::ranges::find(required->as_array(), Json(name)) != required->as_array().end();
}

}  // namespace

std::vector<std::string> types_of(const Json& schema) {
  std::vector<std::string> out;
  if (const Json* type = schema.find("type")) {
    for (const Json& each : listed(*type))
      if (each.is_string()) out.push_back(each.as_string());
  } else {
    out = {"object", "array", "string", "number", "boolean", "null"};
  }
  const Json* nullable = schema.find("nullable");
  if (nullable != nullptr && *nullable == Json(true) && std::ranges::find(out, "null") == out.end())
    out.emplace_back("null");
  return out;
}

Json conjoined(const Json& a, const Json& b, const SchemaScope& scope, int depth) {
  if (depth > kMaxDepth) scope.refuse("allOf joins schemas that are too deep in each other, or endless");
  if (a == Json(true) || a == Json(Json::Object()) || a == b) return b;
  if (b == Json(true) || b == Json(Json::Object())) return a;
  if (a == Json(false) || b == Json(false)) return false;
  if (!a.is_object() || !b.is_object()) scope.refuse("a schema is neither an object nor true or false");
  const auto resolved = [&](const Json& schema) -> Json {
    const Json* ref = schema.find("$ref");
    if (ref == nullptr) return schema;
    Json rest = Json::Object();
    for (const auto& [key, value] : schema.as_object())
      if (key != "$ref") rest[key] = value;
    return conjoined(scope.resolve(*ref), rest, scope, depth + 1);
  };
  if (a.find("$ref") != nullptr || b.find("$ref") != nullptr)
    return conjoined(resolved(a), resolved(b), scope, depth + 1);
  return Merge(a, b, scope, depth).run();
}

bool are_disjoint(const Json& a, const Json& b, const SchemaScope& scope, int depth) {
  if (depth > 8) return false;
  if (a == Json(false) || b == Json(false)) return true;
  if (!a.is_object() || !b.is_object()) return false;
  if (const Json* ref = a.find("$ref")) return are_disjoint(scope.resolve(*ref), b, scope, depth + 1);
  if (const Json* ref = b.find("$ref")) return are_disjoint(a, scope.resolve(*ref), scope, depth + 1);
  const auto values_a = values_of(a), values_b = values_of(b);
  if (values_a && values_b) return common_values(*values_a, *values_b).empty();
  const std::vector<std::string> common = common_types(types_of(a), types_of(b));
  if (common.empty()) return true;
  if (common != std::vector<std::string>{"object"}) return false;
  const Json *members_a = a.find("properties"), *members_b = b.find("properties");
  if (members_a == nullptr || !members_a->is_object()) return false;
  for (const auto& [name, schema] : members_a->as_object()) {
    const Json* other = members_b == nullptr ? nullptr : members_b->find(name);
    if (other == nullptr && b.find("additionalProperties") != nullptr &&
        *b.find("additionalProperties") == Json(false) && is_required(a, name))
      return true;
    if (other != nullptr && is_required(a, name) && is_required(b, name) &&
        are_disjoint(schema, *other, scope, depth + 1))
      return true;
  }
  return false;
}

}  // namespace millrace
