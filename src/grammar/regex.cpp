#include "grammar/regex.h"

#include <optional>
#include <utility>

#include "grammar/cursor.h"

namespace millrace {
namespace {

CharClass line_ends() {
  CharClass set('\n', '\n');
  set.add('\r', '\r');
  set.add(0x2028, 0x2029);
  return set;
}

// One side of a "|", with the anchors at its ends.
struct Alternative {
  Rules::Node node;
  bool is_first = false, is_last = false;  // nothing stands before, behind
};

class Parser {
 public:
  Parser(Rules& rules, std::string_view pattern, Spelling spelling)
      : rules_(rules),
        in_(pattern, "the regular expression", rules.limits().max_source_bytes),
        spelling_(spelling) {}

  std::vector<Alternative> parse() {
    if (in_.take("(?i)")) ignores_case_ = true;
    std::vector<Alternative> out = alternatives();
    if (!in_.is_at_end()) in_.fail_here("unbalanced )");
    return out;
  }

 private:
  std::vector<Alternative> alternatives() {
    const Cursor::Nesting nesting(in_);
    std::vector<Alternative> out;
    do {
      for (const Alternative& each : sequence()) out.push_back(each);
    } while (in_.take("|"));
    return out;
  }

  // The pieces up to the next | or ). A group that stands alone gives its alternatives with their anchors.
  std::vector<Alternative> sequence() {
    std::vector<Rules::Node> nodes;
    std::vector<Alternative> group;  // the only piece so far
    bool is_first = false, is_last = false, has_piece = false;
    const auto settle_group = [&] {
      if (!group.empty()) nodes.push_back(unanchored(group));
      group.clear();
    };
    while (!in_.is_at_end() && in_.peek() != '|' && in_.peek() != ')') {
      if (in_.take("^")) {
        if (has_piece) in_.fail_here("^ behind other characters cannot be enforced");
        is_first = true;
        continue;
      }
      if (in_.take("$")) {
        is_last = true;
        continue;
      }
      if (is_last) in_.fail_here("$ before other characters cannot be enforced");
      settle_group();
      const bool was_first_piece = !std::exchange(has_piece, true);
      if (is_at_group()) {
        std::vector<Alternative> inner = need_group();
        if (was_first_piece && !is_at_quantifier()) {
          group = std::move(inner);
        } else {
          nodes.push_back(quantified(unanchored(inner)));
        }
      } else {
        nodes.push_back(quantified(atom()));
      }
    }
    if (group.empty()) return {{rules_.sequence(std::move(nodes)), is_first, is_last}};
    for (Alternative& each : group) {
      each.is_first |= is_first;
      each.is_last |= is_last;
    }
    return group;
  }

  Rules::Node unanchored(const std::vector<Alternative>& alternatives) {
    std::vector<Rules::Node> nodes;
    for (const Alternative& each : alternatives) {
      if (each.is_first || each.is_last) in_.fail_here("an anchor inside of a group cannot be enforced");
      nodes.push_back(each.node);
    }
    return rules_.choice(std::move(nodes));
  }

  bool is_at_group() const { return in_.peek() == '('; }
  bool is_at_quantifier() const {
    const char c = in_.peek();
    return c == '*' || c == '+' || c == '?' || (c == '{' && in_.peek(1) >= '0' && in_.peek(1) <= '9');
  }

  std::vector<Alternative> need_group() {
    in_.need("(");
    if (in_.take("?")) {
      if (in_.take("P<") ||
          (in_.peek() == '<' && in_.peek(1) != '=' && in_.peek(1) != '!' && in_.take("<"))) {
        in_.take_while([](char c) { return c != '>' && c != '\0'; });
        in_.need(">");
      } else if (!in_.take(":")) {
        in_.fail_here("looking around, and groups with options, cannot be enforced");
      }
    }
    std::vector<Alternative> inner = alternatives();
    in_.need(")");
    return inner;
  }

  Rules::Node quantified(Rules::Node node) {
    for (int n = 0; is_at_quantifier(); ++n) {
      if (n == 1) in_.fail_here("a quantifier behind a quantifier");
      const auto [min, max] = quantifier();
      if (max != Rules::kUnbounded && min > max) in_.fail_here("a repetition with its least above its most");
      node = rules_.repeat(node, min, max);
      if (in_.peek() == '+') in_.fail_here("possessive quantifiers cannot be enforced");
      in_.take("?");  // lazy: matches the same texts
    }
    return node;
  }

  std::pair<int64_t, int64_t> quantifier() {
    if (in_.take("*")) return {0, Rules::kUnbounded};
    if (in_.take("+")) return {1, Rules::kUnbounded};
    if (in_.take("?")) return {0, 1};
    in_.need("{");
    const int64_t min = in_.need_number();
    int64_t max = min;
    if (in_.take(",")) max = in_.peek() == '}' ? Rules::kUnbounded : in_.need_number();
    in_.need("}");
    return {min, max};
  }

  Rules::Node chars(const CharClass& set) {
    return spelled(rules_, ignores_case_ ? set.in_both_cases() : set, spelling_);
  }

  Rules::Node atom() {
    if (is_at_quantifier()) in_.fail_here("a quantifier with nothing before it");
    if (in_.take(".")) return chars(line_ends().negated());
    if (in_.take("[")) return chars(bracket_set(in_, true));
    if (in_.take("\\")) return chars(escaped());
    const uint32_t c = in_.next_char();
    return chars({c, c});
  }

  CharClass escaped() {
    const char c = in_.peek();
    if (CharClass set = class_of_letter(c); !set.is_empty()) {
      in_.skip(1);
      return set;
    }
    if (c == 'b' || c == 'B') in_.fail_here("word boundaries cannot be enforced");
    if (c == 'p' || c == 'P') in_.fail_here("properties of Unicode (\\p) cannot be enforced");
    if ((c >= '1' && c <= '9') || c == 'k') in_.fail_here("back references cannot be enforced");
    const uint32_t code_point = in_.need_escaped();
    return {code_point, code_point};
  }

  Rules& rules_;
  Cursor in_;
  Spelling spelling_;
  bool ignores_case_ = false;
};

}  // namespace

CharClass bracket_set(Cursor& in, bool has_classes) {
  CharClass set;
  const bool is_negated = in.take("^");
  // A single character, or nothing where a class was added.
  const auto member = [&]() -> std::optional<uint32_t> {
    if (!in.take("\\")) return in.next_char();
    const char c = in.peek();
    if (const CharClass letters = class_of_letter(c); has_classes && !letters.is_empty()) {
      in.skip(1);
      set.add(letters);
      return std::nullopt;
    }
    if (c == 'b') {
      in.skip(1);
      return 8;
    }
    if (c == 'p' || c == 'P') in.fail_here("properties of Unicode (\\p) cannot be enforced");
    return in.need_escaped();
  };
  while (!in.take("]")) {
    if (in.is_at_end()) in.fail_here("a set without its ]");
    if (in.is_at("[:")) in.fail_here("named classes of characters cannot be enforced");
    const std::optional<uint32_t> first = member();
    if (!first) continue;
    if (in.peek() != '-' || in.peek(1) == ']' || in.peek(1) == '\0') {
      set.add(*first, *first);
      continue;
    }
    in.skip(1);
    const std::optional<uint32_t> last = member();
    if (!last || *last < *first) in.fail_here("a range that does not ascend");
    set.add(*first, *last);
  }
  return is_negated ? set.negated() : set;
}

Rules::Node regex(Rules& rules, std::string_view pattern, Matched matched, Spelling spelling) {
  const std::vector<Alternative> alternatives = Parser(rules, pattern, spelling).parse();
  std::vector<Rules::Node> nodes;
  const auto anything = [&] {
    return rules.repeat(spelled(rules, CharClass::all(), spelling), 0, Rules::kUnbounded);
  };
  for (const Alternative& each : alternatives) {
    std::vector<Rules::Node> parts{each.node};
    if (matched == Matched::somewhere && !each.is_first) parts.insert(parts.begin(), anything());
    if (matched == Matched::somewhere && !each.is_last) parts.push_back(anything());
    nodes.push_back(rules.sequence(std::move(parts)));
  }
  return rules.choice(std::move(nodes));
}

}  // namespace millrace
