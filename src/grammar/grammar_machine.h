// A grammar ready to run: one automaton for each rule that is not part of another one, side by side. A rule
// never calls itself before it took a byte (left recursion is gone), and every state leads to an end.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/rules.h"

namespace millrace {

// const after it is made.
class GrammarMachine {
 public:
  struct CallEdge {
    uint32_t rule, to;
    bool is_tail;  // `to` only ends its rule: nobody need return to it
  };
  struct State {
    uint32_t bytes_begin, bytes_end;
    uint32_t calls_begin, calls_end;
    uint32_t twin;  // see Automaton
    bool is_accepting;

    bool is_end() const { return bytes_begin == bytes_end && calls_begin == calls_end; }
  };
  struct Rule {
    uint32_t start;
    uint32_t rank;  // above those of all rules that can call it before they took a byte
  };

  // Throws Error(usage) where the rules exceed their limits, or where no text matches them.
  explicit GrammarMachine(const Rules& rules);

  std::span<const State> states() const { return states_; }
  std::span<const Automaton::ByteEdge> bytes_of(const State& state) const {
    return std::span(bytes_).subspan(state.bytes_begin, state.bytes_end - state.bytes_begin);
  }
  std::span<const CallEdge> calls_of(const State& state) const {
    return std::span(calls_).subspan(state.calls_begin, state.calls_end - state.calls_begin);
  }
  const Rule& rule(uint32_t number) const { return rules_[number]; }
  size_t n_rules() const { return rules_.size(); }
  uint32_t root() const { return 0; }

  // Bytes that no edge tells apart are of one class.
  uint32_t class_of(uint8_t byte) const { return class_of_[byte]; }
  uint32_t n_classes() const { return n_classes_; }
  // Of a class with one byte that byte, else -1.
  int only_byte_of(uint32_t byte_class) const { return only_byte_[byte_class]; }
  // The first byte above `byte` that is of another class; 256 where there is none.
  int next_class_begin(uint8_t byte) const {
    const size_t next = class_of_[byte] + size_t{1};
    return next < n_classes_ ? first_byte_[next] : 256;
  }
  uint8_t first_byte_of(uint32_t byte_class) const { return first_byte_[byte_class]; }

 private:
  void flatten(const std::vector<Automaton>& automata);
  void find_classes();

  std::vector<State> states_;
  std::vector<Automaton::ByteEdge> bytes_;
  std::vector<CallEdge> calls_;
  std::vector<Rule> rules_;
  std::array<uint8_t, 256> class_of_{};
  std::vector<int> only_byte_;
  std::vector<uint8_t> first_byte_;
  uint32_t n_classes_ = 0;
};

}  // namespace millrace
