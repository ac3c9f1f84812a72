// Finite automata over bytes that may also call rules, and what can be computed of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace millrace {

// With edges that take no byte while it is built; determinized() leaves none of them.
struct Automaton {
  struct ByteEdge {
    uint8_t first, last;
    uint32_t to;
    bool operator==(const ByteEdge&) const = default;
  };
  struct CallEdge {
    uint32_t rule, to;
    bool operator==(const CallEdge&) const = default;
  };
  struct State {
    std::vector<ByteEdge> bytes;
    std::vector<CallEdge> calls;
    std::vector<uint32_t> empties;
    bool is_accepting = false;
    // The first of the states that no token can tell apart from this one: texts of kMaxTokenBytes fare alike
    // from each of them. So that long counted repetitions have few kinds of states.
    uint32_t twin = 0;
  };

  uint32_t add_state() {
    const auto state = static_cast<uint32_t>(states.size());
    states.emplace_back().twin = state;
    return state;
  }
  void add_edge(uint32_t from, uint8_t first, uint8_t last, uint32_t to) {
    states[from].bytes.push_back({first, last, to});
  }

  std::vector<State> states;
  uint32_t start = 0;
};

// Longer tokens are never drawn under a grammar.
constexpr size_t kMaxTokenBytes = 128;

// The same language, without empty edges; where that takes no more than `max_states` states, with one way at
// most for each byte and for each rule, else with as many ways as it had.
Automaton determinized(const Automaton& automaton, size_t max_states);

// What both accept, or the first and not the second. Neither calls rules. Throws Error(usage) beyond
// `max_states`.
enum class Joining { both, but_not };
Automaton product(const Automaton& a, const Automaton& b, Joining kind, size_t max_states);

// Leaves out states that nothing accepted leads through.
// `is_productive` says for each rule whether any text matches it. False where the automaton accepts nothing.
bool trim(Automaton& automaton, const std::vector<bool>& is_productive);

// Whether the automaton, which calls no rules, accepts exactly that.
bool accepts(const Automaton& automaton, std::string_view text);

}  // namespace millrace
