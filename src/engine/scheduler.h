// Which rows the next step computes. Integers only: it knows tokens, pages and budgets, and no model.
//
//   waiting --admit--> running --remove--> gone
//      ^                  |
//      +----preempt-------+      pages ran out, or somebody of a higher priority came: of the lowest priority
//                                the youngest gives its pages back, and goes on from what the cache kept
//
// plan() decides and takes pages; commit() is told what was computed. A sequence's tokens never depend on its
// neighbours: they decide only when its rows are computed.
//
// A step's budget of rows goes to the sequences that generate, one each, then to prompts: half of the rest to
// the oldest one, so that nobody starves; the other half to those of which least is left, so that a short
// prompt passes a long one. Whoever shares a longer beginning with a prompt of this step than is known yet
// waits for it instead of computing the same.
//
// Where there is a tier below the prefix cache (kv/page_tier.h), what it knows of a beginning is fetched
// before the first rows, some pages a step, and a preempted sequence parks there what the prefix cache does
// not keep: both where that costs less than to compute the rows again.
//
// Where layers have a window a sequence also needs panes (kv/page_pool.h) of the pages that its next rows
// see, and leaves them behind as it goes on.
//
// Where layers are recurrent a sequence also owns a slot (kv/state_cache.h), which its rows go on from and
// are left in. At the end of a prompt's full pages, and in regular distances, rows stop and the prefix cache
// shares the slot: from then on it is a snapshot, and the next rows of the sequence go to a fresh one.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/sequence.h"
#include "engine/waiting_queue.h"

namespace millrace {

// What moves the contents of pages, which the scheduler knows by number. It is called while the scheduler
// plans, by its thread, and what it is asked for must be done before the planned rows are computed, in order.
class PageMover {
 public:
  virtual ~PageMover() = default;
  virtual void copy_page(Page from, Page to) = 0;
  virtual void copy_pane(Pane from, Pane to) = 0;
};

// What things cost, as they were measured.
struct TierCosts {
  double row_us = 1000.0;  // to compute a row
  double page_us = 0.0;    // to save or load a page, or a pane
  double state_us = 0.0;   // the same of a state
};

// Rows of one sequence: its positions [begin, end). Logits are wanted of the last row when it is the newest
// token, and of all rows while a prompt is scored.
struct PlannedRows {
  Sequence* sequence;
  int64_t begin, end;
  Slot state_from = -1, state_to = -1;  // as in Batch
  bool is_scored = false;               // logits are wanted of every row

  bool wants_logits() const { return end == static_cast<int64_t>(sequence->tokens.size()); }
  // The positions from here to `end` give logits.
  int64_t logits_begin() const { return is_scored ? begin : wants_logits() ? end - 1 : end; }
};

class Scheduler {
 public:
  struct Limits {
    int64_t n_pages;
    int64_t page_size;
    int64_t max_rows;       // a step
    int64_t max_sequences;  // running at once; also the rows of logits in a step
    bool has_prefix_cache;
    int64_t n_slots =
        0;  // for states: one for each sequence, and what snapshots may take; 0: nothing is recurrent
    int64_t snapshot_distance = 0;  // positions between snapshots; whole pages
    bool keeps_sequences_whole =
        false;  // all rows of a sequence go into one step; none has more than max_rows
    Preemption preemption = Preemption::by_cost;
    int64_t n_kept_pages = 1;  // beginnings that are shorter do not go to the tier
    int64_t window = 0;        // positions that a row sees in layers that do not see all; 0: there are none
    int64_t n_panes = 0;       // for those layers; enough_panes() at least
  };

  // With fewer a sequence alone would not get on.
  static int64_t enough_panes(int64_t window, int64_t page_size) {
    return (window + page_size - 2) / page_size + 2;
  }

  // `mover`, `tier` and `listener` must outlive the scheduler; nullptr where there is none.
  Scheduler(const Limits& limits, PageMover& mover, PageTier* tier = nullptr,
            PrefixListener* listener = nullptr);

  // `sequence` (owned by the caller, who keeps it until remove()) waits; it must fit into all pages alone.
  void add(Sequence& sequence);
  // `child` has the same tokens as `parent`, all of which are computed: it goes on beside it on the same
  // pages, and on a copy of the page that is not full. Where there is no room it waits. Owned as by add().
  void fork(const Sequence& parent, Sequence& child);
  // The rows of the next step. Empty only when nothing waits or runs, or when pages are fetched; or when all
  // rows are of sequences whose newest token is computed. Who needs something of the tier gets no rows where
  // it may not be fetched now.
  std::vector<PlannedRows> plan(bool may_fetch = true);
  // Whether somebody has to be fetched for.
  bool is_fetching() const;
  // The rows were computed, or will be before anything that is planned from now on: n_computed grows, full
  // pages become known to the prefix cache. The tokens of the rows must be known.
  void commit(const std::vector<PlannedRows>& rows);
  // What the row of the newest token gave is lost: it is computed once more, and nothing that was planned
  // after it is committed. Not where layers are recurrent.
  void recompute_newest(Sequence& sequence);
  // The sequence is done or cancelled, waiting or running: its pages are free or left to the prefix cache.
  void remove(Sequence& sequence);

  void set_costs(const TierCosts& costs) { costs_ = costs; }
  // Saves the next page that is worth it; false when there is none.
  bool keep_next() { return tree_.keep_next(); }
  bool has_to_keep() const { return tree_.has_to_keep(); }

  int64_t n_waiting() const { return queue_.size(); }
  int64_t n_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t n_preemptions() const { return n_preemptions_; }
  int64_t n_parked() const { return n_parked_; }    // of those: kept what they had
  int64_t n_fetched() const { return n_fetched_; }  // pages, from the tier
  // Pages that sequences hold, whether the prefix cache holds them too or not.
  int64_t n_pages_used() const { return limits_.n_pages - n_available(); }
  // Tokens of the beginning of such a prompt that are known, in whole pages.
  int64_t n_known(int32_t rope_table, std::span<const int32_t> tokens) const {
    return tree_.n_known(rope_table, tokens);
  }
  // Panes of all pages, as Runner wants them.
  std::span<const Pane> panes() const { return pool_.panes(); }
  // Aborts where pages are lost or shared wrongly. For tests.
  void check_integrity() const;

 private:
  // What plan() fills.
  struct Step {
    std::vector<PlannedRows> rows;
    int64_t budget;
    int64_t logits_budget;  // rows of logits beyond the one that each running sequence may want
    bool may_fetch;
  };

  // What sequences take of the memory.
  struct Room {
    int64_t n_pages = 0, n_panes = 0;

    Room& operator+=(const Room& other) {
      n_pages += other.n_pages;
      n_panes += other.n_panes;
      return *this;
    }
    bool fits_into(const Room& other) const { return n_pages <= other.n_pages && n_panes <= other.n_panes; }
  };

  // The next one in line runs, if pages for all its tokens are left beside what the running ones still need
  // for theirs: so nobody is admitted only to be preempted before it answers. Who has a lower priority makes
  // room.
  bool admit_next();
  bool has_room_for(const Sequence& sequence) const;
  // Whether there may be, were all of lower priorities preempted.
  bool can_make_room_for(const Sequence& sequence) const;
  bool make_room_for(const Sequence& sequence);
  void start(Sequence& sequence);
  // One token is missing, or a few that could only come so. Whole sequences have no answers: to let short
  // ones pass would starve those that fill a step.
  bool is_answering(const Sequence& sequence) const {
    if (limits_.keeps_sequences_whole) return false;
    return sequence.n_left() == 1 ||
           (sequence.n_computed >= sequence.n_prompt && sequence.n_left() <= limits_.page_size);
  }
  void plan_prompts(Step& step, std::vector<Sequence*>& prompts);
  // Plans up to `n_rows` rows of the sequence, as far as pages go.
  void give_rows(Step& step, Sequence& sequence, int64_t n_rows);
  // Whether a prompt of this step makes more of its beginning known.
  bool follows_another(const Step& step, const Sequence& sequence) const;
  // Takes over what the prefix cache knows of a sequence of which nothing was computed since it was admitted.
  void match(Sequence& sequence);
  // The same before its first rows, where more may be known now, in the tier too and down to a part of a
  // page. False while it is fetched.
  bool match_again(Sequence& sequence, bool may_fetch);
  void copy_partial_page(Sequence& sequence);
  // What the tier has beyond what is matched; nothing where it is cheaper to compute.
  std::optional<Fetch> find_in_tier(const Sequence& sequence) const;
  enum class Fetched { all, later, lost };
  Fetched fetch(Sequence& sequence);
  Fetched fetch_page(Sequence& sequence);
  bool share_page(Sequence& sequence, RadixTree::Place child, bool needs_pane);
  bool load_page(Sequence& sequence, bool is_shared, bool needs_pane);
  // Of a page that has none; needed once then.
  bool load_pane(Page page, const PageKey& key);
  bool fetch_state(Sequence& sequence);
  // Saves what the prefix cache does not keep of it, where that is cheaper than to compute it again.
  void park(Sequence& sequence);
  void park_page(const Sequence& sequence, int64_t i);
  bool is_parking_wanted(const Sequence& sequence) const;
  int64_t n_lost(const Sequence& sequence) const;
  void drop_parked(Sequence& sequence);
  std::span<const int32_t> tokens_of_page(const Sequence& sequence, int64_t page) const;
  std::span<const int32_t> known_tokens(const Sequence& sequence) const;
  // Pages that hold something of the sequence.
  int64_t n_used_pages(const Sequence& sequence) const {
    return (sequence.n_computed + limits_.page_size - 1) / limits_.page_size;
  }
  // What the sequence lacks for all its tokens and the next one.
  Room lacking(const Sequence& sequence) const;
  static Room held(const Sequence& sequence) {
    const auto n_pages = static_cast<int64_t>(sequence.pages.size());
    return {n_pages, n_pages - sequence.n_passed};
  }
  // Pages that are free or held by the prefix cache alone.
  int64_t n_available() const { return pool_.n_free() + pool_.n_idle(); }
  // What can be promised: the rows of a step need panes beside those of what they see.
  Room available() const;
  // Takes pages for positions up to `end`, evicting cached ones and preempting others. Returns how far the
  // pages reach, at most `end`; the one that is preempted first itself gets fewer than asked, or is preempted
  // when it gets none.
  int64_t reserve(Sequence& sequence, int64_t end);
  bool take_page(Sequence& sequence, bool with_pane = true);
  bool take_pane(Page page);
  // The sequence needs the panes of its pages before that one no longer.
  void pass(Sequence& sequence, int64_t first_page, PagePool::Left how);
  // Whether what is computed of it is of no use without what its last row leaves: a state, or panes.
  bool needs_its_end() const { return is_recurrent() || limits_.window > 0; }
  void copy_page(Page from, Page to);
  // Takes a slot for the state of the next rows, evicting snapshots; false when others hold all of them.
  bool take_slot(Sequence& sequence);
  // Where the rows of a sequence stop, because a snapshot is wanted there.
  int64_t next_stop(const Sequence& sequence) const;
  int64_t prompt_stop(const Sequence& sequence) const;
  void preempt(Sequence& sequence);
  void stop(Sequence& sequence);
  // Gives back pages and slots: nothing of the sequence is computed any more.
  void release(Sequence& sequence);
  void remember(Sequence& sequence);
  void remember_state(const Sequence& sequence);

  void check_panes(const std::vector<int32_t>& n_needing) const;

  bool is_recurrent() const { return limits_.n_slots > 0; }
  bool has_snapshots() const { return is_recurrent() && limits_.has_prefix_cache; }

  Limits limits_;
  PageMover& mover_;
  PageTier* tier_;
  TierCosts costs_;
  PagePool pool_;
  SlotPool slots_;
  RadixTree tree_;
  WaitingQueue queue_;
  std::vector<Sequence*> running_;     // by priority, then by arrival: the last one is preempted first
  const Sequence* blocked_ = nullptr;  // found no room, and nobody left since
  uint64_t n_arrivals_ = 0;
  uint64_t n_steps_ = 0;
  int64_t n_preemptions_ = 0, n_parked_ = 0, n_fetched_ = 0;
};

}  // namespace millrace
