#include "grammar/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string>

#include "grammar/json_formats.h"
#include "grammar/json_numbers.h"
#include "grammar/json_text.h"
#include "grammar/regex.h"
#include "grammar/rule_automata.h"
#include "grammar/schema_merge.h"
#include "grammar/schema_reader.h"

namespace millrace {
namespace {

using Node = Rules::Node;

// A reader that makes rules of what it reads.
class Compiler : private SchemaReader {
 public:
  Compiler(Rules& rules, const Json& root, std::string_view what, const JsonSchemaOptions& options)
      : SchemaReader(root, what, static_cast<int64_t>(rules.limits().max_states)),
        rules_(rules),
        options_(options) {
    scope_.resolve = [this](const Json& ref) -> const Json& { return resolve(ref); };
    scope_.refuse = [this](std::string_view sentence) { refuse("{}", sentence); };
  }

  Node compile_root() { return compile(root()); }

  Node any_value() {
    if (!any_value_) {
      any_value_ = rules_.declare("value");
      rules_.define(*any_value_, rules_.choice({any_object(), any_array(), any_string(), number({}),
                                                boolean(), rules_.bytes(style().words.nothing)}));
    }
    return rules_.call(*any_value_);
  }

  Node any_object() {
    const Node pair = rules_.sequence({any_key(), colon(), any_value()});
    return in_braces("{", "}", optional_run(pair, 0, Rules::kUnbounded));
  }

 private:
  // ---- references

  Node reference(const Json& ref) {
    const Json& target = resolve(ref);
    const auto [at, is_new] = references_.try_emplace(&target, 0);
    if (is_new) {
      at->second = rules_.declare(ref.as_string());
      const Rules::Rule rule = at->second;
      rules_.define(rule, compile(target));
      return rules_.call(rule);
    }
    return rules_.call(at->second);
  }

  // ---- any schema

  Node compile(const Json& schema) {
    if (schema == Json(true)) return any_value();
    if (schema == Json(false)) return rules_.nothing();
    if (!schema.is_object())
      refuse("a schema is a {}, expected an object, true or false", schema.type_name());
    check_keywords(schema);
    if (const Json* ref = schema.find("$ref")) {
      const Json rest = without(schema, {"$ref"});
      return says_nothing(rest) ? reference(*ref) : compile_joined({schema});
    }
    if (const Json* all = schema.find("allOf")) {
      std::vector<Json> parts{without(schema, {"allOf"})};
      for (const Json& part : need_array(*all, "allOf")) parts.push_back(part);
      return compile_joined(parts);
    }
    for (const char* key : {"anyOf", "oneOf"})
      if (schema.find(key) != nullptr) return compile_alternatives(schema, key);
    if (schema.find("const") != nullptr || schema.find("enum") != nullptr) return compile_values(schema);
    std::vector<Node> ways;
    for (const std::string& type : types(schema)) ways.push_back(compile_type(schema, type));
    return rules_.choice(std::move(ways));
  }

  Node compile_joined(const std::vector<Json>& parts) {
    const Place place(*this, "allOf");
    Json joined = true;
    for (const Json& part : parts) {
      if (part.is_object()) check_keywords(part);
      joined = conjoined(joined, part, scope_);
    }
    if (joined.is_object() && joined.find("$ref") != nullptr) {  // one part: what it refers to, and the rest
      const Json target = resolve(*joined.find("$ref"));
      joined = conjoined(target, without(joined, {"$ref"}), scope_);
    }
    return compile(joined);
  }

  Node compile_alternatives(const Json& schema, const std::string& key) {
    const Place place(*this, key);
    const Json rest = without(schema, {key});
    const Json::Array& alternatives = need_array(*schema.find(key), key);
    if (key == "oneOf") need_disjoint(alternatives);
    std::vector<Node> ways;
    for (size_t i = 0; i < alternatives.size(); ++i) {
      const Place inner(*this, std::to_string(i));
      if (alternatives[i].is_object()) check_keywords(alternatives[i]);
      ways.push_back(says_nothing(rest) ? compile(alternatives[i]) : compile_joined({rest, alternatives[i]}));
    }
    return rules_.choice(std::move(ways));
  }

  void need_disjoint(const Json::Array& alternatives) const {
    constexpr size_t kMax = 300;
    if (alternatives.size() > kMax)
      refuse("oneOf has {} alternatives, expected at most {}", alternatives.size(), kMax);
    for (size_t i = 0; i < alternatives.size(); ++i) {
      for (size_t j = i + 1; j < alternatives.size(); ++j) {
        if (!are_disjoint(alternatives[i], alternatives[j], scope_))
          refuse("that alternatives {} and {} of oneOf never both match cannot be enforced; anyOf can", i, j);
      }
    }
  }

  Node compile_values(const Json& schema) {
    for (const auto& [key, value] : schema.as_object()) {
      if (is_enforced_keyword(key) && key != "type" && key != "enum" && key != "const" && key != "nullable")
        refuse("{} beside enum or const cannot be enforced", key);
    }
    Json::Array values;
    if (const Json* listed = schema.find("enum")) {
      values = need_array(*listed, "enum");
      if (const Json* value = schema.find("const"))
        std::erase_if(values, [&](const Json& v) { return v != *value; });
    } else {
      values.push_back(*schema.find("const"));
    }
    const std::vector<std::string> wanted = types(schema);
    std::vector<Node> ways;
    for (const Json& value : values)
      if (schema.find("type") == nullptr || is_of_type(value, wanted))
        ways.push_back(rules_.bytes(style().value(value)));
    if (ways.empty()) refuse("no value of enum or const has the type that is asked for");
    return rules_.choice(std::move(ways));
  }

  static bool is_of_type(const Json& value, const std::vector<std::string>& types) {
    return std::ranges::any_of(types, [&](const std::string& type) {
      if (type == "object") return value.is_object();
      if (type == "array") return value.is_array();
      if (type == "string") return value.is_string();
      if (type == "boolean") return value.is_bool();
      if (type == "null") return value.is_null();
      if (type == "number") return value.is_number();
      return value.is_int() || (value.is_double() && value.as_double() == std::floor(value.as_double()));
    });
  }

  Node compile_type(const Json& schema, const std::string& type) {
    if (type == "object") return compile_object(schema);
    if (type == "array") return compile_array(schema);
    if (type == "string") return compile_string(schema);
    if (type == "number" || type == "integer") return compile_number(schema, type == "integer");
    if (type == "boolean") return boolean();
    return rules_.bytes(style().words.nothing);
  }
  const JsonStyle& style() const { return options_.style; }
  Node boolean() { return rules_.choice({rules_.bytes(style().words.yes), rules_.bytes(style().words.no)}); }

  // ---- strings

  Node any_string() {
    if (!any_string_) {
      const Node text = rules_.repeat(style().any_char(rules_), 0, Rules::kUnbounded);
      any_string_ = rules_.share("string", style().quoted(rules_, text));
    }
    return *any_string_;
  }

  // One character of any string, with few states: what is not plain ASCII is a rule of its own.
  Node one_char() {
    if (!style().quote.empty()) return style().any_char(rules_);
    CharClass plain(0x20, 0x7f);
    plain = plain.without(CharClass('"', '"')).without(CharClass('\\', '\\'));
    if (!rare_char_) rare_char_ = rules_.share("character", any_json_char(rules_));
    return rules_.choice({rules_.chars(plain), *rare_char_});
  }

  Node compile_string(const Json& schema) {
    const auto [min, max] = counts(schema, "minLength", "maxLength");
    const std::vector<Node> texts = texts_of(schema);
    if (texts.empty()) {
      if (min == 0 && max == Rules::kUnbounded) return any_string();
      return rules_.share("string", style().quoted(rules_, rules_.repeat(one_char(), min, max)));
    }
    Node text = texts[0];
    for (size_t i = 1; i < texts.size(); ++i) text = rules_.both(text, texts[i]);
    if (min > 0 || max != Rules::kUnbounded)
      text =
          rules_.both(text, rules_.repeat(spelled(rules_, CharClass::all(), style().spelling()), min, max));
    return rules_.share("string", style().quoted(rules_, text));
  }

  // What pattern and format say, each an expression of the text between the quotes.
  std::vector<Node> texts_of(const Json& schema) {
    std::vector<Node> texts;
    if (const Json* patterns = schema.find("pattern")) {
      for (const Json& pattern : patterns->is_array() ? patterns->as_array() : Json::Array{*patterns}) {
        const Place place(*this, "pattern");
        texts.push_back(
            regex(rules_, need_string(pattern, "pattern"), Matched::somewhere, style().spelling()));
      }
    }
    if (const Json* format = schema.find("format")) {
      const std::string& name = need_string(*format, "format");
      static constexpr std::array<std::string_view, 5> kSaysNothing{"password", "binary", "byte", "string",
                                                                    "text"};
      const std::string_view pattern = pattern_of_format(name);
      if (!pattern.empty()) {
        texts.push_back(regex(rules_, pattern, Matched::whole, style().spelling()));
      } else if (std::ranges::find(kSaysNothing, name) == kSaysNothing.end()) {
        refuse("the format \"{}\" cannot be enforced", printable(name));
      }
    }
    return texts;
  }

  // ---- numbers

  Node number(const NumberBounds& bounds) {
    if (!bounds.min && !bounds.max && !bounds.multiple_of) {
      std::optional<Node>& known = any_number_[bounds.is_integer ? 1 : 0];
      if (!known) known = rules_.share("number", json_number(rules_, bounds));
      return *known;
    }
    return rules_.share("number", json_number(rules_, bounds));
  }

  Node compile_number(const Json& schema, bool is_integer) {
    NumberBounds bounds{.is_integer = is_integer};
    const auto tighten = [&](std::string_view key, std::optional<NumberBounds::Bound>& bound, bool is_min) {
      const Json* value = schema.find(key);
      if (value == nullptr) return;
      const bool is_exclusive_key = key.starts_with("exclusive");
      if (is_exclusive_key && value->is_bool()) {  // draft 4: of the bound beside it
        if (bound && value->as_bool()) bound->is_exclusive = true;
        return;
      }
      if (!value->is_number()) refuse("{} is a {}, expected a number", key, value->type_name());
      const NumberBounds::Bound other{Decimal::of(*value), is_exclusive_key};
      const Json* inclusive = schema.find(is_min ? "minimum" : "maximum");
      const bool is_tighter = !bound || (is_min ? value->as_double() >= inclusive->as_double()
                                                : value->as_double() <= inclusive->as_double());
      if (is_tighter) bound = other;
    };
    tighten("minimum", bounds.min, true);
    tighten("exclusiveMinimum", bounds.min, true);
    tighten("maximum", bounds.max, false);
    tighten("exclusiveMaximum", bounds.max, false);
    if (const Json* format = schema.find("format"); format != nullptr && *format == Json("int32")) {
      const auto limit = [&](std::optional<NumberBounds::Bound>& bound, int64_t value) {
        if (!bound) bound = {Decimal::of(Json(value)), false};
      };
      limit(bounds.min, INT32_MIN);
      limit(bounds.max, INT32_MAX);
    } else if (format != nullptr && *format != Json("int64") && *format != Json("float") &&
               *format != Json("double")) {
      refuse("the format {} of a number cannot be enforced", printable(format->dump()));
    }
    if (const Json* of = schema.find("multipleOf")) {
      if (!of->is_number() || of->as_double() <= 0)
        refuse("multipleOf is {}, expected a number above 0", of->dump());
      bounds.multiple_of = Decimal::of(*of);
    }
    return number(bounds);
  }

  // ---- arrays

  Node any_array() { return in_braces("[", "]", optional_run(any_value(), 0, Rules::kUnbounded)); }

  Node compile_array(const Json& schema) {
    if (flag(schema, "uniqueItems")) refuse("uniqueItems cannot be enforced");
    const auto [min, max] = counts(schema, "minItems", "maxItems");
    const Json* prefix = schema.find("prefixItems");
    const Json* rest = schema.find("items");
    if (prefix == nullptr && rest != nullptr && rest->is_array()) {  // before draft 2020
      prefix = rest;
      rest = schema.find("additionalItems");
    }
    const Json::Array none;
    const Json::Array& first = prefix == nullptr ? none : need_array(*prefix, "prefixItems");
    if (rest == nullptr && prefix == nullptr) return in_braces("[", "]", optional_run(any_value(), min, max));
    // Items that nothing is said of are left out where they may be.
    const auto n_first = static_cast<int64_t>(first.size());
    const bool has_rest = rest != nullptr ? *rest != Json(false) : min > n_first;
    if (!has_rest && min > n_first) refuse("minItems is {}, and there are only {} items", min, n_first);
    std::optional<Node> after;
    if (has_rest) {
      const Place place(*this, "items");
      after = rest == nullptr ? any_value() : rules_.share("item", compile(*rest));
    }
    if (n_first == 0) return in_braces("[", "]", optional_run(*after, min, max));
    return in_braces("[", "]", tuple(first, after, min, max));
  }

  Node tuple(const Json::Array& first, std::optional<Node> rest, int64_t min, int64_t max) {
    const auto n = static_cast<int64_t>(first.size());
    Node tail = rules_.empty();
    if (rest && (max == Rules::kUnbounded || max > n)) {
      tail = rules_.repeat(rules_.sequence({comma(), *rest}), std::max<int64_t>(0, min - n),
                           max == Rules::kUnbounded ? max : max - n);
    }
    for (int64_t i = n; i-- > 0;) {
      const Place place(*this, fmt::format("prefixItems/{}", i));
      std::vector<Node> parts{compile(first[static_cast<size_t>(i)]), tail};
      if (i > 0) parts.insert(parts.begin(), comma());
      tail = max != Rules::kUnbounded && i >= max ? rules_.empty() : rules_.sequence(std::move(parts));
      if (i >= min) tail = rules_.optional(tail);
    }
    return tail;
  }

  // min to max times the node, with commas between.
  Node optional_run(Node node, int64_t min, int64_t max) {
    if (max == 0) return rules_.empty();
    const Node more = rules_.repeat(rules_.sequence({comma(), node}), std::max<int64_t>(0, min - 1),
                                    max == Rules::kUnbounded ? max : max - 1);
    const Node run = rules_.sequence({node, more});
    return min == 0 ? rules_.optional(run) : run;
  }

  // ---- objects

  Node compile_object(const Json& schema);
  Node any_key() { return style().has_bare_keys ? JsonStyle::bare_key(rules_) : any_string(); }
  // A key of this text.
  Node key_of(Node text) {
    return style().has_bare_keys ? rules_.both(JsonStyle::bare_key(rules_), text)
                                 : style().quoted(rules_, text);
  }
  // The names of members that `properties` does not name, with what may stand there.
  struct Region {
    Node key;
    Json schema;
  };
  std::vector<Region> extra_members(const Json& schema, const std::vector<std::string>& named,
                                    const Json& additional);
  bool name_matches(const std::string& name, Node text);

  // ---- signs

  Node space() {
    if (!options_.has_free_space) return rules_.empty();
    if (!space_) {
      CharClass blank(' ', ' ');
      blank.add('\t', '\t');
      space_ = rules_.share(
          "space",
          rules_.choice({rules_.bytes(" "),
                         rules_.sequence({rules_.bytes("\n"), rules_.repeat(rules_.chars(blank), 0, 20)})}));
    }
    return rules_.optional(*space_);
  }
  Node comma() { return rules_.sequence({rules_.bytes(","), space()}); }
  Node colon() { return rules_.sequence({rules_.bytes(":"), space()}); }
  Node in_braces(std::string_view open, std::string_view close, Node inner) {
    return rules_.sequence({rules_.bytes(open), space(), inner, space(), rules_.bytes(close)});
  }

  Rules& rules_;
  JsonSchemaOptions options_;
  SchemaScope scope_;
  std::map<const Json*, Rules::Rule> references_;
  std::optional<Rules::Rule> any_value_;
  std::optional<Node> any_string_, rare_char_, space_;
  std::array<std::optional<Node>, 2> any_number_;
};

Node Compiler::compile_object(const Json& schema) {
  const Json* properties = schema.find("properties");
  if (properties != nullptr && !properties->is_object())
    refuse("properties is a {}, expected an object", properties->type_name());
  const Json* additional = schema.find("additionalProperties");
  const bool has_patterns = schema.find("patternProperties") != nullptr;
  const Json rest = additional != nullptr ? *additional : Json(properties == nullptr && !has_patterns);

  std::vector<std::string> required, named;
  if (const Json* names = schema.find("required")) {
    for (const Json& name : need_array(*names, "required")) required.push_back(need_string(name, "required"));
  }
  std::vector<Rules::Item> items;
  const auto add = [&](const std::string& name, Node value, bool is_optional) {
    named.push_back(name);
    items.push_back({rules_.sequence({rules_.bytes(style().key(name)), colon(), value}), is_optional});
  };
  if (properties != nullptr) {
    for (const auto& [name, member] : properties->as_object()) {
      const Place place(*this, "properties/" + name);
      const bool is_optional = std::ranges::find(required, name) == required.end();
      add(name, compile(member), is_optional);
    }
  }
  for (const std::string& name : required) {
    if (std::ranges::find(named, name) != named.end()) continue;
    const Place place(*this, "required/" + name);
    if (has_patterns)
      refuse("a required member without a schema, beside patternProperties, cannot be enforced");
    if (additional != nullptr && *additional == Json(false))
      refuse("the member \"{}\" is required, and additionalProperties forbids it", printable(name));
    add(name, additional != nullptr ? compile(*additional) : any_value(), false);
  }
  if (schema.find("propertyNames") != nullptr) {
    const Json* names = schema.find("propertyNames");
    if (!names->is_object()) refuse("propertyNames is a {}, expected an object", names->type_name());
    if (!named.empty()) refuse("propertyNames beside properties cannot be enforced");
  }

  const auto n_named = static_cast<int64_t>(items.size());
  const auto n_required = static_cast<int64_t>(std::ranges::count(items, false, &Rules::Item::is_optional));
  auto [min, max] = counts(schema, "minProperties", "maxProperties");
  const std::vector<Region> extras = extra_members(schema, named, rest);
  const bool has_free_members = n_named > n_required;
  const int64_t n_most = extras.empty() ? n_named : INT64_MAX;
  if (min > n_required && (has_free_members || min > n_required + 1))
    refuse("minProperties of {} cannot be enforced beside {} required members", min, n_required);
  if (min > n_most) refuse("minProperties is {}, and there are only {} members", min, n_named);
  if (max != Rules::kUnbounded && max < n_most && (has_free_members || max < n_required))
    refuse("maxProperties of {} cannot be enforced beside {} members", max, n_named);
  if (!extras.empty()) {
    std::vector<Node> pairs;
    for (const Region& region : extras)
      pairs.push_back(rules_.sequence({region.key, colon(), compile(region.schema)}));
    const int64_t least = std::max<int64_t>(0, min - n_required);
    const int64_t most = max == Rules::kUnbounded ? max : max - n_required;
    const Node pair = rules_.share("member", rules_.choice(std::move(pairs)));
    if (most != 0) items.push_back({optional_run(pair, std::max<int64_t>(1, least), most), least == 0});
  }
  return in_braces("{", "}", items.empty() ? rules_.empty() : rules_.list(items, comma()));
}

std::vector<Compiler::Region> Compiler::extra_members(const Json& schema,
                                                      const std::vector<std::string>& named,
                                                      const Json& additional) {
  constexpr size_t kMaxPatterns = 4;
  const Json* patterns = schema.find("patternProperties");
  if (patterns != nullptr && !patterns->is_object())
    refuse("patternProperties is a {}, expected an object", patterns->type_name());
  if (patterns != nullptr && patterns->as_object().size() > kMaxPatterns)
    refuse("patternProperties has {} patterns, at most {} can be enforced", patterns->as_object().size(),
           kMaxPatterns);
  if (patterns == nullptr && additional == Json(false)) return {};

  const Json* names = schema.find("propertyNames");
  const bool is_any_name = named.empty() && patterns == nullptr && names == nullptr;
  if (is_any_name) return {{any_key(), additional}};
  Node key =
      key_of(rules_.repeat(spelled(rules_, CharClass::all(), style().spelling()), 0, Rules::kUnbounded));
  if (names != nullptr) {
    const Place place(*this, "propertyNames");
    if (style().has_bare_keys) refuse("propertyNames cannot be enforced in calls of this model");
    Json string_names = *names;
    string_names["type"] = "string";
    key = rules_.both(key, compile(string_names));
  }
  if (!named.empty()) {
    std::vector<Node> known;
    for (const std::string& name : named) known.push_back(rules_.bytes(style().key(name)));
    key = rules_.but_not(key, rules_.choice(std::move(known)));
  }
  std::vector<Region> regions{{key, additional}};
  if (patterns == nullptr) return regions;
  std::vector<bool> has_pattern{false};
  for (const auto& [pattern, member] : patterns->as_object()) {
    const Place place(*this, "patternProperties/" + pattern);
    const Node matching = key_of(regex(rules_, pattern, Matched::somewhere, style().spelling()));
    for (const std::string& name : named)
      if (name_matches(name, matching))
        refuse("the member \"{}\" also matches the pattern, which cannot be enforced", name);
    const size_t n_before = regions.size();
    for (size_t i = 0; i < n_before; ++i) {
      const Json joined = has_pattern[i] ? conjoined(regions[i].schema, member, scope_) : member;
      regions.push_back({rules_.both(regions[i].key, matching), joined});
      has_pattern.push_back(true);
      regions[i].key = rules_.but_not(regions[i].key, matching);
    }
  }
  std::erase_if(regions, [](const Region& region) { return region.schema == Json(false); });
  return regions;
}

bool Compiler::name_matches(const std::string& name, Node text) {
  Rules alone = rules_;
  alone.root = alone.declare("name");
  alone.define(alone.root, text);
  return accepts(automata_of(alone)[0], style().key(name));
}

}  // namespace

Rules::Node json_schema(Rules& rules, const Json& schema, std::string_view what,
                        const JsonSchemaOptions& options) {
  return Compiler(rules, schema, what, options).compile_root();
}

Rules::Node any_json(Rules& rules, const JsonSchemaOptions& options) {
  return Compiler(rules, Json(true), "JSON", options).any_value();
}

Rules::Node any_json_object(Rules& rules, const JsonSchemaOptions& options) {
  return Compiler(rules, Json(true), "JSON", options).any_object();
}

}  // namespace millrace
