// The texts of JSON values as expressions.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "grammar/rules.h"

namespace millrace {

// How characters are written where they stand.
enum class Spelling {
  plain,
  json,  // inside of a JSON string: each character in one way, escaped where it must be
};
Rules::Node spelled(Rules& rules, const CharClass& set, Spelling spelling);

// The characters of any JSON string, in every spelling; surrogates only in pairs.
Rules::Node any_json_char(Rules& rules);
// Text as JSON writes it, with its quotes.
std::string json_quoted(std::string_view text);

// How the values of a model's calls are written where that is not as JSON; the defaults are JSON's.
struct JsonStyle {
  struct Words {
    std::string_view yes = "true", no = "false", nothing = "null";
  };
  Words words{};
  std::string quote{};         // around texts, which then stand as they are; empty: strings of JSON
  bool has_bare_keys = false;  // keys of letters, digits, _ and - alone have no quotes

  // As they are written, without blanks.
  std::string text(std::string_view text) const;
  std::string key(std::string_view name) const;
  std::string value(const Json& value) const;

  Spelling spelling() const { return quote.empty() ? Spelling::json : Spelling::plain; }
  // A text of these characters, spelled so, with its quotes.
  Rules::Node quoted(Rules& rules, Rules::Node chars) const;
  // One character of any text.
  Rules::Node any_char(Rules& rules) const;
  // Of keys without quotes.
  static Rules::Node bare_key(Rules& rules);
};

}  // namespace millrace
