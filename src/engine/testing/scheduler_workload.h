// For tests and the soak: requests of random length arrive at random times, generate random numbers of
// tokens, are forked and cancelled, with too few pages for all; steps are begun before the tokens of the ones
// before them are known, and some of these are not told. Pages, slots and the tier are naive ones, which hold
// the tokens that they were computed of: whatever the scheduler plans, each row must find what comes before
// it. Aborts where it does not, or where an invariant does not hold.
#pragma once

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "engine/scheduler.h"

namespace millrace::testing {

inline Sequence prompt_of(uint64_t id, int64_t n, int32_t token) {
  Sequence sequence;
  sequence.id = id;
  sequence.tokens.assign(static_cast<size_t>(n), token);
  sequence.n_prompt = n;
  return sequence;
}

class SchedulerWorkload {
 public:
  enum class Tier { none, memory, disk };
  struct Options {
    Scheduler::Limits limits;
    uint32_t seed = 0;
    Tier tier = Tier::none;
  };

  explicit SchedulerWorkload(const Options& options)
      : limits_(options.limits),
        random_(options.seed),
        tier_(memory_, random_, options.tier == Tier::disk),
        has_tier_(options.tier != Tier::none),
        scheduler_(options.limits, memory_, has_tier_ ? &tier_ : nullptr) {
    memory_.pages.resize(static_cast<size_t>(limits_.n_pages));
    memory_.panes.resize(static_cast<size_t>(limits_.n_panes));
    memory_.states.resize(static_cast<size_t>(limits_.n_slots));
  }

  // Until as many steps are done, and everybody who came.
  void run(int64_t n_steps) {
    int64_t n_late = 0;
    for (; n_steps > 0 || !live_.empty(); --n_steps) {
      if (n_steps > 0 && live_.size() < 40 && random_() % 3 == 0) arrive();
      step();
      if (!live_.empty() && random_() % 40 == 0) end(live_.begin()->first);
      check(n_steps > 0 || ++n_late < 100000, "nobody starves");
    }
    check(tier_.n_parked() == 0, "who is gone has left nothing parked");
  }

  const Scheduler& scheduler() const { return scheduler_; }

 private:
  struct Live {
    Sequence sequence;
    int64_t n_wanted;
    bool is_scored = false;     // the logits of its prompt are wanted,
    int64_t n_with_logits = 0;  // and were given of so many tokens
  };

  // Which tokens the positions of each page, and each state, were computed of.
  using PageTokens = std::map<int64_t, int32_t>;
  struct Memory final : PageMover {
    void copy_page(Page from, Page to) override { page(to) = page(from); }
    void copy_pane(Pane from, Pane to) override { pane(to) = pane(from); }
    PageTokens& page(Page i) { return pages.at(static_cast<size_t>(i)); }
    PageTokens& pane(Pane i) { return panes.at(static_cast<size_t>(i)); }
    std::vector<PageTokens> pages, panes;
    std::vector<std::vector<int32_t>> states;
  };

  // Forgets what it likes.
  class LossyTier final : public PageTier {
   public:
    LossyTier(Memory& memory, std::mt19937& random, bool is_lasting)
        : memory_(memory), random_(random), is_lasting_(is_lasting) {}

    void begin_step() override { n_loads_left_ = 1 + random_() % 4; }
    bool may_begin_load() override { return n_loads_left_ > 0 && n_loads_left_-- > 0; }
    bool has(const PageKey& key) const override { return pages_.contains(key) || states_.contains(key); }
    bool load(const PageKey& key, Page to) override {
      if (!pages_.contains(key) || is_lost(key)) return false;
      memory_.page(to) = pages_.at(key);
      return true;
    }
    bool load_pane(const PageKey& key, Pane to) override {
      memory_.pane(to).clear();  // anything
      if (!pages_.contains(key) || is_lost(key)) return false;
      memory_.pane(to) = pages_.at(key);
      return true;
    }
    bool load_state(const PageKey& key, Slot to) override {
      if (!states_.contains(key) || is_lost(key)) return false;
      memory_.states[static_cast<size_t>(to)] = states_.at(key);
      return true;
    }
    void save(const PageKey& key, Page from, Keep keep) override {
      if (random_() % 16 == 0) return;
      pages_[key] = memory_.page(from);
      if (keep == Keep::parked) parked_.insert(key);
    }
    void save_pane(const PageKey& key, Pane from, Keep keep) override {
      if (random_() % 16 == 0) return;
      pages_[key] = memory_.pane(from);
      if (keep == Keep::parked) parked_.insert(key);
    }
    void save_state(const PageKey& key, Slot from, Keep keep) override {
      if (random_() % 16 == 0) return;
      states_[key] = memory_.states[static_cast<size_t>(from)];
      if (keep == Keep::parked) parked_.insert(key);
    }
    void drop(const PageKey& key) override {
      pages_.erase(key);
      states_.erase(key);
      parked_.erase(key);
    }
    bool is_lasting() const override { return is_lasting_; }
    bool has_room() const override { return true; }
    size_t n_parked() const { return parked_.size(); }

   private:
    bool is_lost(const PageKey& key) {
      if (random_() % 32 != 0) return false;
      drop(key);
      return true;
    }

    Memory& memory_;
    std::mt19937& random_;
    bool is_lasting_;
    std::map<PageKey, PageTokens> pages_;
    std::map<PageKey, std::vector<int32_t>> states_;
    std::set<PageKey> parked_;
    uint64_t n_loads_left_ = 0;
  };

  void arrive() {
    const uint64_t id = ++last_id_;
    Live& live = live_[id];
    live.sequence =
        prompt_of(id, 1 + static_cast<int64_t>(random_() % 30), static_cast<int32_t>(random_() % 2));
    live.n_wanted = 1 + static_cast<int64_t>(random_() % 30);
    live.sequence.priority = random_() % 10 == 0 ? 1 : 0;
    live.sequence.key = random_() % 2 == 0 ? "a" : "b";
    live.sequence.is_scored = live.is_scored = random_() % 8 == 0;
    scheduler_.add(live.sequence);
  }

  void step() {
    if (has_tier_) {
      scheduler_.set_costs({.row_us = static_cast<double>(random_() % 4),
                            .page_us = static_cast<double>(random_() % 4),
                            .state_us = static_cast<double>(random_() % 4)});
      if (tier_.is_lasting() && random_() % 2 == 0) scheduler_.keep_next();
    }
    const bool is_ahead = !begun_.empty();
    if (is_ahead) await_tokens();
    rows_ = scheduler_.plan(!is_ahead);
    // Only who waits for pages from the tier leaves a step empty, or for a token.
    n_empty_ = rows_.empty() && !is_ahead && !live_.empty() ? n_empty_ + 1 : 0;
    check(n_empty_ <= (has_tier_ ? 200 : 0), "something runs while somebody waits");
    check_rows(rows_);
    compute_pages(rows_);
    check(scheduler_.n_running() <= limits_.max_sequences, "no more run than may");
    if (is_ahead) {
      forget_awaited();
      finish(begun_, is_ahead);
      compute_pages(rows_);  // of the tokens that they have got
    }
    if (limits_.n_slots > 0) compute_states(rows_);
    scheduler_.commit(rows_);
    scheduler_.check_integrity();
    begun_ = std::exchange(rows_, {});
    if (!may_run_ahead()) finish(begun_, false);
  }

  bool may_run_ahead() {
    const bool is_scored =
        std::ranges::any_of(begun_, [](const PlannedRows& planned) { return planned.is_scored; });
    return !is_scored && !scheduler_.is_fetching() && random_() % 4 != 0;
  }

  // Stand-ins, each another one.
  void await_tokens() {
    for (const PlannedRows& planned : begun_) {
      Sequence& sequence = *planned.sequence;
      const int64_t n_wanted = sequence.n_prompt + live_.at(sequence.id).n_wanted;
      if (planned.wants_logits() && planned.end + 1 < n_wanted) sequence.tokens.push_back(--last_awaited_);
    }
  }

  void forget_awaited() {
    for (auto& [id, live] : live_)
      if (live.sequence.tokens.back() < 0) live.sequence.tokens.pop_back();
  }

  // Rows of a step that is computed; rows_ are those of the step that was begun ahead of its tokens, if any.
  void finish(std::vector<PlannedRows>& step, bool is_ahead) {
    while (!step.empty()) {
      const PlannedRows planned = step.back();
      step.pop_back();
      Live& live = live_.at(planned.sequence->id);
      if (live.is_scored) note_logits(live, planned);
      if (!planned.wants_logits()) continue;
      if (is_ahead && limits_.n_slots == 0 && random_() % 4 == 0) {
        drop_rows(rows_, live.sequence);
        scheduler_.recompute_newest(live.sequence);
        scheduler_.check_integrity();
      } else {
        answer(live, is_ahead);
      }
    }
  }

  static void drop_rows(std::vector<PlannedRows>& rows, const Sequence& sequence) {
    std::erase_if(rows, [&](const PlannedRows& planned) { return planned.sequence == &sequence; });
  }

  // Of every token of the prompt, whatever was cached, preempted or fetched on the way.
  void note_logits(Live& live, const PlannedRows& planned) {
    if (live.n_with_logits >= live.sequence.n_prompt) return;
    check(planned.logits_begin() <= live.n_with_logits, "no token of a scored prompt is left out");
    live.n_with_logits = std::max(live.n_with_logits, planned.end);
    check(!planned.wants_logits() || live.n_with_logits >= live.sequence.n_prompt,
          "a prompt is scored whole");
  }

  void check_rows(const std::vector<PlannedRows>& rows) const {
    int64_t n_rows = 0, n_logits = 0;
    std::set<const Sequence*> planned_once;
    for (const PlannedRows& planned : rows) {
      n_rows += planned.end - planned.begin;
      n_logits += planned.end - planned.logits_begin();
      check(planned_once.insert(planned.sequence).second, "a sequence is planned once");
      check(planned.begin == planned.sequence->n_computed, "rows begin where the last ones ended");
      check(planned.end <= static_cast<int64_t>(planned.sequence->pages.size()) * limits_.page_size,
            "rows have pages");
    }
    check(n_rows <= limits_.max_rows && n_logits <= limits_.max_sequences, "a step within its budget");
  }

  void answer(Live& live, bool is_ahead) {
    if (!is_ahead && random_() % 20 == 0) fork(live);
    const auto n_wanted = static_cast<size_t>(live.sequence.n_prompt + live.n_wanted);
    const size_t n_new =
        !is_ahead && random_() % 8 == 0 ? 1 + random_() % 6 : 1;  // a grammar may force several
    for (size_t i = 0; i < n_new && live.sequence.tokens.size() < n_wanted; ++i)
      live.sequence.tokens.push_back(static_cast<int32_t>(random_() % 2));
    if (live.sequence.tokens.size() == n_wanted) end(live.sequence.id);
  }

  void fork(const Live& parent) {
    const uint64_t id = ++last_id_;
    Live& live = live_[id];
    live.n_wanted = parent.n_wanted;
    live.sequence.id = id;
    live.sequence.tokens = parent.sequence.tokens;
    live.sequence.n_prompt = parent.sequence.n_prompt;
    live.sequence.priority = parent.sequence.priority;
    live.sequence.key = parent.sequence.key;
    scheduler_.fork(parent.sequence, live.sequence);
    live.sequence.tokens.push_back(7);
    if (static_cast<int64_t>(live.sequence.tokens.size()) == live.sequence.n_prompt + live.n_wanted) end(id);
  }

  // Rows find in their pages what was computed of the tokens before them, and in the panes what of that the
  // window lets them see.
  void compute_pages(const std::vector<PlannedRows>& rows) {
    for (const PlannedRows& planned : rows) {
      const Sequence& sequence = *planned.sequence;
      for (int64_t i = 0; i < planned.end; ++i) {
        PageTokens& page = memory_.page(sequence.pages[static_cast<size_t>(i / limits_.page_size)]);
        const int32_t token = sequence.tokens[static_cast<size_t>(i)];
        if (i >= planned.begin) page[i % limits_.page_size] = token;
        check(page[i % limits_.page_size] == token, "a row finds what comes before it");
        if (limits_.window == 0 || i <= planned.begin - limits_.window) continue;
        PageTokens& pane = pane_at(sequence, i);
        if (i >= planned.begin) pane[i % limits_.page_size] = token;
        check(pane[i % limits_.page_size] == token, "a row finds what it sees of its window");
      }
    }
  }

  PageTokens& pane_at(const Sequence& sequence, int64_t position) {
    const Page page = sequence.pages[static_cast<size_t>(position / limits_.page_size)];
    return memory_.pane(scheduler_.panes()[static_cast<size_t>(page)]);
  }

  // Nobody writes what another reads or writes in this step.
  void compute_states(const std::vector<PlannedRows>& rows) {
    const auto beginning = [](const PlannedRows& planned, int64_t n) {
      const std::vector<int32_t>& tokens = planned.sequence->tokens;
      return std::vector<int32_t>(tokens.begin(), tokens.begin() + n);
    };
    for (const PlannedRows& planned : rows) {
      const bool has_state = planned.state_from >= 0;
      const auto& state = has_state ? memory_.states[static_cast<size_t>(planned.state_from)] : kNothing;
      check(state == beginning(planned, planned.begin), "a state is of all rows before");
      for (const PlannedRows& other : rows) {
        if (&other == &planned) continue;
        check(planned.state_to != other.state_from && planned.state_to != other.state_to,
              "a slot has one writer");
      }
    }
    for (const PlannedRows& planned : rows)
      memory_.states.at(static_cast<size_t>(planned.state_to)) = beginning(planned, planned.end);
  }

  void end(uint64_t id) {
    const Sequence& sequence = live_.at(id).sequence;
    for (std::vector<PlannedRows>* rows : {&begun_, &rows_}) drop_rows(*rows, sequence);
    scheduler_.remove(live_.at(id).sequence);
    live_.erase(id);
    scheduler_.check_integrity();
  }

  const std::vector<int32_t> kNothing;
  const Scheduler::Limits limits_;
  std::mt19937 random_;
  Memory memory_;
  LossyTier tier_;
  const bool has_tier_;
  Scheduler scheduler_;
  std::map<uint64_t, Live> live_;
  std::vector<PlannedRows> begun_;  // of the step before, where its tokens are not known yet
  std::vector<PlannedRows> rows_;   // of this step
  uint64_t last_id_ = 0;
  int32_t last_awaited_ = 0;
  int64_t n_empty_ = 0;
};

}  // namespace millrace::testing
