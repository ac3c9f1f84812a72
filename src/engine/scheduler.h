// Which rows the next step computes. Integers only: it knows tokens, pages and budgets, and no model.
//
//   waiting --admit--> running --finish--> gone
//      ^                  |
//      +----preempt-------+      pages ran out: the youngest gives its pages back and is computed again later
//
// plan() decides and takes pages; commit() is told what was computed. A sequence's tokens never depend on its
// neighbours: they decide only when its rows are computed.
//
// Where layers are recurrent a sequence also owns a slot (kv/state_cache.h), which its rows go on from and
// are left in. At the end of a prompt's full pages, and in regular distances, rows stop and the prefix cache
// shares the slot: from then on it is a snapshot, and the next rows of the sequence go to a fresh one.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "kv/page_pool.h"
#include "kv/radix_tree.h"

namespace millrace {

// The token history of one request.
struct Sequence {
  uint64_t id = 0;
  std::vector<int32_t> tokens;       // the prompt, then what was generated
  std::vector<int32_t> token_types;  // of the tokens; empty: all 0
  int64_t n_prompt = 0;
  int64_t n_computed = 0;    // positions whose keys and values are in the pages
  int64_t n_cached = 0;      // of the prompt, found in the prefix cache when it was admitted first
  std::vector<Page> pages;   // pages[i] holds positions [i * page_size, (i + 1) * page_size)
  int64_t n_remembered = 0;  // of its pages, from the first one: those that the prefix cache holds too
  Slot slot = -1;       // holds the state after n_computed positions; -1: none yet, or nothing is recurrent
  Slot next_slot = -1;  // receives the state of planned rows; may be slot itself
  int32_t rope_table = 0;  // also keeps its prefixes apart from those of other tables
  bool was_admitted = false;
};

// Rows of one sequence: its positions [begin, end). Logits are wanted of the last row when it is the newest
// token.
struct PlannedRows {
  Sequence* sequence;
  int64_t begin, end;
  Slot state_from = -1, state_to = -1;  // as in Batch

  bool wants_logits() const { return end == static_cast<int64_t>(sequence->tokens.size()); }
};

class Scheduler {
 public:
  struct Limits {
    int64_t n_pages;
    int64_t page_size;
    int64_t max_rows;       // a step
    int64_t max_sequences;  // running at once
    bool has_prefix_cache;
    int64_t n_slots =
        0;  // for states: one for each sequence, and what snapshots may take; 0: nothing is recurrent
    int64_t snapshot_distance = 0;  // positions between snapshots; whole pages
    bool keeps_sequences_whole =
        false;  // all rows of a sequence go into one step; none has more than max_rows
  };

  explicit Scheduler(const Limits& limits);

  // `sequence` (owned by the caller until finish() or cancel of it) waits; it must fit into all pages alone.
  void add(Sequence& sequence);
  // The rows of the next step: sequences that generate first, then prompts in the order of arrival, as far as
  // the row budget and the pages go. Empty only when nothing waits or runs.
  std::vector<PlannedRows> plan();
  // The rows were computed: n_computed grows, full pages become known to the prefix cache.
  void commit(const std::vector<PlannedRows>& rows);
  // The sequence is done or cancelled, waiting or running: its pages are free or left to the prefix cache.
  void remove(Sequence& sequence);

  int64_t n_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t n_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t n_preemptions() const { return n_preemptions_; }
  // Pages that sequences hold, whether the prefix cache holds them too or not.
  int64_t n_pages_used() const { return limits_.n_pages - n_available(); }
  // Aborts where pages are lost or shared wrongly. For tests.
  void check_integrity() const;

 private:
  int64_t n_left(const Sequence& sequence) const {
    return static_cast<int64_t>(sequence.tokens.size()) - sequence.n_computed;
  }
  // The next one in line runs, if pages for all its tokens are left beside what the running ones still need
  // for theirs. So nobody is admitted only to be preempted before it answers.
  bool admit_next();
  // Pages that the sequence lacks for all its tokens and the next one.
  int64_t n_lacking(const Sequence& sequence) const;
  // Pages that are free or held by the prefix cache alone.
  int64_t n_available() const;
  // Takes pages for positions up to `end`, evicting cached ones and preempting younger sequences. Returns how
  // far the pages reach, at most `end`; the youngest itself gets fewer than asked, or is preempted when it
  // gets none.
  int64_t reserve(Sequence& sequence, int64_t end);
  bool take_page(Sequence& sequence);
  // Takes a slot for the state of the next rows, evicting snapshots; false when others hold all of them.
  bool take_slot(Sequence& sequence);
  // Where the rows of a sequence stop, because a snapshot is wanted there.
  int64_t next_stop(const Sequence& sequence) const;
  int64_t prompt_stop(const Sequence& sequence) const;
  void preempt(Sequence& sequence);
  // Gives back pages and slots: nothing of the sequence is computed any more.
  void release(Sequence& sequence);
  void remember(Sequence& sequence);
  void remember_state(const Sequence& sequence);

  bool is_recurrent() const { return limits_.n_slots > 0; }
  bool has_snapshots() const { return is_recurrent() && limits_.has_prefix_cache; }

  Limits limits_;
  PagePool pool_;
  SlotPool slots_;
  RadixTree tree_;
  std::deque<Sequence*> waiting_;   // in the order of arrival; preempted ones in front
  std::vector<Sequence*> running_;  // oldest first
  int64_t n_preemptions_ = 0;
};

}  // namespace millrace
