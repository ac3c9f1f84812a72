// The texts of JSON values as expressions.
#pragma once

#include <string_view>

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

}  // namespace millrace
