#include "grammar/grammar_machine.h"

#include <algorithm>

#include "base/error.h"
#include "grammar/rule_automata.h"

namespace millrace {
namespace {

// Calls that rules make at their starts lead from lower to higher ranks. They form no cycle.
std::vector<uint32_t> ranks_of(const std::vector<Automaton>& automata) {
  const auto n = static_cast<uint32_t>(automata.size());
  std::vector<uint32_t> n_callers(n, 0), ranks(n, 0), open;
  const auto each_callee = [&](uint32_t rule, auto&& f) {
    for (const auto& call : automata[rule].states[automata[rule].start].calls) f(call.rule);
  };
  for (uint32_t rule = 0; rule < n; ++rule) each_callee(rule, [&](uint32_t callee) { ++n_callers[callee]; });
  for (uint32_t rule = 0; rule < n; ++rule)
    if (n_callers[rule] == 0) open.push_back(rule);
  for (size_t i = 0; i < open.size(); ++i) {
    each_callee(open[i], [&](uint32_t callee) {
      ranks[callee] = std::max(ranks[callee], ranks[open[i]] + 1);
      if (--n_callers[callee] == 0) open.push_back(callee);
    });
  }
  check(open.size() == n, "no rule is left-recursive");
  return ranks;
}

}  // namespace

GrammarMachine::GrammarMachine(const Rules& rules) {
  std::vector<Automaton> automata = automata_of(rules);
  remove_left_recursion(automata, rules.limits());
  flatten(automata);
  find_classes();
}

void GrammarMachine::flatten(const std::vector<Automaton>& automata) {
  const std::vector<uint32_t> ranks = ranks_of(automata);
  for (size_t rule = 0; rule < automata.size(); ++rule) {
    const Automaton& automaton = automata[rule];
    const auto offset = static_cast<uint32_t>(states_.size());
    rules_.push_back({offset + automaton.start, ranks[rule]});
    for (const Automaton::State& state : automaton.states) {
      const auto bytes_begin = static_cast<uint32_t>(bytes_.size());
      for (const auto& edge : state.bytes) bytes_.push_back({edge.first, edge.last, edge.to + offset});
      const auto calls_begin = static_cast<uint32_t>(calls_.size());
      for (const auto& call : state.calls) {
        const Automaton::State& to = automaton.states[call.to];
        calls_.push_back({call.rule, call.to + offset, to.bytes.empty() && to.calls.empty()});
      }
      states_.push_back({.bytes_begin = bytes_begin,
                         .bytes_end = static_cast<uint32_t>(bytes_.size()),
                         .calls_begin = calls_begin,
                         .calls_end = static_cast<uint32_t>(calls_.size()),
                         .twin = state.twin + offset,
                         .is_accepting = state.is_accepting});
    }
  }
}

void GrammarMachine::find_classes() {
  std::array<bool, 257> is_cut{};
  is_cut[0] = true;
  for (const auto& edge : bytes_) is_cut[edge.first] = is_cut[size_t{edge.last} + 1] = true;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (is_cut[byte]) {
      first_byte_.push_back(static_cast<uint8_t>(byte));
      only_byte_.push_back(is_cut[byte + 1] || byte == 255 ? static_cast<int>(byte) : -1);
    }
    class_of_[byte] = static_cast<uint8_t>(first_byte_.size() - 1);
  }
  n_classes_ = static_cast<uint32_t>(first_byte_.size());
}

}  // namespace millrace
