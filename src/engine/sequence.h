// The token history of one choice of a request, and what it holds. Integers only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kv/page_pool.h"
#include "kv/radix_tree.h"

namespace millrace {

// What becomes of what was computed of a preempted sequence, beyond what the prefix cache keeps: the cheaper
// of the two, or always the same.
enum class Preemption { by_cost, recompute, park };

// What a sequence gets back from the tier before its first rows.
struct Fetch {
  int64_t n_shared = 0;    // pages known by their tokens: in the tree, or in the tier
  int64_t n_pages = 0;     // with those that it parked itself
  int64_t n_computed = 0;  // positions that are computed then
  bool is_parked = false;
};

// What a preempted sequence left in the tier for itself: its pages from `n_shared` on, and its state.
struct Parked {
  int64_t n_shared = 0;
  int64_t n_computed = 0;
};

struct Sequence {
  uint64_t id = 0;
  int priority = 0;                  // higher ones go first, and take pages from lower ones
  std::string key;                   // whose it is: keys of one priority share alike
  std::vector<int32_t> tokens;       // the prompt, then what was generated
  std::vector<int32_t> token_types;  // of the tokens; empty: all 0
  int64_t n_prompt = 0;
  bool is_scored = false;  // the logits of every token of the prompt are wanted, until they were computed
  int32_t rope_table = 0;  // also keeps its prefixes apart from those of other tables

  // What follows is the scheduler's.
  uint64_t arrival = 0;
  bool is_running = false;
  bool has_rows = false;     // planned or computed, since it was admitted
  bool was_started = false;  // had some before, too: it may have been preempted since
  uint64_t matched_at = 0;   // the step in which the prefix cache was asked last
  int64_t n_computed = 0;    // positions whose keys and values are in the pages
  int64_t n_cached = 0;      // of the prompt, found in the prefix cache when it was started first
  int64_t n_scored = 0;      // of the prompt of one that is scored: their logits were computed
  int64_t n_charged = 0;     // of its tokens, from the first one: what its key has paid for
  std::vector<Page> pages;   // pages[i] holds positions [i * page_size, (i + 1) * page_size)
  int64_t n_passed = 0;      // of its pages, from the first one: those whose panes it needs no longer
  int64_t n_remembered = 0;  // of its pages, from the first one: those that the prefix cache holds too
  RadixTree::Place place = nullptr;  // after those
  Slot slot = -1;       // holds the state after n_computed positions; -1: none yet, or nothing is recurrent
  Slot next_slot = -1;  // receives the state of planned rows; may be slot itself

  std::optional<Fetch> fetch;  // under way
  std::optional<Parked> parked;

  int64_t n_left() const { return static_cast<int64_t>(tokens.size()) - n_computed; }
};

}  // namespace millrace
