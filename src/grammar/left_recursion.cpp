#include <algorithm>
#include <functional>
#include <limits>

#include "base/error.h"
#include "grammar/rule_automata.h"

namespace millrace {
namespace {

bool calls_at_start(const Automaton& automaton, uint32_t rule) {
  return std::ranges::any_of(automaton.states[automaton.start].calls,
                             [&](const Automaton::CallEdge& call) { return call.rule == rule; });
}

// Makes a start that nothing leads back to, without its calls of `rule`; returns where those went on.
std::vector<uint32_t> take_calls_at_start(Automaton& automaton, uint32_t rule) {
  std::vector<uint32_t> targets;
  Automaton::State start = automaton.states[automaton.start];
  std::erase_if(start.calls, [&](const Automaton::CallEdge& call) {
    if (call.rule == rule) targets.push_back(call.to);
    return call.rule == rule;
  });
  automaton.start = automaton.add_state();
  start.twin = automaton.start;
  automaton.states[automaton.start] = std::move(start);
  return targets;
}

// A = B | A t: B, then t as often as one likes.
void loop_instead_of(Automaton& automaton, uint32_t rule) {
  const std::vector<uint32_t> targets = take_calls_at_start(automaton, rule);
  for (Automaton::State& state : automaton.states) {
    if (state.is_accepting) state.empties.insert(state.empties.end(), targets.begin(), targets.end());
  }
}

// What `rule` itself is stands where it was called at the start.
void insert_at_start(Automaton& automaton, uint32_t rule, const Automaton& body) {
  for (const uint32_t target : take_calls_at_start(automaton, rule)) {
    const auto offset = static_cast<uint32_t>(automaton.states.size());
    for (Automaton::State state : body.states) {
      for (auto& edge : state.bytes) edge.to += offset;
      for (auto& call : state.calls) call.to += offset;
      if (state.is_accepting) state.empties.push_back(target);
      state.is_accepting = false;
      state.twin += offset;
      automaton.states.push_back(std::move(state));
    }
    automaton.states[automaton.start].empties.push_back(offset + body.start);
  }
}

// Groups of rules that lead to each other through calls at their starts (Kosaraju, without recursion).
std::vector<std::vector<uint32_t>> cycles_of(const std::vector<Automaton>& automata) {
  const auto n = static_cast<uint32_t>(automata.size());
  std::vector<std::vector<uint32_t>> to(n), from(n);
  for (uint32_t rule = 0; rule < n; ++rule) {
    for (const auto& call : automata[rule].states[automata[rule].start].calls) {
      to[rule].push_back(call.rule);
      from[call.rule].push_back(rule);
    }
  }
  std::vector<bool> is_seen(n, false);
  std::vector<uint32_t> finished;
  const auto visit = [&](uint32_t first, const std::vector<std::vector<uint32_t>>& next_of,
                         std::vector<uint32_t>& out) {
    std::vector<std::pair<uint32_t, size_t>> frames{{first, 0}};
    is_seen[first] = true;
    while (!frames.empty()) {
      auto& [rule, next] = frames.back();
      if (next == next_of[rule].size()) {
        out.push_back(rule);
        frames.pop_back();
        continue;
      }
      const uint32_t other = next_of[rule][next++];
      if (is_seen[other]) continue;
      is_seen[other] = true;
      frames.emplace_back(other, 0);
    }
  };
  for (uint32_t rule = 0; rule < n; ++rule)
    if (!is_seen[rule]) visit(rule, to, finished);
  is_seen.assign(n, false);
  std::vector<std::vector<uint32_t>> cycles;
  for (auto at = finished.rbegin(); at != finished.rend(); ++at) {
    if (is_seen[*at]) continue;
    std::vector<uint32_t> group;
    visit(*at, from, group);
    if (group.size() > 1 || calls_at_start(automata[group[0]], group[0])) cycles.push_back(std::move(group));
  }
  return cycles;
}

}  // namespace

void remove_left_recursion(std::vector<Automaton>& automata, const GrammarLimits& limits) {
  size_t n_states = 0;
  for (const Automaton& automaton : automata) n_states += automaton.states.size();
  for (const std::vector<uint32_t>& cycle : cycles_of(automata)) {
    for (size_t i = 0; i < cycle.size(); ++i) {
      Automaton& automaton = automata[cycle[i]];
      const auto settle = [&] {
        if (n_states + automaton.states.size() > limits.max_states)
          fail(ErrorKind::usage, "the left recursion of the grammar needs more than {} states",
               limits.max_states);
        n_states -= std::min(n_states, automaton.states.size());
        automaton = determinized(automaton, 1000 + 2 * automaton.states.size());
        n_states += automaton.states.size();
      };
      for (size_t j = 0; j < i; ++j) {
        if (!calls_at_start(automaton, cycle[j])) continue;
        insert_at_start(automaton, cycle[j], automata[cycle[j]]);
        settle();
      }
      if (!calls_at_start(automaton, cycle[i])) continue;
      loop_instead_of(automaton, cycle[i]);
      settle();
    }
  }
}

}  // namespace millrace
