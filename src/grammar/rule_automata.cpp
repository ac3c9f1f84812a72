#include "grammar/rule_automata.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/utf8.h"

namespace millrace {
namespace {

using Kind = Rules::Kind;

// Rules of few states are worth more inside of their callers than the return they cost.
constexpr size_t kFewStates = 12;
constexpr size_t kMany = size_t{1} << 40;

// Which rules become part of their callers: those that never call themselves and are small or called once.
class Inlining {
 public:
  explicit Inlining(const Rules& rules) : rules_(rules), infos_(rules.rules().size()) {
    for (Rules::Rule rule = 0; rule < infos_.size(); ++rule) collect_calls(rule);
    for (Rules::Rule rule = 0; rule < infos_.size(); ++rule)
      if (infos_[rule].order == 0) visit(rule);
  }

  bool is_part_of_callers(Rules::Rule rule) const { return infos_[rule].is_inlined; }
  bool is_recursive(Rules::Rule rule) const { return infos_[rule].is_recursive; }

 private:
  struct Info {
    std::vector<Rules::Rule> calls;
    size_t n_uses = 0;
    uint32_t order = 0, low = 0;  // of Tarjan's algorithm
    bool is_on_stack = false, is_recursive = false, is_inlined = false;
  };

  void collect_calls(Rules::Rule rule) {
    std::vector<std::pair<Rules::Node, size_t>> open{
        {rules_.rules()[rule].body, 1}};  // with how often it stands
    std::unordered_set<Rules::Node> seen;
    while (!open.empty()) {
      const auto [node, n_copies] = open.back();
      open.pop_back();
      const Rules::Expression& e = rules_[node];
      if (e.kind == Kind::call) {
        infos_[rule].calls.push_back(e.index);
        infos_[e.index].n_uses += n_copies;
      }
      if (!seen.insert(node).second) continue;
      const bool is_copied = e.kind == Kind::repeat && std::max(e.min, e.max) > 1;
      for (const Rules::Node child : e.children) open.emplace_back(child, is_copied ? 2 : n_copies);
    }
  }

  // Tarjan 1972 without recursion: callees are finished before their callers.
  void visit(Rules::Rule first) {
    struct Frame {
      Rules::Rule rule;
      size_t next = 0;
    };
    std::vector<Frame> frames{{first}};
    enter(first);
    while (!frames.empty()) {
      Frame& frame = frames.back();
      Info& info = infos_[frame.rule];
      if (frame.next < info.calls.size()) {
        const Rules::Rule callee = info.calls[frame.next++];
        Info& other = infos_[callee];
        if (callee == frame.rule) info.is_recursive = true;
        if (other.order == 0) {
          enter(callee);
          frames.push_back({callee});
        } else if (other.is_on_stack) {
          info.low = std::min(info.low, other.order);
        }
        continue;
      }
      const Rules::Rule done = frame.rule;
      frames.pop_back();
      if (!frames.empty()) {
        Info& caller = infos_[frames.back().rule];
        caller.low = std::min(caller.low, info.low);
      }
      if (info.low == info.order) close(done);
    }
  }

  void enter(Rules::Rule rule) {
    infos_[rule].order = infos_[rule].low = ++n_visited_;
    infos_[rule].is_on_stack = true;
    stack_.push_back(rule);
  }

  // A component is complete: the rules on the stack from `rule` on.
  void close(Rules::Rule rule) {
    const auto begin = std::ranges::find(stack_, rule);
    const bool is_cycle = stack_.end() - begin > 1;
    for (auto at = begin; at != stack_.end(); ++at) {
      infos_[*at].is_on_stack = false;
      infos_[*at].is_recursive |= is_cycle;
    }
    stack_.erase(begin, stack_.end());
    Info& info = infos_[rule];
    info.is_inlined =
        !info.is_recursive && (info.n_uses == 1 || size_of(rules_.rules()[rule].body) <= kFewStates);
  }

  // About how many states an expression becomes.
  size_t size_of(Rules::Node node) {
    if (const auto known = sizes_.find(node); known != sizes_.end()) return known->second;
    const Rules::Expression& e = rules_[node];
    size_t size = 1;
    if (e.kind == Kind::bytes) size = rules_.text(e).size();
    if (e.kind == Kind::chars) size = rules_.set(e).ranges().back().last < 0x80 ? 1 : 8;
    if (e.kind == Kind::automaton) size = rules_.automaton(e).states.size();
    if (e.kind == Kind::call && infos_[e.index].is_inlined) size = size_of(rules_.rules()[e.index].body);
    for (const Rules::Node child : e.children) size += size_of(child);
    if (e.kind == Kind::repeat) size *= static_cast<size_t>(std::max<int64_t>({e.min, e.max, 1}));
    return sizes_[node] = std::min(size, kMany);
  }

  const Rules& rules_;
  std::vector<Info> infos_;
  std::vector<Rules::Rule> stack_;
  std::unordered_map<Rules::Node, size_t> sizes_;
  uint32_t n_visited_ = 0;
};

struct Lead {
  uint32_t first, last;  // code points with so many bytes
  int n_bytes;
};
constexpr Lead kLeads[] = {
    {0, 0x7f, 1}, {0x80, 0x7ff, 2}, {0x800, 0xffff, 3}, {0x10000, CharClass::kLast, 4}};

class Builder {
 public:
  Builder(const Rules& rules, const Inlining& inlining) : rules_(rules), inlining_(inlining) {}

  std::vector<Automaton> build() {
    number_of(rules_.root);
    for (size_t i = 0; i < order_.size(); ++i) {
      out_ = {};
      out_.start = new_state();
      const uint32_t end = build(rules_.rules()[order_[i]].body, out_.start);
      out_.states[end].is_accepting = true;
      automata_.push_back(std::move(out_));
    }
    return std::move(automata_);
  }

 private:
  uint32_t number_of(Rules::Rule rule) {
    const auto [at, is_new] = numbers_.try_emplace(rule, static_cast<uint32_t>(order_.size()));
    if (is_new) order_.push_back(rule);
    return at->second;
  }

  uint32_t new_state() {
    if (++n_states_ > rules_.limits().max_states)
      fail(ErrorKind::usage, "the grammar needs more than {} states", rules_.limits().max_states);
    return out_.add_state();
  }

  void link(uint32_t from, uint32_t to) { out_.states[from].empties.push_back(to); }

  // Adds what matches `node` from the state `from` on; returns the state behind it.
  uint32_t build(Rules::Node node, uint32_t from) {
    if (++n_built_ > 8 * rules_.limits().max_nodes)
      fail(ErrorKind::usage, "the rules of the grammar, put into each other, have more than {} expressions",
           8 * rules_.limits().max_nodes);
    const Rules::Expression& e = rules_[node];
    switch (e.kind) {
      case Kind::nothing:
        return new_state();
      case Kind::bytes:
        return build_bytes(rules_.text(e), from);
      case Kind::chars:
        return build_chars(rules_.set(e), from);
      case Kind::sequence:
        for (const Rules::Node child : e.children) from = build(child, from);
        return from;
      case Kind::choice:
        return build_choice(e, from);
      case Kind::repeat:
        return build_repeat(e, from);
      case Kind::list:
        return build_list(e, from);
      case Kind::call:
        return build_call(e.index, from);
      case Kind::both:
      case Kind::but_not:
        return build_product(e, from);
      case Kind::automaton:
        return insert(rules_.automaton(e), from);
    }
    return from;
  }

  uint32_t build_bytes(std::string_view text, uint32_t from) {
    for (const char c : text) {
      const uint32_t to = new_state();
      out_.add_edge(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
      from = to;
    }
    return from;
  }

  uint32_t build_choice(const Rules::Expression& e, uint32_t from) {
    const uint32_t end = new_state();
    for (const Rules::Node child : e.children) link(build(child, from), end);  // nothing leads back to `from`
    return end;
  }

  uint32_t build_repeat(const Rules::Expression& e, uint32_t from) {
    const Rules::Node child = e.children[0];
    std::vector<Copy> copies;
    if (e.max == Rules::kUnbounded) {
      for (int64_t i = 0; i < e.min; ++i) from = copy(child, from, {e.min - i, -1}, copies);
      const uint32_t loop = new_state(), end = new_state();
      link(from, loop);
      link(build(child, loop), loop);
      link(loop, end);
      return end;
    }
    const uint32_t end = new_state();
    for (int64_t i = 0; i < e.max; ++i) {
      if (i >= e.min) link(from, end);
      from = copy(child, from, {std::max<int64_t>(0, e.min - i), e.max - i}, copies);
    }
    link(from, end);
    return end;
  }

  // At least and at most so many copies of what is repeated are still to come, this one included.
  using Left = std::pair<int64_t, int64_t>;
  struct Copy {
    Left left;  // no further than a token reaches
    uint32_t first_state;
  };

  // One of the copies of a repetition. Where a token does not reach the end of the repetition it is a twin of
  // the first such one, which is kept in `copies`.
  uint32_t copy(Rules::Node child, uint32_t from, Left left, std::vector<Copy>& copies) {
    constexpr int64_t kReach = kMaxTokenBytes + 2;
    const uint32_t first = new_state();
    link(from, first);
    const uint32_t end = build(child, first);
    left = {std::min(left.first, kReach), std::min(left.second, kReach)};
    const auto known = std::ranges::find(copies, left, &Copy::left);
    if (known == copies.end()) {
      if (left.first == kReach || left.second == kReach) copies.push_back({left, first});
      return end;
    }
    for (uint32_t s = first; s < out_.states.size(); ++s)
      out_.states[s].twin = out_.states[known->first_state + (s - first)].twin;
    return end;
  }

  uint32_t build_list(const Rules::Expression& e, uint32_t from) {
    // From `none` on nothing stands yet, from `some` on something does; `next` begins the item.
    uint32_t none = from, some = new_state();
    const Rules::Node separator = e.children.back();
    for (size_t i = 0; i + 1 < e.children.size(); ++i) {
      const uint32_t next = new_state();
      const uint32_t none_after = new_state(), some_after = new_state();
      link(none, next);
      link(build(separator, some), next);
      link(build(e.children[i], next), some_after);
      if (e.optional[i]) {
        link(none, none_after);
        link(some, some_after);
      }
      none = none_after;
      some = some_after;
    }
    const uint32_t end = new_state();
    link(none, end);
    link(some, end);
    return end;
  }

  uint32_t build_call(Rules::Rule rule, uint32_t from) {
    constexpr size_t kMaxInlined = 100;  // deep in each other: the stack is not endless
    const bool is_forced = is_regular_ && !inlining_.is_recursive(rule);
    if (is_regular_ && !is_forced)
      fail(ErrorKind::usage,
           "the rule \"{}\" is recursive, which an intersection or a difference cannot hold",
           printable(rules_.rules()[rule].name));
    if ((is_forced || inlining_.is_part_of_callers(rule)) && n_inlined_ < kMaxInlined) {
      ++n_inlined_;
      const uint32_t end = build(rules_.rules()[rule].body, from);
      --n_inlined_;
      return end;
    }
    if (is_forced)
      fail(ErrorKind::usage, "the grammar has rules more than {} deep in each other", kMaxInlined);
    const uint32_t to = new_state();
    out_.states[from].calls.push_back({number_of(rule), to});
    return to;
  }

  uint32_t build_product(const Rules::Expression& e, uint32_t from) {
    const auto alone = [&](Rules::Node node) {
      Automaton outer = std::move(out_);
      const bool was_regular = std::exchange(is_regular_, true);
      out_ = {};
      out_.start = new_state();
      const uint32_t end = build(node, out_.start);
      out_.states[end].is_accepting = true;
      Automaton built = std::exchange(out_, std::move(outer));
      is_regular_ = was_regular;
      return built;
    };
    const Automaton a = alone(e.children[0]), b = alone(e.children[1]);
    Automaton both = product(a, b, e.kind == Kind::both ? Joining::both : Joining::but_not,
                             rules_.limits().max_states - std::min(n_states_, rules_.limits().max_states));
    trim(both, {});
    return insert(both, from);
  }

  uint32_t insert(const Automaton& automaton, uint32_t from) {
    const auto offset = static_cast<uint32_t>(out_.states.size());
    for (size_t i = 0; i < automaton.states.size(); ++i) new_state();
    const uint32_t end = new_state();
    for (uint32_t s = 0; s < automaton.states.size(); ++s) {
      Automaton::State state = automaton.states[s];
      for (auto& edge : state.bytes) edge.to += offset;
      for (uint32_t& to : state.empties) to += offset;
      if (state.is_accepting) state.empties.push_back(end);
      state.is_accepting = false;
      state.twin += offset;
      out_.states[offset + s] = std::move(state);
    }
    link(from, offset + automaton.start);
    return end;
  }

  uint32_t build_chars(const CharClass& set, uint32_t from) {
    const uint32_t end = new_state();
    for (const CharClass::Range& range : set.ranges()) {
      for (const Lead& lead : kLeads) {
        const uint32_t first = std::max(range.first, lead.first), last = std::min(range.last, lead.last);
        if (first <= last) build_range(first, last, lead.n_bytes, from, end);
      }
    }
    return end;
  }

  // Code points first to last, whose UTF-8 has n_bytes bytes. Those that share all bytes but the last few
  // are taken together where these go through their whole range.
  void build_range(uint32_t first, uint32_t last, int n_bytes, uint32_t from, uint32_t end) {
    std::string a, b;
    append_utf8(a, first);
    append_utf8(b, last);
    build_bytes_between(a, b, static_cast<size_t>(n_bytes), from, end);
  }

  void build_bytes_between(std::string_view a, std::string_view b, size_t n, uint32_t from, uint32_t end) {
    const auto low = static_cast<uint8_t>(a[0]), high = static_cast<uint8_t>(b[0]);
    if (n == 1) return out_.add_edge(from, low, high, end);
    if (low == high) {
      const uint32_t next = new_state();
      out_.add_edge(from, low, low, next);
      return build_bytes_between(a.substr(1), b.substr(1), n - 1, next, end);
    }
    const std::string lowest(n - 1, '\x80'), highest(n - 1, '\xbf');
    int begin = low, stop = high;
    if (a.substr(1) != lowest) {
      build_bytes_between(a, std::string(1, a[0]) + highest, n, from, end);
      ++begin;
    }
    if (b.substr(1) != highest) {
      build_bytes_between(std::string(1, b[0]) + lowest, b, n, from, end);
      --stop;
    }
    if (begin > stop) return;
    const uint32_t next = new_state();
    out_.add_edge(from, static_cast<uint8_t>(begin), static_cast<uint8_t>(stop), next);
    build_any(n - 1, next, end);
  }

  void build_any(size_t n, uint32_t from, uint32_t end) {
    for (; n > 1; --n) {
      const uint32_t next = new_state();
      out_.add_edge(from, 0x80, 0xbf, next);
      from = next;
    }
    out_.add_edge(from, 0x80, 0xbf, end);
  }

  const Rules& rules_;
  const Inlining& inlining_;
  std::unordered_map<Rules::Rule, uint32_t> numbers_;
  std::vector<Rules::Rule> order_;
  std::vector<Automaton> automata_;
  Automaton out_;
  size_t n_states_ = 0, n_inlined_ = 0, n_built_ = 0;
  bool is_regular_ = false;  // inside of an intersection or difference: no calls
};

// Finds which rules have a property that begins at accepting states and goes backward through calls of rules
// that have it: over empty edges alone (the empty text matches), or over bytes too (some text does).
enum class Over { empties, bytes_too };
std::vector<bool> rules_that_end(const std::vector<Automaton>& automata, Over over) {
  struct Site {
    uint32_t rule, from, to;
  };
  std::vector<std::vector<Site>> sites(automata.size());
  std::vector<std::vector<bool>> is_reached(automata.size());
  std::vector<bool> ends(automata.size(), false);
  std::vector<uint32_t> fresh;
  const auto reach = [&](uint32_t rule, uint32_t first) {
    std::vector<uint32_t> open{first};
    while (!open.empty()) {
      const uint32_t s = open.back();
      open.pop_back();
      if (is_reached[rule][s]) continue;
      is_reached[rule][s] = true;
      const Automaton::State& state = automata[rule].states[s];
      if (state.is_accepting && !ends[rule]) {
        ends[rule] = true;
        fresh.push_back(rule);
      }
      open.insert(open.end(), state.empties.begin(), state.empties.end());
      for (const auto& call : state.calls)
        if (ends[call.rule]) open.push_back(call.to);
      if (over == Over::bytes_too)
        for (const auto& edge : state.bytes) open.push_back(edge.to);
    }
  };
  for (uint32_t rule = 0; rule < automata.size(); ++rule) {
    is_reached[rule].assign(automata[rule].states.size(), false);
    for (uint32_t s = 0; s < automata[rule].states.size(); ++s)
      for (const auto& call : automata[rule].states[s].calls) sites[call.rule].push_back({rule, s, call.to});
  }
  for (uint32_t rule = 0; rule < automata.size(); ++rule) reach(rule, automata[rule].start);
  while (!fresh.empty()) {
    const uint32_t callee = fresh.back();
    fresh.pop_back();
    for (const Site& site : sites[callee])
      if (is_reached[site.rule][site.from]) reach(site.rule, site.to);
  }
  return ends;
}

void pass_empty_rules(std::vector<Automaton>& automata) {
  const std::vector<bool> is_nullable = rules_that_end(automata, Over::empties);
  for (Automaton& automaton : automata) {
    for (Automaton::State& state : automaton.states) {
      for (const auto& call : state.calls)
        if (is_nullable[call.rule]) state.empties.push_back(call.to);
    }
  }
}

void trim_all(std::vector<Automaton>& automata) {
  const std::vector<bool> is_productive = rules_that_end(automata, Over::bytes_too);
  for (Automaton& automaton : automata) trim(automaton, is_productive);
  if (!is_productive[0]) fail(ErrorKind::usage, "no text at all can match the grammar");
}

}  // namespace

std::vector<Automaton> automata_of(const Rules& rules) {
  const Inlining inlining(rules);
  std::vector<Automaton> automata = Builder(rules, inlining).build();
  pass_empty_rules(automata);
  trim_all(automata);
  size_t n_states = 0, n_edges = 0;
  for (Automaton& automaton : automata) {
    automaton = determinized(automaton, 1000 + 2 * automaton.states.size());
    n_states += automaton.states.size();
    for (const auto& state : automaton.states) n_edges += state.bytes.size() + state.calls.size();
    if (n_states > rules.limits().max_states)
      fail(ErrorKind::usage, "the grammar needs more than {} states", rules.limits().max_states);
    if (n_edges > rules.limits().max_edges)
      fail(ErrorKind::usage, "the grammar needs more than {} edges between its states",
           rules.limits().max_edges);
  }
  return automata;
}

}  // namespace millrace
