// From expressions to automata: which rules become part of their callers, and what remains.
#pragma once

#include <vector>

#include "grammar/automaton.h"
#include "grammar/rules.h"

namespace millrace {

// One automaton for each rule that is called as a rule, the root first; call edges name them by their place.
// Throws Error(usage) beyond the limits of `rules`.
std::vector<Automaton> automata_of(const Rules& rules);

// Makes every rule that calls itself, through whatever others, before it took a byte one that does not
// (Paull 2000, "Removing left recursion from context-free grammars", on automata).
// The automata have no empty edges, before and after.
void remove_left_recursion(std::vector<Automaton>& automata, const GrammarLimits& limits);

}  // namespace millrace
