// Where a text may stand in a grammar. A configuration is a set of items, each a state and the frame to
// return to when the rule of the state ends:
//
//   frame 0    the bottom: behind it the text is complete
//   frame 1    unknown: what comes behind it is not asked (masks of single states are made so)
//   frame n    a set of (state, frame) to go on from
//
// Frames and configurations are numbered by what they hold, so equal ones are found again at any place of a
// text, and each step by a byte is computed once. (Generalised LL parsing, Scott and Johnstone 2010, with
// stacks shared by content, not by position.)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "grammar/grammar_machine.h"
#include "grammar/state_runs.h"

namespace millrace {

// Numbers lists by their content.
class InternedLists {
 public:
  InternedLists() : table_(64, 0) {}
  // The number of the list, a new one where it has none yet: 0, 1, 2...
  uint32_t number_of(std::span<const uint64_t> list);
  std::span<const uint64_t> operator[](uint32_t number) const {
    return std::span(elements_).subspan(begins_[number], begins_[number + 1] - begins_[number]);
  }
  uint32_t size() const { return static_cast<uint32_t>(begins_.size() - 1); }
  size_t n_bytes() const { return elements_.size() * sizeof(uint64_t) + begins_.size() * 12; }

 private:
  void grow();

  std::vector<uint64_t> elements_;
  std::vector<uint32_t> begins_{0};
  std::vector<uint32_t> hashes_;
  std::vector<uint32_t> table_;  // number + 1; open addressing
};

// Grows as texts are matched; used by one thread at a time. `machine` must outlive it.
class Configurations {
 public:
  using Number = uint32_t;
  static constexpr Number kDead = 0;  // nothing can come of the text any more
  static constexpr uint32_t kBottom = 0, kUnknown = 1;

  explicit Configurations(const GrammarMachine& machine);

  // The start of the grammar; the same from one state on, with unknown what comes behind its rule.
  Number start();
  Number at_state(uint32_t state);
  // Where what is in the frame goes on, as far as a token reaches: as if a rule that returns to it had just
  // ended, but with twins for states, so that the places of a long repetition share it.
  Number behind_frame(uint32_t frame);

  Number step(Number from, uint8_t byte) { return step_class(from, machine_.class_of(byte)); }
  Number step_class(Number from, uint32_t byte_class) {
    const Number known = steps_[size_t{from} * n_classes_ + byte_class];
    return known != kNotKnown ? known : compute_step(from, byte_class);
  }

  // How any text of some characters can go on from here; more may.
  const SignRun& run_from(Number number) {
    return runs_[number].is_known ? runs_[number].run : find_run(number);
  }
  // Of the state alone, whatever comes behind its rule.
  const SignRun& run_of_state(uint32_t state) { return state_runs_.of(state); }

  // The text may end here.
  bool is_complete(Number number) const { return infos_[number].is_complete; }
  // An unknown frame was reached.
  bool leaves_rule(Number number) const { return infos_[number].leaves_rule; }
  // The one byte that may come next; -1 where there are several, or where the text may end here.
  int only_byte(Number number) const;
  // Nothing may come next but the end.
  bool is_final(Number number) const;
  // From here on Error(usage) is thrown where more than so many edges are looked at: a grammar that is so
  // ambiguous would hold up everybody.
  void limit_work(size_t n_edges) { work_left_ = n_edges; }
  // Items from which all others follow: (state, frame) of each.
  struct Item {
    uint32_t state, frame;
  };
  size_t n_items(Number number) const { return kernels_[number].size(); }
  Item item(Number number, size_t i) const { return unpacked(kernels_[number][i]); }

  // The same configuration of another object, brought over.
  Number copy_from(const Configurations& other, Number number);

  size_t n_bytes() const {  // about
    return kernels_.n_bytes() + frames_.n_bytes() + steps_.size() * 4 + reached_.size() * 8;
  }

 private:
  static constexpr Number kNotKnown = 0xffffffff;
  static constexpr uint32_t kEnd = 0xffffffff;  // the state of an item that left its frame, 0 or 1
  static uint64_t packed(uint32_t state, uint32_t frame) { return uint64_t{state} << 32 | frame; }
  static Item unpacked(uint64_t item) {
    return {static_cast<uint32_t>(item >> 32), static_cast<uint32_t>(item)};
  }
  struct Info {
    bool is_complete = false, leaves_rule = false;
    uint32_t reached_begin = 0, reached_end = 0;
  };

  struct KnownRun {
    SignRun run;
    bool is_known = false;
  };
  const SignRun& find_run(Number number);
  void work(size_t n_edges);
  Number compute_step(Number from, uint32_t byte_class);
  // The configuration that holds the items and what they return to. Empties `kernel`.
  Number number_of(std::vector<uint64_t>& kernel);
  void add_returns(std::vector<uint64_t>& kernel);
  // Adds the starts of the rules that the items call, and of those that these call.
  void predict(std::vector<uint64_t>& items);
  uint32_t copy_frame(const Configurations& other, uint32_t frame, std::vector<uint32_t>& known);

  const GrammarMachine& machine_;
  uint32_t n_classes_;
  InternedLists kernels_, frames_;
  std::vector<Info> infos_;
  std::vector<uint64_t> reached_;  // the items of each configuration with those that are predicted
  std::vector<Number> steps_;      // [configuration, byte class]
  std::vector<Number> behind_;     // of each frame
  std::vector<KnownRun> runs_;
  StateRuns state_runs_;
  size_t work_left_ = static_cast<size_t>(-1);
};

}  // namespace millrace
