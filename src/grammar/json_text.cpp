#include "grammar/json_text.h"

#include <algorithm>

namespace millrace {
namespace {

CharClass must_be_escaped() {
  CharClass set(0, 0x1f);
  set.add('"', '"');
  set.add('\\', '\\');
  return set;
}

CharClass hex_digits() {
  CharClass set('0', '9');
  set.add('a', 'f');
  set.add('A', 'F');
  return set;
}

CharClass bare_key_chars() {
  CharClass set('0', '9');
  set.add('a', 'z');
  set.add('A', 'Z');
  set.add('_', '_');
  set.add('-', '-');
  return set;
}

}  // namespace

std::string json_quoted(std::string_view text) { return Json(text).dump(); }

Rules::Node spelled(Rules& rules, const CharClass& set, Spelling spelling) {
  if (spelling == Spelling::plain) return rules.chars(set);
  const CharClass escaped = must_be_escaped();
  std::vector<Rules::Node> ways{rules.chars(set.without(escaped))};
  for (const CharClass::Range& range : escaped.ranges()) {
    for (uint32_t c = range.first; c <= range.last; ++c) {
      if (!set.has(c)) continue;
      const std::string quoted = json_quoted(std::string(1, static_cast<char>(c)));
      ways.push_back(rules.bytes(std::string_view(quoted).substr(1, quoted.size() - 2)));
    }
  }
  return rules.choice(std::move(ways));
}

Rules::Node any_json_char(Rules& rules) {
  const auto one_of = [&](std::string_view signs) {
    CharClass set;
    for (const char c : signs) set.add(static_cast<uint8_t>(c), static_cast<uint8_t>(c));
    return rules.chars(set);
  };
  const Rules::Node hex = rules.chars(hex_digits());
  const auto hexes = [&](int64_t n) { return rules.repeat(hex, n, n); };
  const Rules::Node d = one_of("dD");
  const Rules::Node high = rules.sequence({d, one_of("89abAB"), hexes(2)});
  const Rules::Node low = rules.sequence({d, one_of("cdefCDEF"), hexes(2)});
  const Rules::Node other = rules.choice(
      {rules.sequence(
           {rules.chars(hex_digits().without(CharClass('d', 'd')).without(CharClass('D', 'D'))), hexes(3)}),
       rules.sequence({d, rules.chars(CharClass('0', '7')), hexes(2)})});
  const Rules::Node unicode = rules.choice({other, rules.sequence({high, rules.bytes("\\u"), low})});
  return rules.choice(
      {rules.chars(must_be_escaped().negated()),
       rules.sequence({rules.bytes("\\"),
                       rules.choice({one_of("\"\\/bfnrt"), rules.sequence({rules.bytes("u"), unicode})})})});
}

// ---- other styles

std::string JsonStyle::text(std::string_view text) const {
  return quote.empty() ? json_quoted(text) : quote + std::string(text) + quote;
}

std::string JsonStyle::key(std::string_view name) const {
  const CharClass bare = bare_key_chars();
  const bool is_bare = has_bare_keys && !name.empty() &&
                       std::ranges::all_of(name, [&](char c) { return bare.has(static_cast<uint8_t>(c)); });
  return is_bare ? std::string(name) : text(name);
}

std::string JsonStyle::value(const Json& value) const {
  if (value.is_null()) return std::string(words.nothing);
  if (value.is_bool()) return std::string(value.as_bool() ? words.yes : words.no);
  if (value.is_string()) return text(value.as_string());
  if (value.is_array()) {
    std::string out = "[";
    for (const Json& each : value.as_array()) out += (out.size() > 1 ? "," : "") + this->value(each);
    return out + "]";
  }
  if (!value.is_object()) return value.dump();
  std::string out = "{";
  for (const auto& [name, member] : value.as_object())
    out += (out.size() > 1 ? "," : "") + key(name) + ":" + this->value(member);
  return out + "}";
}

Rules::Node JsonStyle::quoted(Rules& rules, Rules::Node chars) const {
  if (quote.empty()) return rules.sequence({rules.bytes("\""), chars, rules.bytes("\"")});
  const Rules::Node sign = rules.bytes(quote);
  const Rules::Node any = rules.repeat(rules.chars(CharClass::all()), 0, Rules::kUnbounded);
  return rules.sequence({sign, rules.but_not(chars, rules.sequence({any, sign, any})), sign});
}

Rules::Node JsonStyle::any_char(Rules& rules) const {
  return quote.empty() ? any_json_char(rules) : rules.chars(CharClass::all());
}

Rules::Node JsonStyle::bare_key(Rules& rules) {
  return rules.repeat(rules.chars(bare_key_chars()), 1, Rules::kUnbounded);
}

}  // namespace millrace
