#include "grammar/grammar.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

#include "base/error.h"
#include "grammar/signs.h"

namespace millrace {
namespace {

constexpr size_t kMaxConfigurationBytes = size_t{64} << 20;

// Of this thread on a processor: however busy the machine is, the same is prepared.
double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

void set_bit(std::span<uint64_t> bits, int32_t token) {
  bits[static_cast<size_t>(token) / 64] |= uint64_t{1} << (static_cast<size_t>(token) % 64);
}
void clear_bit(std::span<uint64_t> bits, int32_t token) {
  bits[static_cast<size_t>(token) / 64] &= ~(uint64_t{1} << (static_cast<size_t>(token) % 64));
}

// Where not even all small letters go on, few tokens do, and they are found quicker by walking.
bool is_looked_up(const SignRun& run) {
  constexpr uint64_t kLetters = kSigns['a'] | kSigns['z'];
  return run.is_whole && (run.signs & kLetters) == kLetters;
}

size_t n_words(const TokenTrie& tokens) { return (static_cast<size_t>(tokens.n_vocab()) + 63) / 64; }

// A bit for each token of the runs of nodes, set or, where that is less work, what is between them cleared.
TokenMask bits_of(const TokenTrie& trie, std::span<const std::pair<uint32_t, uint32_t>> runs,
                  size_t n_allowed) {
  TokenMask bits(n_words(trie), 0);
  const std::span<const int32_t> all = trie.tokens(0, trie.nodes().size());
  if (n_allowed < all.size() / 2) {
    for (const auto& [begin, end] : runs)
      for (const int32_t token : trie.tokens(begin, end)) set_bit(bits, token);
    return bits;
  }
  bits = trie.has_bytes();
  size_t next = 0;
  for (const auto& [begin, end] : runs) {
    for (const int32_t token : trie.tokens(next, begin)) clear_bit(bits, token);
    next = end;
  }
  for (const int32_t token : trie.tokens(next, trie.nodes().size())) clear_bit(bits, token);
  return bits;
}

// Calls visit(node, configuration) for the nodes [begin, end) of the trie, which have all their parents among
// them or are children of where `from` stands, as far as the bytes lead from `from`; visit_all(begin, end)
// instead where they lead on through all that a node begins.
template <class Visit, class VisitAll>
void walk(const TokenTrie& trie, Configurations& configurations, size_t begin, size_t end,
          Configurations::Number from, Visit&& visit, VisitAll&& visit_all) {
  constexpr uint32_t kFewNodes = 4;  // quicker walked through
  if (begin == end) return;
  std::array<Configurations::Number, kMaxTokenBytes + 4> at;
  const std::span<const TokenTrie::Node> nodes = trie.nodes();
  at[nodes[begin].depth - 1u] = from;
  for (size_t i = begin; i < end;) {
    const TokenTrie::Node& node = nodes[i];
    if (node.after > i + kFewNodes) {
      const SignRun& run = configurations.run_from(at[node.depth - 1u]);
      if ((node.signs & ~run.signs) == 0 && node.n_chars <= run.n_chars) {
        visit_all(i, node.after);
        i = node.after;
        continue;
      }
    }
    const Configurations::Number to = configurations.step(at[node.depth - 1u], node.byte);
    if (to == Configurations::kDead) {
      i = node.after;
      continue;
    }
    at[node.depth] = to;
    visit(i, to);
    ++i;
  }
}

}  // namespace

Grammar::Grammar(const Rules& rules, std::shared_ptr<const TokenTrie> tokens)
    : Grammar(rules, std::move(tokens), Options{}) {}

Grammar::Grammar(const Rules& rules, std::shared_ptr<const TokenTrie> tokens, const Options& options)
    : machine_(rules),
      tokens_(std::move(tokens)),
      masks_(machine_.states().size()),
      configurations_(std::make_shared<Configurations>(machine_)) {
  join_exits();
  prepare(options.prepare_s);
}

Grammar::~Grammar() = default;

// So that few sets of tokens are needed, each of which takes milliseconds to find.
void Grammar::join_exits() {
  for (uint32_t state = 0; state < machine_.states().size(); ++state) {
    if (machine_.states()[state].twin != state) continue;
    const SignRun& run = configurations_->run_of_state(state);
    if (is_looked_up(run)) exits_[run.signs] |= run.exits;
  }
}

void Grammar::prepare(double seconds) {
  const double end = thread_seconds() + seconds;
  // Only states that something leads to are ever asked for.
  std::vector<uint32_t> asked;
  std::vector<bool> is_asked(machine_.states().size(), false);
  const auto ask = [&](uint32_t state) {
    const uint32_t twin = machine_.states()[state].twin;
    if (is_asked[twin] || machine_.states()[twin].is_end()) return;
    is_asked[twin] = true;
    asked.push_back(twin);
  };
  ask(machine_.rule(machine_.root()).start);
  for (const GrammarMachine::State& state : machine_.states()) {
    for (const auto& edge : machine_.bytes_of(state)) ask(edge.to);
    for (const auto& call : machine_.calls_of(state)) ask(call.to);
  }
  const auto each_asked = [&](auto&& f) {
    for (const uint32_t state : asked) {
      if (thread_seconds() >= end) return;
      f(state);
    }
  };
  // What takes longest first.
  each_asked([&](uint32_t state) {
    if (const SignRun& run = configurations_->run_of_state(state); is_looked_up(run))
      tokens_->of_signs(run.signs, exits_.at(run.signs));
  });
  each_asked([&](uint32_t state) {
    configurations_->limit_work(kMaxWork);
    mask_of(state, *configurations_);
  });
}

const Grammar::StateMask& Grammar::mask_of(uint32_t state, Configurations& configurations) const {
  const uint32_t twin = machine_.states()[state].twin;
  if (masks_[twin] == nullptr)
    masks_[twin] = std::make_unique<const StateMask>(compute_mask(twin, configurations));
  return *masks_[twin];
}

Grammar::StateMask Grammar::compute_mask(uint32_t state, Configurations& configurations) const {
  const Configurations::Number from = configurations.at_state(state);
  const SignRun run = configurations.run_of_state(state);
  return is_looked_up(run) ? run_mask(from, run, configurations) : walked_mask(from, configurations);
}

Grammar::Branch Grammar::branch_of(std::span<const TokensOfSigns::Other> others, uint32_t first,
                                   Configurations::Number from, Configurations& configurations) const {
  Branch branch;
  std::array<Configurations::Number, kMaxTokenBytes + 1> at;
  at[0] = from;
  std::vector<uint32_t> reached;  // of `others`
  std::vector<size_t> leaving;    // of `reached`
  for (uint32_t i = first; i < others[first].after;) {
    const Configurations::Number to = configurations.step(at[others[i].depth - 1u], others[i].byte);
    if (to == Configurations::kDead) {
      i = others[i].after;
      continue;
    }
    at[others[i].depth] = to;
    if (configurations.leaves_rule(to) && others[i].after > i + 1) leaving.push_back(reached.size());
    reached.push_back(i);
    const auto tokens = tokens_->tokens(others[i].node);
    branch.tokens.insert(branch.tokens.end(), tokens.begin(), tokens.end());
    ++i;
  }
  for (const size_t r : leaving) {
    // Where all that goes on is allowed inside of the rule, it need not be tried behind it.
    const uint32_t i = reached[r], last = others[i].after - 1;
    if (r + (last - i) < reached.size() && reached[r + (last - i)] == last) continue;
    branch.leaving.push_back(others[i].node);
  }
  return branch;
}

Grammar::StateMask Grammar::run_mask(Configurations::Number from, const SignRun& run,
                                     Configurations& configurations) const {
  constexpr uint32_t kLongWalk = 100;
  constexpr size_t kMaxBranches = 200;  // some 10 KB each
  StateMask mask{.plain = tokens_->of_signs(run.signs, exits_.at(run.signs)),
                 .n_chars = std::min<size_t>(run.n_chars, TokensOfSigns::kMaxChars)};
  const std::span<const TokensOfSigns::Other> others = mask.plain->others;
  // Behind so many characters of the run; any of them, as small letters are (is_looked_up).
  std::array<Configurations::Number, kMaxTokenBytes + 1> behind;
  behind[0] = from;
  for (size_t n = 1; n < behind.size(); ++n)
    behind[n] = n <= run.n_chars ? configurations.step(behind[n - 1], 'a') : Configurations::kDead;
  const auto add = [&](const Branch& branch) {
    mask.few.insert(mask.few.end(), branch.tokens.begin(), branch.tokens.end());
    mask.leaving.insert(mask.leaving.end(), branch.leaving.begin(), branch.leaving.end());
  };
  for (uint32_t i = 0; i < others.size(); i = others[i].after) {
    const Configurations::Number at = behind[others[i].n_chars];
    const Configurations::Number to = configurations.step(at, others[i].byte);
    if (to == Configurations::kDead) continue;
    if (others[i].after - i < kLongWalk) {
      add(branch_of(others, i, at, configurations));
      continue;
    }
    if (branches_.size() == kMaxBranches) branches_.clear();
    const auto [known, is_new] = branches_.try_emplace({run.signs, others[i].node, to});
    if (is_new) known->second = branch_of(others, i, at, configurations);
    add(known->second);
  }
  if (mask.few.size() * sizeof(int32_t) > n_words(*tokens_) * sizeof(uint64_t) / 2) {
    mask.many = (*mask.plain->up_to)[mask.n_chars];
    for (const int32_t token : mask.few) set_bit(mask.many, token);
    mask.few = {};
    mask.plain = nullptr;
  }
  return mask;
}

Grammar::StateMask Grammar::walked_mask(Configurations::Number from, Configurations& configurations) const {
  StateMask mask;
  const TokenTrie& trie = *tokens_;
  // Runs of nodes whose tokens are allowed, in their order.
  std::vector<std::pair<uint32_t, uint32_t>> runs;
  const auto allow = [&](size_t begin, size_t end) {
    if (runs.empty() || runs.back().second != begin) runs.emplace_back(begin, begin);
    runs.back().second = static_cast<uint32_t>(end);
  };
  walk(
      trie, configurations, 0, trie.nodes().size(), from,
      [&](size_t node, Configurations::Number at) {
        allow(node, node + 1);
        if (configurations.leaves_rule(at) && trie.nodes()[node].after > node + 1)
          mask.leaving.push_back(static_cast<uint32_t>(node));
      },
      allow);
  // Where all that goes on is allowed inside of the rule, it need not be tried behind it.
  std::erase_if(mask.leaving, [&](uint32_t node) {
    const auto run = std::ranges::upper_bound(runs, node, {}, [](const auto& r) { return r.first; }) - 1;
    return run->second >= trie.nodes()[node].after;
  });
  mask.leaving.shrink_to_fit();
  size_t n_allowed = 0;
  for (const auto& [begin, end] : runs) n_allowed += trie.tokens(begin, end).size();
  if (n_allowed * sizeof(int32_t) <= n_words(trie) * sizeof(uint64_t) / 2) {
    mask.few.reserve(n_allowed);
    for (const auto& [begin, end] : runs) {
      const auto tokens = trie.tokens(begin, end);
      mask.few.insert(mask.few.end(), tokens.begin(), tokens.end());
    }
  } else {
    mask.many = bits_of(trie, runs, n_allowed);
  }
  return mask;
}

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar) : grammar_(std::move(grammar)) {
  const std::lock_guard lock(grammar_->mutex_);
  configurations_ = grammar_->configurations_;
  configurations_->limit_work(Grammar::kMaxWork);
  at_ = configurations_->start();
}

Configurations& GrammarMatcher::renewed() {
  std::shared_ptr<Configurations>& newest = grammar_->configurations_;
  if (newest->n_bytes() > kMaxConfigurationBytes) {
    newest = std::make_shared<Configurations>(grammar_->machine_);
    grammar_->branches_.clear();  // they hold numbers of the old one
  }
  newest->limit_work(Grammar::kMaxWork);
  if (newest != configurations_) {
    at_ = newest->copy_from(*configurations_, at_);
    configurations_ = newest;
  }
  return *newest;
}

void GrammarMatcher::fill(TokenMask& mask) {
  const TokenTrie& trie = *grammar_->tokens_;
  mask.assign(n_words(trie), 0);
  const std::lock_guard lock(grammar_->mutex_);
  Configurations& configurations = renewed();
  const auto allow = [&](size_t node, Configurations::Number) {
    for (const int32_t token : trie.tokens(node)) set_bit(mask, token);
  };
  const auto allow_all = [&](size_t begin, size_t end) {
    for (const int32_t token : trie.tokens(begin, end)) set_bit(mask, token);
  };
  for (size_t i = 0; i < configurations.n_items(at_); ++i) {
    const auto [state, frame] = configurations.item(at_, i);
    if (state >= grammar_->machine_.states().size()) continue;  // the end
    const Grammar::StateMask& own = grammar_->mask_of(state, configurations);
    for (const int32_t token : own.few) set_bit(mask, token);
    const TokenMask& many = own.plain != nullptr ? (*own.plain->up_to)[own.n_chars] : own.many;
    for (size_t w = 0; w < many.size(); ++w) mask[w] |= many[w];
    if (own.leaving.empty() || frame == Configurations::kBottom) continue;
    const Configurations::Number behind = configurations.behind_frame(frame);
    for (const uint32_t node : own.leaving)
      walk(trie, configurations, node + 1, trie.nodes()[node].after, behind, allow, allow_all);
  }
}

bool GrammarMatcher::accept_bytes(std::string_view bytes) {
  const std::lock_guard lock(grammar_->mutex_);
  Configurations& configurations = renewed();
  Configurations::Number to = at_;
  for (const char c : bytes) to = configurations.step(to, static_cast<uint8_t>(c));
  if (to == Configurations::kDead) return false;
  at_ = to;
  return true;
}

bool GrammarMatcher::accept(int32_t token) {
  if (token < 0 || token >= grammar_->tokens_->n_vocab()) return false;
  const std::string_view bytes = grammar_->tokens_->bytes_of(token);
  return !bytes.empty() && accept_bytes(bytes);
}

bool GrammarMatcher::is_complete() const {
  const std::lock_guard lock(grammar_->mutex_);
  return configurations_->is_complete(at_);
}

bool GrammarMatcher::is_finished() const {
  const std::lock_guard lock(grammar_->mutex_);
  return configurations_->is_final(at_);
}

std::string GrammarMatcher::forced(size_t max_bytes) const {
  const std::lock_guard lock(grammar_->mutex_);
  configurations_->limit_work(Grammar::kMaxWork);
  std::string out;
  Configurations::Number at = at_;
  while (out.size() < max_bytes) {
    const int byte = configurations_->only_byte(at);
    if (byte < 0) break;
    out += static_cast<char>(byte);
    at = configurations_->step(at, static_cast<uint8_t>(byte));
  }
  return out;
}

}  // namespace millrace
