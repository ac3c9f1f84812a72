// Grammars as llama.cpp writes them (GBNF), with what xgrammar's dialect adds: names with dots, left
// recursion, rules without regard to line ends.
#pragma once

#include <string_view>

#include "grammar/rules.h"

namespace millrace {

// The start is the rule "root". Throws Error(usage) with line and column.
Rules parse_gbnf(std::string_view text, const GrammarLimits& limits = {});

}  // namespace millrace
