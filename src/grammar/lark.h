// Grammars as Lark and llguidance write them (EBNF).
#pragma once

#include <string_view>

#include "grammar/rules.h"

namespace millrace {

// The start is the rule "start". Terminals match like rules do: no lexer chooses the longest one. What
// %ignore names may stand between terminals. Throws Error(usage) with line and column.
Rules parse_lark(std::string_view text, const GrammarLimits& limits = {});

}  // namespace millrace
