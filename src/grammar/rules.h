// The one form that every way to write a grammar becomes: named rules, each an expression of bytes,
// characters, repetitions and calls of rules. Context-free; what stands in it says nothing of tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/char_class.h"

namespace millrace {

// What bounds a grammar, whoever wrote it. Beyond that: Error(usage) that says which bound.
struct GrammarLimits {
  size_t max_source_bytes = size_t{4} << 20;
  size_t max_nodes = 400'000;
  size_t max_depth = 400;  // of expressions inside of each other
  size_t max_states = 300'000;
  size_t max_edges = 3'000'000;
  size_t max_rules = 50'000;
};

// Expressions and rules, made bottom-up. An expression is a number, and may stand in several places.
// Everything throws Error(usage) where a limit is reached.
class Rules {
 public:
  using Node = uint32_t;
  using Rule = uint32_t;
  static constexpr int64_t kUnbounded = -1;

  enum class Kind : uint8_t {
    nothing,    // no text at all matches
    bytes,      // exactly these
    chars,      // one character of a set, in UTF-8
    sequence,   // all, one after another
    choice,     // one of them
    repeat,     // the child, min to max times
    list,       // the children in their order, some of them optional, the last child between those that stand
    call,       // a rule
    both,       // what both children match; both regular
    but_not,    // what the first child matches and the second one does not; both regular
    automaton,  // what an automaton without calls accepts
  };
  struct Expression {
    Kind kind;
    uint32_t depth = 1;
    uint32_t index = 0;        // of texts, sets or automata; the rule of a call
    int64_t min = 0, max = 0;  // of a repetition
    std::vector<Node> children{};
    std::vector<bool> optional{};  // of the children of a list but the last
  };

  explicit Rules(const GrammarLimits& limits = {}) : limits_(limits) {}

  Node nothing();
  Node empty() { return bytes(""); }
  Node bytes(std::string_view text);
  // One special token, which adds no text, by the name the vocabulary gives it.
  Node special_token(std::string_view piece);
  Node chars(const CharClass& set);
  Node sequence(std::vector<Node> children);
  Node choice(std::vector<Node> children);
  Node optional(Node child) { return repeat(child, 0, 1); }
  Node repeat(Node child, int64_t min, int64_t max);
  struct Item {
    Node node;
    bool is_optional;
  };
  Node list(const std::vector<Item>& items, Node separator);
  Node both(Node a, Node b);
  Node but_not(Node a, Node b);
  Node automaton(Automaton automaton);

  // A rule is named before it is defined, so that rules may call each other. `name` is for messages.
  Rule declare(std::string_view name);
  void define(Rule rule, Node body) { rules_[rule].body = body; }
  Node call(Rule rule);
  // A rule of its own for `body`: its states are there once, however often it is called.
  Node share(std::string_view name, Node body);

  struct Named {
    std::string name;
    Node body;  // `nothing` until it is defined
  };
  const std::vector<Named>& rules() const { return rules_; }
  const Expression& operator[](Node node) const { return expressions_[node]; }
  const std::string& text(const Expression& e) const { return texts_[e.index]; }
  const CharClass& set(const Expression& e) const { return sets_[e.index]; }
  const Automaton& automaton(const Expression& e) const { return automata_[e.index]; }
  const GrammarLimits& limits() const { return limits_; }
  Rule root = 0;

 private:
  Node add(Expression expression);

  GrammarLimits limits_;
  std::vector<Expression> expressions_;
  std::vector<std::string> texts_;
  std::vector<CharClass> sets_;
  std::vector<Automaton> automata_;
  std::vector<Named> rules_;
};

// The bytes by which a grammar sees a special token: no text holds 0xff or 0xfe.
std::string special_token_bytes(std::string_view piece);

}  // namespace millrace
