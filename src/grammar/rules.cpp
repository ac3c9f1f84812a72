#include "grammar/rules.h"

#include <algorithm>

#include "base/error.h"

namespace millrace {

std::string special_token_bytes(std::string_view piece) { return "\xff" + std::string(piece) + "\xfe"; }

Rules::Node Rules::add(Expression expression) {
  for (const Node child : expression.children)
    expression.depth = std::max(expression.depth, expressions_[child].depth + 1);
  if (expression.depth > limits_.max_depth)
    fail(ErrorKind::usage, "the grammar has expressions {} deep in each other, expected at most {}",
         expression.depth, limits_.max_depth);
  if (expressions_.size() >= limits_.max_nodes)
    fail(ErrorKind::usage, "the grammar has more than {} expressions", limits_.max_nodes);
  expressions_.push_back(std::move(expression));
  return static_cast<Node>(expressions_.size() - 1);
}

Rules::Node Rules::nothing() { return add({.kind = Kind::nothing}); }

Rules::Node Rules::bytes(std::string_view text) {
  texts_.emplace_back(text);
  return add({.kind = Kind::bytes, .index = static_cast<uint32_t>(texts_.size() - 1)});
}

Rules::Node Rules::special_token(std::string_view piece) { return bytes(special_token_bytes(piece)); }

Rules::Node Rules::chars(const CharClass& set) {
  if (set.is_empty()) return nothing();
  sets_.push_back(set);
  return add({.kind = Kind::chars, .index = static_cast<uint32_t>(sets_.size() - 1)});
}

Rules::Node Rules::sequence(std::vector<Node> children) {
  if (children.size() == 1) return children[0];
  if (children.empty()) return empty();
  return add({.kind = Kind::sequence, .children = std::move(children)});
}

Rules::Node Rules::choice(std::vector<Node> children) {
  if (children.size() == 1) return children[0];
  if (children.empty()) return nothing();
  return add({.kind = Kind::choice, .children = std::move(children)});
}

Rules::Node Rules::repeat(Node child, int64_t min, int64_t max) {
  if (max != kUnbounded && min > max)
    fail(ErrorKind::usage, "a repetition is of at least {} and at most {}", min, max);
  if (min == 1 && max == 1) return child;
  if (max == 0) return empty();
  const auto most = static_cast<uint64_t>(std::max(min, max));
  if (most > limits_.max_states)
    fail(ErrorKind::usage, "a repetition goes up to {}, expected at most {}", most, limits_.max_states);
  return add({.kind = Kind::repeat, .min = min, .max = max, .children = {child}});
}

Rules::Node Rules::list(const std::vector<Item>& items, Node separator) {
  Expression list{.kind = Kind::list};
  for (const Item& item : items) {
    list.children.push_back(item.node);
    list.optional.push_back(item.is_optional);
  }
  list.children.push_back(separator);
  return add(std::move(list));
}

Rules::Node Rules::both(Node a, Node b) { return add({.kind = Kind::both, .children = {a, b}}); }
Rules::Node Rules::but_not(Node a, Node b) { return add({.kind = Kind::but_not, .children = {a, b}}); }

Rules::Node Rules::automaton(Automaton automaton) {
  automata_.push_back(std::move(automaton));
  return add({.kind = Kind::automaton, .index = static_cast<uint32_t>(automata_.size() - 1)});
}

Rules::Rule Rules::declare(std::string_view name) {
  if (rules_.size() >= limits_.max_rules)
    fail(ErrorKind::usage, "the grammar has more than {} rules", limits_.max_rules);
  rules_.push_back({std::string(name), nothing()});
  return static_cast<Rule>(rules_.size() - 1);
}

Rules::Node Rules::call(Rule rule) { return add({.kind = Kind::call, .index = rule}); }

Rules::Node Rules::share(std::string_view name, Node body) {
  const Rule rule = declare(name);
  define(rule, body);
  return call(rule);
}

}  // namespace millrace
