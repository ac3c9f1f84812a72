#include "grammar/json_text.h"

#include "base/json.h"

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

}  // namespace millrace
