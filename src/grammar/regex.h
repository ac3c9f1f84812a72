// Regular expressions as JavaScript and JSON Schema write them, as far as they are regular.
#pragma once

#include <string_view>

#include "grammar/json_text.h"
#include "grammar/rules.h"

namespace millrace {

// What of a text has to match.
enum class Matched {
  whole,
  somewhere,  // anything may stand before and behind, but for ^ and $
};

// Throws Error(usage), with the place, for what is no expression or is not regular: back references, looking
// around, word boundaries, anchors but at the ends. Lazy quantifiers match what greedy ones do.
Rules::Node regex(Rules& rules, std::string_view pattern, Matched matched, Spelling spelling);

// The set in brackets, the cursor behind the opening one; `negation` is the sign for all but these.
class Cursor;
CharClass bracket_set(Cursor& cursor, bool has_classes);

}  // namespace millrace
