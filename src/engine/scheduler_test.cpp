// The scheduler on integers alone: random workloads, every invariant checked after every step.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "base/error.h"

namespace millrace {
namespace {

constexpr Scheduler::Limits kLimits{
    .n_pages = 16, .page_size = 4, .max_rows = 12, .max_sequences = 5, .has_prefix_cache = true};

struct NoMover final : PageMover {
  void copy(Page, Page) override {}
};
NoMover no_mover;

// The same for a recurrent model.
constexpr Scheduler::Limits with_slots(Scheduler::Limits limits) {
  limits.n_slots = limits.max_sequences + 2;
  limits.snapshot_distance = 2 * limits.page_size;
  return limits;
}

Sequence prompt_of(uint64_t id, int64_t n, int32_t token) {
  Sequence sequence;
  sequence.id = id;
  sequence.tokens.assign(static_cast<size_t>(n), token);
  sequence.n_prompt = n;
  return sequence;
}

TEST(Scheduler, PrefillsInChunksAndThenDecodes) {
  Scheduler scheduler(kLimits, no_mover);
  Sequence sequence = prompt_of(1, 30, 7);
  scheduler.add(sequence);
  std::vector<int64_t> ends;
  for (int i = 0; i < 3; ++i) {
    const auto rows = scheduler.plan();
    ASSERT_EQ(rows.size(), 1u);
    ends.push_back(rows[0].end);
    EXPECT_EQ(rows[0].wants_logits(), i == 2);
    scheduler.commit(rows);
  }
  EXPECT_EQ(ends, (std::vector<int64_t>{12, 24, 30}));
  sequence.tokens.push_back(8);
  const auto rows = scheduler.plan();
  EXPECT_EQ(rows.at(0).begin, 30);
  EXPECT_EQ(rows.at(0).end, 31);
}

TEST(Scheduler, AStepMixesAnswersAndPrompts) {
  Scheduler scheduler(kLimits, no_mover);
  Sequence a = prompt_of(1, 5, 1), b = prompt_of(2, 40, 2);
  scheduler.add(a);
  scheduler.commit(scheduler.plan());
  a.tokens.push_back(1);
  scheduler.add(b);
  const auto rows = scheduler.plan();
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].sequence, &a);
  EXPECT_EQ(rows[1].end - rows[1].begin, kLimits.max_rows - 1);
}

// What does not fit into the rest of a step waits for the next one, in which it comes first.
TEST(Scheduler, WholeSequencesAreNeverDivided) {
  Scheduler scheduler({.n_pages = 64,
                       .page_size = 4,
                       .max_rows = 12,
                       .max_sequences = 5,
                       .has_prefix_cache = false,
                       .keeps_sequences_whole = true},
                      no_mover);
  std::vector<Sequence> sequences;
  for (const int64_t n : {7, 6, 5, 12, 1}) sequences.push_back(prompt_of(sequences.size(), n, 1));
  for (Sequence& sequence : sequences) scheduler.add(sequence);
  std::vector<std::vector<uint64_t>> steps;
  while (scheduler.n_waiting() + scheduler.n_running() > 0) {
    const auto rows = scheduler.plan();
    ASSERT_FALSE(rows.empty());
    scheduler.commit(rows);
    steps.emplace_back();
    for (const PlannedRows& planned : rows) {
      EXPECT_EQ(planned.begin, 0);
      EXPECT_TRUE(planned.wants_logits());
      steps.back().push_back(planned.sequence->id);
      scheduler.remove(*planned.sequence);
    }
    scheduler.check_integrity();
  }
  EXPECT_EQ(steps, (std::vector<std::vector<uint64_t>>{{0, 2}, {1, 4}, {3}}));
}

TEST(Scheduler, ASecondRequestFindsThePrefix) {
  Scheduler scheduler(kLimits, no_mover);
  Sequence a = prompt_of(1, 11, 3);
  scheduler.add(a);
  scheduler.commit(scheduler.plan());
  scheduler.remove(a);
  Sequence b = prompt_of(2, 11, 3);
  scheduler.add(b);
  const auto rows = scheduler.plan();
  EXPECT_EQ(b.n_cached, 8);
  EXPECT_EQ(rows.at(0).begin, 8);
  Sequence other_table = prompt_of(3, 11, 3);
  other_table.rope_table = 1;
  scheduler.add(other_table);
  scheduler.remove(b);
  scheduler.plan();
  EXPECT_EQ(other_table.n_cached, 0);
}

TEST(Scheduler, AShortPromptPassesALongOne) {
  Scheduler scheduler(kLimits, no_mover);
  Sequence oldest = prompt_of(1, 30, 1), longer = prompt_of(2, 20, 2), shorter = prompt_of(3, 5, 3);
  for (Sequence* sequence : {&oldest, &longer, &shorter}) scheduler.add(*sequence);
  std::map<uint64_t, int64_t> n_rows;
  for (const PlannedRows& rows : scheduler.plan()) n_rows[rows.sequence->id] = rows.end - rows.begin;
  EXPECT_EQ(n_rows, (std::map<uint64_t, int64_t>{{1, 6}, {2, 1}, {3, 5}}));
}

TEST(Scheduler, WhoBeginsAlikeWaitsForTheFirst) {
  Scheduler scheduler(kLimits, no_mover);
  Sequence a = prompt_of(1, 10, 1), b = prompt_of(2, 11, 1);
  scheduler.add(a);
  scheduler.add(b);
  const auto rows = scheduler.plan();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].sequence, &a);
  scheduler.commit(rows);
  while (b.n_left() > 0) scheduler.commit(scheduler.plan());
  EXPECT_GE(b.n_cached, 4);
  scheduler.check_integrity();
}

TEST(Scheduler, AHigherPriorityTakesThePlace) {
  Scheduler scheduler(kLimits, no_mover);
  std::vector<Sequence> sequences;
  for (uint64_t id = 0; id < 6; ++id) sequences.push_back(prompt_of(id, 8, static_cast<int32_t>(id)));
  sequences[5].priority = 1;
  for (size_t i = 0; i < 5; ++i) scheduler.add(sequences[i]);
  scheduler.commit(scheduler.plan());
  scheduler.add(sequences[5]);
  const auto rows = scheduler.plan();
  EXPECT_EQ(scheduler.n_preemptions(), 1);
  EXPECT_FALSE(sequences[4].is_running) << "the youngest of the lowest priority";
  EXPECT_EQ(rows.at(0).sequence, &sequences[5]);
  scheduler.check_integrity();
}

TEST(WaitingQueue, KeysTakeTurns) {
  WaitingQueue queue;
  std::vector<Sequence> sequences;
  for (uint64_t id = 0; id < 40; ++id) {
    sequences.push_back(prompt_of(id, id < 20 ? 1000 : 100, 1));
    sequences.back().key = id < 20 ? "long" : "short";
  }
  for (Sequence& sequence : sequences) queue.push_back(sequence);
  std::map<std::string, int64_t> n_rows;
  while (n_rows["short"] < 2000) {  // while both wait
    Sequence& sequence = *queue.front();
    queue.pop_front();
    queue.charge(sequence, sequence.n_prompt);
    n_rows[sequence.key] += sequence.n_prompt;
    EXPECT_NEAR(static_cast<double>(n_rows["long"]), static_cast<double>(n_rows["short"]), 1600.0);
  }
  EXPECT_NEAR(static_cast<double>(n_rows["long"]), 2000.0, 1100.0);
}

TEST(Scheduler, StopsWhereASnapshotIsWanted) {
  Scheduler scheduler(with_slots(kLimits), no_mover);
  Sequence a = prompt_of(1, 30, 7);  // distance 8, full pages of the prompt up to 28
  scheduler.add(a);
  std::vector<int64_t> ends;
  while (a.n_computed < 30) {
    const auto rows = scheduler.plan();
    ends.push_back(rows.at(0).end);
    scheduler.commit(rows);
  }
  EXPECT_EQ(ends, (std::vector<int64_t>{8, 16, 24, 28, 30}));
  EXPECT_EQ(a.n_cached, 0);
  scheduler.remove(a);
  // With the first 18 tokens of it: the deepest snapshot that it shares is at 16.
  Sequence b = prompt_of(2, 18, 7);
  b.tokens.resize(40, 8);
  b.n_prompt = 40;
  scheduler.add(b);
  const auto rows = scheduler.plan();
  EXPECT_EQ(b.n_cached, 16);
  EXPECT_EQ(rows.at(0).begin, 16);
  EXPECT_NE(rows.at(0).state_from, rows.at(0).state_to) << "a snapshot was overwritten";
  scheduler.commit(rows);
  const auto next = scheduler.plan();
  EXPECT_EQ(next.at(0).state_from, rows.at(0).state_to);
}

TEST(Scheduler, WithoutThePrefixCacheAStateStaysInItsSlot) {
  Scheduler::Limits limits = with_slots(kLimits);
  limits.has_prefix_cache = false;
  limits.n_slots = limits.max_sequences;
  Scheduler scheduler(limits, no_mover);
  Sequence a = prompt_of(1, 30, 7);
  scheduler.add(a);
  const auto first = scheduler.plan();
  EXPECT_EQ(first.at(0).state_from, -1);
  EXPECT_EQ(first.at(0).end, kLimits.max_rows);
  scheduler.commit(first);
  const auto second = scheduler.plan();
  EXPECT_EQ(second.at(0).state_from, first[0].state_to);
  EXPECT_EQ(second.at(0).state_to, first[0].state_to);
}

// Without a promise of pages, prompts would be admitted as long as one page is free, and most of what is
// computed of them given up again.
TEST(Scheduler, ComputesLittleTwice) {
  for (const bool has_prefix_cache : {true, false}) {
    Scheduler scheduler({.n_pages = 256,
                         .page_size = 16,
                         .max_rows = 256,
                         .max_sequences = 32,
                         .has_prefix_cache = has_prefix_cache},
                        no_mover);
    std::mt19937 random(1);
    const auto token = [&] { return static_cast<int32_t>(random() % 30000); };
    std::map<uint64_t, Sequence> live;
    int64_t n_useful = 0, n_computed = 0;
    for (uint64_t id = 0; id < 200; ++id) {
      live[id] = prompt_of(id, 200 + static_cast<int64_t>(random() % 1500), 0);
      for (int32_t& each : live[id].tokens) each = token();
      n_useful += live[id].n_prompt + 200;
      scheduler.add(live[id]);
    }
    while (!live.empty()) {
      const auto rows = scheduler.plan();
      scheduler.commit(rows);
      for (const PlannedRows& planned : rows) {
        n_computed += planned.end - planned.begin;
        if (!planned.wants_logits()) continue;
        Sequence& sequence = *planned.sequence;
        sequence.tokens.push_back(token());
        if (static_cast<int64_t>(sequence.tokens.size()) <= sequence.n_prompt + 200) continue;
        scheduler.remove(sequence);
        live.erase(sequence.id);
      }
    }
    EXPECT_EQ(scheduler.n_waiting() + scheduler.n_running(), 0);
    EXPECT_GE(n_computed, n_useful);
    EXPECT_LT(n_computed, n_useful * (has_prefix_cache ? 110 : 130) / 100);
  }
}

// Requests of random length arrive at random times; each generates a random number of tokens; some are
// cancelled.
class Workload {
 public:
  Workload(uint32_t seed, const Scheduler::Limits& limits) : random_(seed), scheduler_(limits, contents_) {
    states_.resize(static_cast<size_t>(limits.n_slots));
    contents_.pages.resize(static_cast<size_t>(limits.n_pages));
  }

  void run(int n_requests) {
    int n_steps = 0;
    while (n_requests > 0 || !live_.empty()) {
      if (n_requests > 0 && random_() % 3 == 0) {
        arrive();
        --n_requests;
      }
      step();
      if (!live_.empty() && random_() % 40 == 0) end(live_.begin()->first);
      ASSERT_LT(++n_steps, 100000) << "somebody starves";
    }
    EXPECT_GT(scheduler_.n_preemptions(), 0) << "the workload should be too much for the pages";
  }

 private:
  struct Live {
    Sequence sequence;
    int64_t n_wanted;
  };
  // Which tokens the positions of each page were computed of.
  struct Contents final : PageMover {
    void copy(Page from, Page to) override {
      pages[static_cast<size_t>(to)] = pages[static_cast<size_t>(from)];
    }
    std::vector<std::map<int64_t, int32_t>> pages;
  };

  void arrive() {
    const uint64_t id = ++last_id_;
    Live& live = live_[id];
    live.sequence =
        prompt_of(id, 1 + static_cast<int64_t>(random_() % 30), static_cast<int32_t>(random_() % 2));
    live.n_wanted = 1 + static_cast<int64_t>(random_() % 30);  // at most 60 of the 64 positions
    live.sequence.priority = random_() % 10 == 0 ? 1 : 0;
    live.sequence.key = random_() % 2 == 0 ? "a" : "b";
    scheduler_.add(live.sequence);
  }

  void step() {
    const auto rows = scheduler_.plan();
    ASSERT_TRUE(!rows.empty() || live_.empty()) << "nothing runs although somebody waits";
    int64_t n_rows = 0;
    std::set<const Sequence*> planned_once;
    for (const PlannedRows& planned : rows) {
      n_rows += planned.end - planned.begin;
      ASSERT_TRUE(planned_once.insert(planned.sequence).second) << "planned twice";
      ASSERT_EQ(planned.begin, planned.sequence->n_computed);
      ASSERT_LE(planned.end, static_cast<int64_t>(planned.sequence->pages.size()) * kLimits.page_size);
    }
    ASSERT_LE(n_rows, kLimits.max_rows);
    compute_pages(rows);
    if (!states_.empty()) compute_states(rows);
    ASSERT_LE(scheduler_.n_running(), kLimits.max_sequences);
    scheduler_.commit(rows);
    scheduler_.check_integrity();
    for (const PlannedRows& planned : rows) {
      if (!planned.wants_logits()) continue;
      Live& live = live_.at(planned.sequence->id);
      if (random_() % 20 == 0) fork(live);
      const auto n_wanted = static_cast<size_t>(live.sequence.n_prompt + live.n_wanted);
      const size_t n_new = random_() % 8 == 0 ? 1 + random_() % 6 : 1;  // a grammar may force several
      for (size_t i = 0; i < n_new && live.sequence.tokens.size() < n_wanted; ++i)
        live.sequence.tokens.push_back(static_cast<int32_t>(random_() % 2));
      if (static_cast<int64_t>(live.sequence.tokens.size()) == live.sequence.n_prompt + live.n_wanted)
        end(live.sequence.id);
    }
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

  // Rows find in their pages what was computed of the tokens before them.
  void compute_pages(const std::vector<PlannedRows>& rows) {
    for (const PlannedRows& planned : rows) {
      const Sequence& sequence = *planned.sequence;
      for (int64_t i = 0; i < planned.end; ++i) {
        auto& page =
            contents_.pages[static_cast<size_t>(sequence.pages[static_cast<size_t>(i / kLimits.page_size)])];
        const int32_t token = sequence.tokens[static_cast<size_t>(i)];
        if (i >= planned.begin) page[i % kLimits.page_size] = token;
        ASSERT_EQ(page[i % kLimits.page_size], token) << "position " << i << " of " << sequence.id;
      }
    }
  }

  // Slots hold the tokens that their states are of. Nobody writes what another reads or writes in this step.
  void compute_states(const std::vector<PlannedRows>& rows) {
    for (const PlannedRows& planned : rows) {
      const std::vector<int32_t>& tokens = planned.sequence->tokens;
      std::vector<int32_t> state;
      if (planned.state_from >= 0) state = states_[static_cast<size_t>(planned.state_from)];
      ASSERT_EQ(state, std::vector<int32_t>(tokens.begin(), tokens.begin() + planned.begin));
      for (const PlannedRows& other : rows) {
        if (&other == &planned) continue;
        ASSERT_NE(planned.state_to, other.state_from);
        ASSERT_NE(planned.state_to, other.state_to);
      }
    }
    for (const PlannedRows& planned : rows) {
      const std::vector<int32_t>& tokens = planned.sequence->tokens;
      states_.at(static_cast<size_t>(planned.state_to)).assign(tokens.begin(), tokens.begin() + planned.end);
    }
  }

  void end(uint64_t id) {
    scheduler_.remove(live_.at(id).sequence);
    live_.erase(id);
    scheduler_.check_integrity();
  }

  std::mt19937 random_;
  Contents contents_;
  Scheduler scheduler_;
  std::vector<std::vector<int32_t>> states_;
  std::map<uint64_t, Live> live_;
  uint64_t last_id_ = 0;
};

TEST(Scheduler, RandomWorkloadsFinish) {
  for (uint32_t seed = 0; seed < 20; ++seed) Workload(seed, kLimits).run(200);
}

TEST(Scheduler, RandomWorkloadsFinishWithStates) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    Scheduler::Limits limits = with_slots(kLimits);
    limits.n_slots = limits.max_sequences + 1 + seed % 4;
    Workload(seed, limits).run(200);
    limits.has_prefix_cache = false;
    Workload(seed, limits).run(200);
  }
}

}  // namespace
}  // namespace millrace
