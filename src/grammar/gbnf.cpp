#include "grammar/gbnf.h"

#include <unordered_map>

#include "base/error.h"
#include "base/utf8.h"
#include "grammar/cursor.h"
#include "grammar/regex.h"

namespace millrace {
namespace {

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.';
}

class Parser {
 public:
  Parser(std::string_view text, const GrammarLimits& limits)
      : rules_(limits), in_(text, "the grammar", limits.max_source_bytes) {}

  Rules parse() {
    for (skip_space(); !in_.is_at_end(); skip_space()) rule();
    const auto root = numbers_.find("root");
    if (root == numbers_.end()) in_.fail_here("there is no rule \"root\"");
    for (const auto& [name, number] : numbers_) {
      if (!is_defined_[number])
        fail(ErrorKind::usage, "the grammar: the rule \"{}\" is not defined", printable(name));
    }
    rules_.root = root->second;
    return std::move(rules_);
  }

 private:
  void skip_space() {
    while (true) {
      in_.take_while([](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; });
      if (in_.peek() != '#') return;
      in_.take_while([](char c) { return c != '\n'; });
    }
  }

  Rules::Rule number_of(std::string_view name) {
    const auto [at, is_new] = numbers_.try_emplace(std::string(name), 0);
    if (is_new) {
      at->second = rules_.declare(name);
      is_defined_.push_back(false);
    }
    return at->second;
  }

  // A name with ::= behind it begins the next rule.
  bool is_at_rule() {
    const size_t at = in_.at();
    const bool has_name = !in_.take_while(is_name_char).empty();
    skip_space();
    const bool is_rule = has_name && in_.is_at("::=");
    in_.go_to(at);
    return is_rule;
  }

  void rule() {
    const auto name = in_.take_while(is_name_char);
    if (name.empty()) in_.fail_here("expected the name of a rule");
    const Rules::Rule number = number_of(name);
    if (is_defined_[number]) in_.fail_here(fmt::format("the rule \"{}\" is defined twice", printable(name)));
    is_defined_[number] = true;
    skip_space();
    in_.need("::=");
    skip_space();
    rules_.define(number, alternatives());
  }

  Rules::Node alternatives() {
    const Cursor::Nesting nesting(in_);
    std::vector<Rules::Node> out;
    do {
      skip_space();
      out.push_back(sequence());
    } while (in_.take("|"));
    return rules_.choice(std::move(out));
  }

  Rules::Node sequence() {
    std::vector<Rules::Node> out;
    while (!in_.is_at_end() && in_.peek() != '|' && in_.peek() != ')' && !is_at_rule()) {
      out.push_back(repeated(item()));
      skip_space();
    }
    return rules_.sequence(std::move(out));
  }

  Rules::Node repeated(Rules::Node node) {
    while (true) {
      const size_t before = in_.at();
      skip_space();
      if (in_.take("*")) {
        node = rules_.repeat(node, 0, Rules::kUnbounded);
      } else if (in_.take("+")) {
        node = rules_.repeat(node, 1, Rules::kUnbounded);
      } else if (in_.take("?")) {
        node = rules_.optional(node);
      } else if (in_.take("{")) {
        node = counted(node);
      } else {
        in_.go_to(before);
        return node;
      }
    }
  }

  Rules::Node counted(Rules::Node node) {
    skip_space();
    int64_t min = 0;
    if (in_.peek() != ',') min = in_.need_number();
    skip_space();
    int64_t max = min;
    if (in_.take(",")) {
      skip_space();
      max = in_.peek() == '}' ? Rules::kUnbounded : in_.need_number();
      skip_space();
    }
    in_.need("}");
    if (max != Rules::kUnbounded && min > max) in_.fail_here("a repetition with its least above its most");
    return rules_.repeat(node, min, max);
  }

  Rules::Node item() {
    if (in_.take("\"")) return literal();
    if (in_.take("[")) return rules_.chars(bracket_set(in_, false));
    if (in_.take(".")) return rules_.chars(CharClass::all());
    if (in_.peek() == '<' || in_.is_at("!<")) return token();
    if (in_.is_at("(=")) in_.fail_here("looking ahead cannot be enforced");
    if (in_.take("(")) {
      const Rules::Node inner = alternatives();
      skip_space();
      in_.need(")");
      return inner;
    }
    const auto name = in_.take_while(is_name_char);
    if (name.empty()) in_.fail_here("expected a literal, a set, a group or the name of a rule");
    return rules_.call(number_of(name));
  }

  Rules::Node literal() {
    std::string text;
    while (!in_.take("\"")) {
      if (in_.is_at_end() || in_.peek() == '\n') in_.fail_here("a literal without its closing quote");
      append_utf8(text, in_.take("\\") ? in_.need_escaped() : in_.next_char());
    }
    return rules_.bytes(text);
  }

  // A token by its name: the control token that has it, or the text, where the vocabulary has it as text.
  Rules::Node token() {
    if (in_.is_at("!<") || in_.is_at("<["))
      in_.fail_here("tokens by their number, and all tokens but one, cannot be enforced");
    const std::string name(in_.take_while([](char c) { return c != '>' && c != '\n'; }));
    in_.need(">");
    return rules_.choice({rules_.special_token(name + ">"), rules_.bytes(name + ">")});
  }

  Rules rules_;
  Cursor in_;
  std::unordered_map<std::string, Rules::Rule> numbers_;
  std::vector<bool> is_defined_;
};

}  // namespace

Rules parse_gbnf(std::string_view text, const GrammarLimits& limits) { return Parser(text, limits).parse(); }

}  // namespace millrace
