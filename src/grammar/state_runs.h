// How long any text of some kinds of characters, whatever their order, can go on from a state of a rule: the
// letters of a string, the digits of a number. Branches of the vocabulary that are made of these alone need
// not be walked through.
#pragma once

#include <cstdint>
#include <vector>

#include "grammar/grammar_machine.h"

namespace millrace {

struct SignRun {
  uint64_t signs = 0;   // the kinds of characters (signs.h)
  uint8_t n_chars = 0;  // at most so many; 255: without end
  // Longer texts of them match nothing of the rule, and no text of them ends it (or no token is longer).
  bool is_whole = false;
  // The kinds of others that may follow any text of them inside of the rule; more may be named.
  uint64_t exits = ~uint64_t{0};
};

// Finds runs when they are asked for first; used by one thread at a time. `machine` must outlive it.
class StateRuns {
 public:
  explicit StateRuns(const GrammarMachine& machine) : machine_(machine), runs_(machine.states().size()) {}

  const SignRun& of(uint32_t state) { return runs_[state].is_known ? runs_[state].run : find(state); }

 private:
  static constexpr uint32_t kNowhere = 0xffffffff;
  struct KnownRun {
    SignRun run;
    bool is_known = false;
  };
  // One character on: the kinds that all lead to one state, kNowhere where there is none.
  struct Link {
    uint64_t signs = 0;
    uint32_t to = kNowhere;
  };

  // How a character may be read: by the state's own edges, or by the rule that it calls, which ends with it.
  struct Way {
    uint32_t from;
    uint32_t behind;  // the call; kNowhere: the edges are the state's own
  };

  const SignRun& find(uint32_t state);
  SignRun joined(uint32_t state, const Link& link, const SignRun& after) const;
  Link link_from(uint32_t state) const;
  // None where a rule that is called calls others at once.
  std::vector<Way> ways_from(uint32_t state) const;
  bool arrives(const Way& way, uint32_t at, uint32_t to) const;
  uint32_t target_of_some(const std::vector<Way>& ways) const;
  enum class Share { none, some, all };
  Share beyond_ascii(const Way& way, uint32_t to) const;
  bool leads_all(uint32_t from, const Way& way, uint32_t to, uint8_t first, uint8_t last, int n_more) const;
  bool is_accepting(uint32_t state) const { return machine_.states()[state].is_accepting; }
  // Of the characters that may stand first from the state on; all where that is not seen at once.
  uint64_t first_signs(uint32_t state) const;

  const GrammarMachine& machine_;
  std::vector<KnownRun> runs_;
};

}  // namespace millrace
