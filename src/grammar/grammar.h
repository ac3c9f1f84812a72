// A compiled grammar, and where one answer stands in it: which tokens may come next.
//
// Masks are exact: a token may be drawn if and only if some text that the grammar allows begins with what is
// there and the bytes of the token. What one state of the grammar allows by itself is computed once (a
// StateMask); what remains for a step is to join those of the states where the text stands, and to try the
// few tokens that reach beyond the end of a rule. (Dong et al. 2024, "XGrammar", with configurations that
// are shared by content.)
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "grammar/configurations.h"
#include "grammar/grammar_machine.h"
#include "grammar/rules.h"
#include "grammar/token_trie.h"

namespace millrace {

// May be shared by any number of matchers on any threads.
class Grammar {
 public:
  struct Options {
    // Time on a processor to compute masks beforehand; the others are computed when they are needed first.
    double prepare_s = 0.03;
  };

  // Throws Error(usage) where the rules exceed their limits, or where no text matches them.
  Grammar(const Rules& rules, std::shared_ptr<const TokenTrie> tokens, const Options& options);
  Grammar(const Rules& rules, std::shared_ptr<const TokenTrie> tokens);
  ~Grammar();
  Grammar(const Grammar&) = delete;
  Grammar& operator=(const Grammar&) = delete;

  const TokenTrie& tokens() const { return *tokens_; }
  size_t n_states() const { return machine_.states().size(); }

 private:
  friend class GrammarMatcher;

  // What may come where only one state is known.
  struct StateMask {
    std::vector<int32_t> few;                      // the tokens that end inside of the rule or with it...
    TokenMask many;                                // ... as a mask where they are many...
    std::shared_ptr<const TokensOfSigns> plain{};  // ... and these, up to so many characters
    size_t n_chars = 0;
    std::vector<uint32_t> leaving;  // nodes of the trie where the rule ends and tokens go on
  };
  // What of the tokens below a node may come from a configuration, where that is a long walk.
  struct Branch {
    std::vector<int32_t> tokens;
    std::vector<uint32_t> leaving;
  };
  static constexpr size_t kMaxWork = 4'000'000;  // edges looked at for one mask: some 20 ms

  void join_exits();
  void prepare(double seconds);
  const StateMask& mask_of(uint32_t state, Configurations& configurations) const;
  StateMask compute_mask(uint32_t state, Configurations& configurations) const;
  StateMask walked_mask(Configurations::Number from, Configurations& configurations) const;
  // The same for a place from which texts of some characters go on until they are too long.
  StateMask run_mask(Configurations::Number from, const SignRun& run, Configurations& configurations) const;
  // Of others[i] and all below, from the configuration before its byte on.
  Branch branch_of(std::span<const TokensOfSigns::Other> others, uint32_t i, Configurations::Number from,
                   Configurations& configurations) const;

  GrammarMachine machine_;
  std::shared_ptr<const TokenTrie> tokens_;
  std::map<uint64_t, uint64_t> exits_;                           // of all runs of the same kinds together
  mutable std::mutex mutex_;                                     // of all that follows
  mutable std::vector<std::unique_ptr<const StateMask>> masks_;  // of each state that is its own twin
  // By the kinds of a run, the node, and the configuration behind its byte.
  using BranchKey = std::tuple<uint64_t, uint32_t, Configurations::Number>;
  mutable std::map<BranchKey, Branch> branches_;
  // Replaced when it has grown large; those who stand in the old one bring their place over.
  mutable std::shared_ptr<Configurations> configurations_;
};

// Where one text stands. Used by one thread.
class GrammarMatcher {
 public:
  explicit GrammarMatcher(std::shared_ptr<const Grammar> grammar);

  // The tokens that may come next, n_vocab bits; end tokens are not among them: see is_complete().
  // All three that follow throw Error(usage) where the grammar is too ambiguous to follow (see
  // Configurations).
  void fill(TokenMask& mask);
  // The token was drawn. False where it may not come here: nothing has changed then.
  bool accept(int32_t token);
  bool accept_bytes(std::string_view bytes);

  // The text may end here; nothing but the end may come.
  bool is_complete() const;
  bool is_finished() const;
  // The bytes that must come next whatever is drawn, at most `max_bytes`.
  std::string forced(size_t max_bytes) const;

  const Grammar& grammar() const { return *grammar_; }

 private:
  Configurations& renewed();  // call with the mutex held

  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<Configurations> configurations_;
  Configurations::Number at_;
};

}  // namespace millrace
