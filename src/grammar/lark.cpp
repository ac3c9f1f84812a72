#include "grammar/lark.h"

#include <cctype>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "base/utf8.h"
#include "grammar/cursor.h"
#include "grammar/regex.h"

namespace millrace {
namespace {

bool is_name_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }
bool is_terminal(std::string_view name) {
  for (const char c : name)
    if (std::isalpha(static_cast<unsigned char>(c)) != 0)
      return std::isupper(static_cast<unsigned char>(c)) != 0;
  return false;
}

// The terminals of Lark's grammars/common.lark, as regular expressions.
struct Common {
  std::string_view name, pattern;
};
constexpr Common kCommon[] = {
    {"DIGIT", "[0-9]"},
    {"HEXDIGIT", "[0-9a-fA-F]"},
    {"INT", "[0-9]+"},
    {"SIGNED_INT", "[+-]?[0-9]+"},
    {"DECIMAL", "[0-9]+\\.[0-9]*|\\.[0-9]+"},
    {"FLOAT", "[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?"},
    {"NUMBER", "[0-9]+(?:\\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\\.[0-9]+(?:[eE][+-]?[0-9]+)?"},
    {"SIGNED_NUMBER", "[+-]?(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?"},
    {"ESCAPED_STRING", "\"(?:[^\"\\\\\\n]|\\\\.)*\""},
    {"LCASE_LETTER", "[a-z]"},
    {"UCASE_LETTER", "[A-Z]"},
    {"LETTER", "[a-zA-Z]"},
    {"WORD", "[a-zA-Z]+"},
    {"CNAME", "[a-zA-Z_][a-zA-Z0-9_]*"},
    {"WS_INLINE", "[ \\t]+"},
    {"WS", "[ \\t\\f\\r\\n]+"},
    {"CR", "\\r"},
    {"LF", "\\n"},
    {"NEWLINE", "(?:\\r?\\n)+"},
};

class Parser {
 public:
  Parser(std::string_view text, const GrammarLimits& limits)
      : rules_(limits), in_(text, "the grammar", limits.max_source_bytes) {
    ignored_ = rules_.declare("%ignore");
  }

  Rules parse() {
    for (skip_lines(); !in_.is_at_end(); skip_lines()) statement();
    const auto start = numbers_.find("start");
    if (start == numbers_.end() || !is_defined_[start->second]) in_.fail_here("there is no rule \"start\"");
    for (const auto& [name, number] : numbers_) {
      if (!is_defined_[number]) fail(ErrorKind::usage, "the grammar: \"{}\" is not defined", printable(name));
    }
    rules_.define(ignored_, rules_.repeat(rules_.choice(ignores_), 0, Rules::kUnbounded));
    if (ignores_.empty()) rules_.define(ignored_, rules_.empty());
    rules_.root = rules_.declare("start");
    rules_.define(rules_.root, rules_.sequence({rules_.call(ignored_), rules_.call(start->second)}));
    return std::move(rules_);
  }

 private:
  void skip_blanks() {
    in_.take_while([](char c) { return c == ' ' || c == '\t'; });
    if (in_.is_at("//") || in_.peek() == '#') in_.take_while([](char c) { return c != '\n'; });
  }
  void skip_lines() {
    for (size_t before = in_.at() + 1; before != in_.at();) {
      before = in_.at();
      skip_blanks();
      in_.take_while([](char c) { return c == '\n' || c == '\r'; });
    }
  }
  // Whether the next line goes on with an alternative.
  bool take_bar() {
    const size_t before = in_.at();
    skip_lines();
    if (in_.take("|")) return true;
    in_.go_to(before);
    return false;
  }

  Rules::Rule number_of(std::string_view name) {
    const auto [at, is_new] = numbers_.try_emplace(std::string(name), 0);
    if (is_new) {
      at->second = rules_.declare(name);
      is_defined_.resize(at->second + 1, false);
    }
    return at->second;
  }
  void define(std::string_view name, Rules::Node body) {
    const Rules::Rule number = number_of(name);
    if (is_defined_[number]) in_.fail_here(fmt::format("\"{}\" is defined twice", printable(name)));
    is_defined_[number] = true;
    rules_.define(number, body);
  }

  void statement() {
    if (in_.take("%")) return directive();
    while (in_.take("?") || in_.take("!")) {
    }
    const auto name = in_.take_while(is_name_char);
    if (name.empty()) in_.fail_here("expected a rule, a terminal or a directive");
    skip_blanks();
    if (in_.take(".")) {
      in_.take("-");
      in_.need_number();  // a priority: all that matches is allowed, whatever comes first
    }
    if (in_.peek() == '{') in_.fail_here("templates of rules cannot be enforced");
    if (in_.peek() == '[') in_.fail_here("attributes of rules cannot be enforced");
    skip_blanks();
    in_.need(":");
    in_terminal_ = is_terminal(name);
    const std::string owned(name);
    define(owned, alternatives());
    skip_blanks();
    if (!in_.is_at_end() && in_.peek() != '\n' && in_.peek() != '\r')
      in_.fail_here("expected the end of the line");
  }

  void directive() {
    const auto word = in_.take_while(is_name_char);
    skip_blanks();
    if (word == "ignore") {
      in_terminal_ = true;
      ignores_.push_back(alternatives());
    } else if (word == "import") {
      import();
    } else {
      in_.fail_here(fmt::format("%{} cannot be enforced", printable(word)));
    }
  }

  void import() {
    in_.need("common.");
    const auto name = in_.take_while(is_name_char);
    std::string_view as = name;
    skip_blanks();
    if (in_.take("->")) {
      skip_blanks();
      as = in_.take_while(is_name_char);
    }
    for (const Common& each : kCommon) {
      if (each.name == name) return define(as, regex(rules_, each.pattern, Matched::whole, Spelling::plain));
    }
    in_.fail_here(fmt::format("there is no terminal common.{}", printable(name)));
  }

  Rules::Node alternatives() {
    const Cursor::Nesting nesting(in_);
    std::vector<Rules::Node> out;
    do {
      out.push_back(sequence());
    } while (take_bar());
    return rules_.choice(std::move(out));
  }

  bool is_at_item() const {
    const char c = in_.peek();
    return c == '"' || c == '/' || c == '(' || c == '[' || c == '<' || is_name_char(c);
  }

  Rules::Node sequence() {
    std::vector<Rules::Node> out;
    for (skip_blanks(); is_at_item(); skip_blanks()) out.push_back(repeated(item()));
    if (in_.take("->")) {
      skip_blanks();
      in_.take_while(is_name_char);
    }
    return rules_.sequence(std::move(out));
  }

  Rules::Node repeated(Rules::Node node) {
    while (true) {
      if (in_.take("*")) {
        node = rules_.repeat(node, 0, Rules::kUnbounded);
      } else if (in_.take("+")) {
        node = rules_.repeat(node, 1, Rules::kUnbounded);
      } else if (in_.take("?")) {
        node = rules_.optional(node);
      } else if (in_.take("~")) {
        const int64_t min = in_.need_number();
        const int64_t max = in_.take("..") ? in_.need_number() : min;
        if (min > max) in_.fail_here("a repetition with its least above its most");
        node = rules_.repeat(node, min, max);
      } else {
        return node;
      }
    }
  }

  // A terminal where a rule names it: what is ignored may follow.
  Rules::Node as_terminal(Rules::Node node) {
    return in_terminal_ ? node : rules_.sequence({node, rules_.call(ignored_)});
  }

  Rules::Node item() {
    if (in_.take("(")) return group(")");
    if (in_.take("[")) return rules_.optional(group("]"));
    if (in_.peek() == '"') return as_terminal(literal_or_range());
    if (in_.take("/")) return as_terminal(expression());
    if (in_.peek() == '<') {
      const std::string name(in_.take_while([](char c) { return c != '>' && c != '\n'; }));
      in_.need(">");
      return as_terminal(rules_.special_token(name + ">"));
    }
    const auto name = in_.take_while(is_name_char);
    const Rules::Node call = rules_.call(number_of(name));
    return is_terminal(name) ? as_terminal(call) : call;
  }

  Rules::Node group(std::string_view close) {
    skip_lines();
    const Rules::Node inner = alternatives();
    skip_lines();
    in_.need(close);
    return inner;
  }

  std::u32string need_literal() {
    std::u32string text;
    in_.need("\"");
    while (!in_.take("\"")) {
      if (in_.is_at_end() || in_.peek() == '\n') in_.fail_here("a text without its closing quote");
      text += static_cast<char32_t>(in_.take("\\") ? in_.need_escaped() : in_.next_char());
    }
    return text;
  }

  Rules::Node literal_or_range() {
    const std::u32string text = need_literal();
    if (in_.take("..")) {
      const std::u32string last = need_literal();
      if (text.size() != 1 || last.size() != 1 || text[0] > last[0])
        in_.fail_here("a range that does not ascend");
      return rules_.chars({text[0], last[0]});
    }
    const bool ignores_case = in_.peek() == 'i' && in_.take("i");
    std::vector<Rules::Node> chars;
    for (const char32_t c : text) {
      const CharClass one(c, c);
      chars.push_back(rules_.chars(ignores_case ? one.in_both_cases() : one));
    }
    return rules_.sequence(std::move(chars));
  }

  Rules::Node expression() {
    std::string pattern;
    while (!in_.take("/")) {
      if (in_.is_at_end() || in_.peek() == '\n') in_.fail_here("an expression without its closing /");
      if (in_.is_at("\\/")) in_.skip(1);
      if (in_.peek() == '\\') append_utf8(pattern, in_.next_char());
      append_utf8(pattern, in_.next_char());
    }
    const auto flags =
        in_.take_while([](char c) { return std::islower(static_cast<unsigned char>(c)) != 0; });
    if (flags == "i") {
      pattern.insert(0, "(?i)");
    } else if (!flags.empty()) {
      in_.fail_here(fmt::format("the flags {} of an expression cannot be enforced", flags));
    }
    return regex(rules_, pattern, Matched::whole, Spelling::plain);
  }

  Rules rules_;
  Cursor in_;
  std::unordered_map<std::string, Rules::Rule> numbers_;
  std::vector<bool> is_defined_;
  std::vector<Rules::Node> ignores_;
  Rules::Rule ignored_ = 0;
  bool in_terminal_ = false;  // nothing is ignored inside of terminals
};

}  // namespace

Rules parse_lark(std::string_view text, const GrammarLimits& limits) { return Parser(text, limits).parse(); }

}  // namespace millrace
