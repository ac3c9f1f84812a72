#include "grammar/automaton.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <tuple>
#include <unordered_map>

#include "base/error.h"

namespace millrace {
namespace {

using States = std::vector<uint32_t>;  // ascending

struct StatesHash {
  size_t operator()(const States& states) const {
    uint64_t hash = states.size();
    for (const uint32_t state : states) hash = (hash ^ state) * 0x9e3779b97f4a7c15u + (hash >> 29);
    return hash;
  }
};

void sort_unique(States& states) {
  std::ranges::sort(states);
  states.erase(std::unique(states.begin(), states.end()), states.end());
}

// What empty edges lead to, with where they come from. Marks are kept between calls: clearing them all would
// be quadratic.
class Closure {
 public:
  explicit Closure(const Automaton& automaton)
      : automaton_(automaton), seen_in_(automaton.states.size(), 0) {}

  States of(States states) {
    ++round_;
    for (const uint32_t state : states) seen_in_[state] = round_;
    for (size_t i = 0; i < states.size(); ++i) {
      for (const uint32_t next : automaton_.states[states[i]].empties) {
        if (seen_in_[next] == round_) continue;
        seen_in_[next] = round_;
        states.push_back(next);
      }
    }
    // What only leads on by empty edges is of no further interest.
    std::erase_if(states, [&](uint32_t s) {
      const Automaton::State& state = automaton_.states[s];
      return state.bytes.empty() && state.calls.empty() && !state.is_accepting;
    });
    sort_unique(states);
    return states;
  }

 private:
  const Automaton& automaton_;
  std::vector<uint32_t> seen_in_;
  uint32_t round_ = 0;
};

// Byte edges of several states, cut where one of them begins or ends: calls take(first, last, targets).
template <class Take>
void split_edges(std::vector<Automaton::ByteEdge>& edges, Take&& take) {
  if (edges.size() == 1) return take(edges[0].first, edges[0].last, States{edges[0].to});
  std::array<bool, 257> is_cut{};
  for (const Automaton::ByteEdge& edge : edges) is_cut[edge.first] = is_cut[size_t{edge.last} + 1] = true;
  std::ranges::sort(edges, {}, &Automaton::ByteEdge::first);
  for (size_t first = 0; first < 256;) {
    size_t last = first;
    while (last < 255 && !is_cut[last + 1]) ++last;
    States targets;
    for (const Automaton::ByteEdge& edge : edges) {
      if (edge.first > first) break;
      if (edge.last >= last) targets.push_back(edge.to);
    }
    if (!targets.empty()) take(static_cast<uint8_t>(first), static_cast<uint8_t>(last), std::move(targets));
    first = last + 1;
  }
}

class Determinizer {
 public:
  Determinizer(const Automaton& from, size_t max_states)
      : from_(from), max_states_(max_states), closure_(from) {}

  bool run() {
    number_of(closure_.of({from_.start}));
    for (uint32_t i = 0; i < sets_.size(); ++i) {
      if (sets_.size() > max_states_) return false;
      expand(i);
    }
    return true;
  }

  Automaton take() {
    std::unordered_map<States, uint32_t, StatesHash> first_of;
    for (uint32_t i = 0; i < sets_.size(); ++i) {
      States twins;
      for (const uint32_t state : *sets_[i]) twins.push_back(from_.states[state].twin);
      sort_unique(twins);
      out_.states[i].twin = first_of.try_emplace(std::move(twins), i).first->second;
    }
    return std::move(out_);
  }

 private:
  uint32_t number_of(States states) {
    const auto [at, is_new] = numbers_.try_emplace(std::move(states), static_cast<uint32_t>(sets_.size()));
    if (is_new) {
      sets_.push_back(&at->first);
      out_.add_state();
    }
    return at->second;
  }

  void expand(uint32_t i) {
    std::vector<Automaton::ByteEdge> edges;
    std::map<uint32_t, States> calls;
    bool is_accepting = false;
    for (const uint32_t s : *sets_[i]) {
      const Automaton::State& state = from_.states[s];
      edges.insert(edges.end(), state.bytes.begin(), state.bytes.end());
      for (const Automaton::CallEdge& call : state.calls) calls[call.rule].push_back(call.to);
      is_accepting |= state.is_accepting;
    }
    out_.states[i].is_accepting = is_accepting;
    split_edges(edges, [&](uint8_t first, uint8_t last, States targets) {
      const uint32_t to = number_of(closure_.of(unique(std::move(targets))));
      std::vector<Automaton::ByteEdge>& out = out_.states[i].bytes;
      if (!out.empty() && out.back().to == to && out.back().last + 1 == first) {
        out.back().last = last;
      } else {
        out.push_back({first, last, to});
      }
    });
    for (auto& [rule, targets] : calls) {
      const uint32_t to = number_of(closure_.of(unique(std::move(targets))));
      out_.states[i].calls.push_back({rule, to});
    }
  }

  static States unique(States states) {
    sort_unique(states);
    return states;
  }

  const Automaton& from_;
  size_t max_states_;
  Closure closure_;
  std::unordered_map<States, uint32_t, StatesHash> numbers_;
  std::vector<const States*> sets_;
  Automaton out_;
};

// Keeps the states, and gives each one the edges of those that empty edges lead to.
Automaton without_empties(const Automaton& from) {
  Automaton out = from;
  Closure closure(from);
  for (uint32_t i = 0; i < from.states.size(); ++i) {
    if (from.states[i].empties.empty()) continue;
    Automaton::State& state = out.states[i];
    state.empties.clear();
    for (const uint32_t s : closure.of({i})) {
      if (s == i) continue;
      const Automaton::State& other = from.states[s];
      state.bytes.insert(state.bytes.end(), other.bytes.begin(), other.bytes.end());
      state.calls.insert(state.calls.end(), other.calls.begin(), other.calls.end());
      state.is_accepting |= other.is_accepting;
    }
    std::ranges::sort(state.bytes, {}, [](const auto& e) { return std::tuple(e.first, e.last, e.to); });
    state.bytes.erase(std::unique(state.bytes.begin(), state.bytes.end()), state.bytes.end());
    std::ranges::sort(state.calls, {}, [](const auto& e) { return std::tuple(e.rule, e.to); });
    state.calls.erase(std::unique(state.calls.begin(), state.calls.end()), state.calls.end());
  }
  return out;
}

}  // namespace

Automaton determinized(const Automaton& automaton, size_t max_states) {
  Determinizer determinizer(automaton, max_states);
  return determinizer.run() ? determinizer.take() : without_empties(automaton);
}

Automaton product(const Automaton& a, const Automaton& b, Joining kind, size_t max_states) {
  constexpr uint32_t kDead = std::numeric_limits<uint32_t>::max();  // of b, where only a goes on
  const auto deterministic = [&](const Automaton& from) {
    Determinizer determinizer(from, max_states);
    if (!determinizer.run())
      fail(ErrorKind::usage, "the parts of an intersection have more than {} states", max_states);
    return determinizer.take();
  };
  const Automaton da = deterministic(a), db = deterministic(b);
  using Pair = std::pair<uint32_t, uint32_t>;
  std::map<Pair, uint32_t> numbers, twins;
  std::vector<Pair> pairs;
  Automaton out;
  const auto number_of = [&](Pair pair) {
    const auto [at, is_new] = numbers.try_emplace(pair, static_cast<uint32_t>(pairs.size()));
    if (!is_new) return at->second;
    if (pairs.size() >= max_states)
      fail(ErrorKind::usage, "an intersection has more than {} states", max_states);
    pairs.push_back(pair);
    const Pair twin(da.states[pair.first].twin, pair.second == kDead ? kDead : db.states[pair.second].twin);
    out.add_state();
    out.states.back().twin = twins.try_emplace(twin, at->second).first->second;
    return at->second;
  };
  number_of({da.start, db.start});
  for (uint32_t i = 0; i < pairs.size(); ++i) {
    const auto [sa, sb] = pairs[i];
    const bool b_accepts = sb != kDead && db.states[sb].is_accepting;
    out.states[i].is_accepting = da.states[sa].is_accepting && b_accepts == (kind == Joining::both);
    static const std::vector<Automaton::ByteEdge> kNone;
    const auto& edges_of_b = sb == kDead ? kNone : db.states[sb].bytes;  // ascending, apart
    for (const Automaton::ByteEdge& edge : da.states[sa].bytes) {
      int next = edge.first;
      const auto go = [&](int last, uint32_t to_b) {
        if (next > last) return;
        const uint32_t to = number_of({edge.to, to_b});
        out.states[i].bytes.push_back({static_cast<uint8_t>(next), static_cast<uint8_t>(last), to});
      };
      for (const Automaton::ByteEdge& other : edges_of_b) {
        if (other.last < edge.first || other.first > edge.last) continue;
        if (kind == Joining::but_not) go(other.first - 1, kDead);
        next = std::max<int>(next, other.first);
        go(std::min(other.last, edge.last), other.to);
        next = other.last + 1;
      }
      if (kind == Joining::but_not) go(edge.last, kDead);
    }
  }
  return out;
}

bool trim(Automaton& automaton, const std::vector<bool>& is_productive) {
  std::vector<States> from(automaton.states.size());
  States alive;
  std::vector<bool> is_alive(automaton.states.size(), false);
  for (uint32_t s = 0; s < automaton.states.size(); ++s) {
    Automaton::State& state = automaton.states[s];
    std::erase_if(state.calls, [&](const Automaton::CallEdge& call) { return !is_productive[call.rule]; });
    for (const Automaton::ByteEdge& edge : state.bytes) from[edge.to].push_back(s);
    for (const Automaton::CallEdge& call : state.calls) from[call.to].push_back(s);
    for (const uint32_t to : state.empties) from[to].push_back(s);
    if (!state.is_accepting) continue;
    is_alive[s] = true;
    alive.push_back(s);
  }
  for (size_t i = 0; i < alive.size(); ++i) {
    for (const uint32_t s : from[alive[i]]) {
      if (is_alive[s]) continue;
      is_alive[s] = true;
      alive.push_back(s);
    }
  }
  for (Automaton::State& state : automaton.states) {
    std::erase_if(state.bytes, [&](const Automaton::ByteEdge& edge) { return !is_alive[edge.to]; });
    std::erase_if(state.calls, [&](const Automaton::CallEdge& call) { return !is_alive[call.to]; });
  }
  return is_alive[automaton.start];
}

bool accepts(const Automaton& automaton, std::string_view text) {
  Closure closure(automaton);
  States states = closure.of({automaton.start});
  for (const char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    States next;
    for (const uint32_t s : states) {
      for (const Automaton::ByteEdge& edge : automaton.states[s].bytes)
        if (edge.first <= byte && byte <= edge.last) next.push_back(edge.to);
    }
    sort_unique(next);
    states = closure.of(std::move(next));
  }
  return std::ranges::any_of(states, [&](uint32_t s) { return automaton.states[s].is_accepting; });
}

}  // namespace millrace
