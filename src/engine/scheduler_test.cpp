// The scheduler on integers alone: random workloads, every invariant checked after every step.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "engine/testing/scheduler_workload.h"

namespace millrace {
namespace {

using namespace millrace::testing;

constexpr Scheduler::Limits kLimits{
    .n_pages = 16, .page_size = 4, .max_rows = 12, .max_sequences = 5, .has_prefix_cache = true};

struct NoMover final : PageMover {
  void copy_page(Page, Page) override {}
  void copy_pane(Pane, Pane) override {}
};
NoMover no_mover;

// Forgets nothing.
struct KeepingTier final : PageTier {
  bool has(const PageKey& key) const override { return keys.contains(key); }
  void begin_step() override {}
  bool may_begin_load() override { return true; }
  bool load(const PageKey& key, Page) override { return has(key); }
  bool load_pane(const PageKey& key, Pane) override { return has(key); }
  bool load_state(const PageKey& key, Slot) override { return has(key); }
  void save(const PageKey& key, Page, Keep) override { keys.insert(key); }
  void save_pane(const PageKey& key, Pane, Keep) override { keys.insert(key); }
  void save_state(const PageKey& key, Slot, Keep) override { keys.insert(key); }
  void drop(const PageKey& key) override { keys.erase(key); }
  bool is_lasting() const override { return false; }
  bool has_room() const override { return true; }

  std::set<PageKey> keys;
};

// The same for a recurrent model.
constexpr Scheduler::Limits with_slots(Scheduler::Limits limits) {
  limits.n_slots = limits.max_sequences + 2;
  limits.snapshot_distance = 2 * limits.page_size;
  return limits;
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

// A step is begun ahead, the token that it goes on from is not told, and its row is dropped.
void begin_in_vain(Scheduler& scheduler, Sequence& sequence) {
  sequence.tokens.push_back(-1);
  scheduler.plan(false);
  sequence.tokens.pop_back();
  scheduler.recompute_newest(sequence);
  scheduler.check_integrity();
}

// At the end of a page, after it, and in the middle.
TEST(Scheduler, ComputesTheNewestRowOnceMore) {
  for (const int64_t n : {8, 9, 10}) {
    Scheduler scheduler(kLimits, no_mover);
    Sequence sequence = prompt_of(1, n, 7);
    scheduler.add(sequence);
    scheduler.commit(scheduler.plan());
    const std::vector<Page> pages(sequence.pages.begin(), sequence.pages.begin() + (n + 3) / 4);
    const auto is_on_its_pages = [&] {
      return std::ranges::equal(pages, std::span(sequence.pages).first(pages.size()));
    };
    for (int time = 0; time < 2; ++time) {
      begin_in_vain(scheduler, sequence);
      EXPECT_TRUE(sequence.is_running);
      EXPECT_EQ(sequence.n_computed, n - 1);
      EXPECT_EQ(sequence.n_remembered, (n - 1) / 4);
      EXPECT_EQ(scheduler.n_known(0, sequence.tokens), n / 4 * 4) << "others may go on from it";
      EXPECT_TRUE(is_on_its_pages());
      const auto rows = scheduler.plan();
      ASSERT_EQ(rows.size(), 1u);
      EXPECT_EQ(rows[0].begin, n - 1);
      EXPECT_EQ(rows[0].end, n);
      EXPECT_TRUE(rows[0].wants_logits());
      scheduler.commit(rows);
      EXPECT_EQ(sequence.n_computed, n);
      EXPECT_EQ(sequence.n_remembered, n / 4);
    }
    while (std::ssize(sequence.tokens) < 13) {
      sequence.tokens.push_back(8);
      scheduler.commit(scheduler.plan());
      scheduler.check_integrity();
    }
    EXPECT_TRUE(is_on_its_pages());
    EXPECT_EQ(scheduler.n_known(0, sequence.tokens), 12);
    EXPECT_EQ(scheduler.n_preemptions(), 0);
  }
}

// What it has parked holds that row, and would leave none to compute.
TEST(Scheduler, WhoIsPreemptedComputesTheNewestRowOnceMore) {
  Scheduler::Limits limits = kLimits;
  limits.max_sequences = 1;
  limits.preemption = Preemption::park;
  KeepingTier tier;
  Scheduler scheduler(limits, no_mover, &tier);
  Sequence a = prompt_of(1, 6, 7), b = prompt_of(2, 6, 8);
  b.priority = 1;
  scheduler.add(a);
  scheduler.commit(scheduler.plan());
  scheduler.add(b);
  begin_in_vain(scheduler, a);
  EXPECT_FALSE(a.is_running);
  EXPECT_EQ(scheduler.n_parked(), 1);
  EXPECT_FALSE(a.parked);
  EXPECT_TRUE(tier.keys.empty()) << "what nobody asks for any more";
  scheduler.remove(b);
  const auto rows = scheduler.plan();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].begin, 4) << "the page that the prefix cache kept";
  EXPECT_EQ(rows[0].end, 6);
  EXPECT_TRUE(rows[0].wants_logits());
}

// The same where it runs again at once, and was about to fetch that. `b` has to make room, too, and finds
// none.
TEST(Scheduler, WhoIsToFetchTheNewestRowComputesItOnceMore) {
  Scheduler::Limits limits = kLimits;
  limits.preemption = Preemption::park;
  KeepingTier tier;
  Scheduler scheduler(limits, no_mover, &tier);
  Sequence b = prompt_of(1, 30, 8), a = prompt_of(2, 6, 7), c = prompt_of(3, 36, 9);
  a.key = "a", b.key = "b";
  c.priority = 1;
  scheduler.add(b);
  scheduler.add(a);
  while (a.n_left() + b.n_left() > 0) scheduler.commit(scheduler.plan());
  scheduler.add(c);
  begin_in_vain(scheduler, a);
  EXPECT_EQ(scheduler.n_parked(), 2);
  EXPECT_TRUE(a.is_running);
  EXPECT_FALSE(a.fetch);
  EXPECT_FALSE(a.parked);
  EXPECT_TRUE(b.parked);
  scheduler.remove(c);
  while (a.n_left() > 0) {
    const auto rows = scheduler.plan();
    ASSERT_FALSE(rows.empty());
    scheduler.commit(rows);
    scheduler.check_integrity();
  }
}

// Two positions are seen: the row at 9 sees none of the pane that the one at 8 needs for position 7.
TEST(Scheduler, WhoHasLeftAPaneGoesBackToComputeTheNewestRow) {
  Scheduler::Limits limits = kLimits;
  limits.window = 2;
  limits.n_panes = limits.n_pages;
  for (const int64_t n : {8, 9, 10}) {
    Scheduler scheduler(limits, no_mover);
    Sequence sequence = prompt_of(1, n, 7);
    scheduler.add(sequence);
    scheduler.commit(scheduler.plan());
    begin_in_vain(scheduler, sequence);
    EXPECT_EQ(sequence.is_running, n != 9) << "the row at 8 sees the one at 7";
    const auto rows = scheduler.plan();
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].end, n);
    EXPECT_TRUE(rows[0].wants_logits());
    scheduler.commit(rows);
    scheduler.check_integrity();
  }
}

TEST(Scheduler, AStateCannotGoBack) {
  Scheduler scheduler(with_slots(kLimits), no_mover);
  Sequence sequence = prompt_of(1, 6, 7);
  scheduler.add(sequence);
  scheduler.commit(scheduler.plan());
  EXPECT_DEATH(scheduler.recompute_newest(sequence), "a row that can be computed twice");
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

using Tier = SchedulerWorkload::Tier;

TEST(Scheduler, RandomWorkloadsFinish) {
  for (const Tier tier : {Tier::none, Tier::memory, Tier::disk}) {
    for (uint32_t seed = 0; seed < 10; ++seed) {
      Scheduler::Limits limits = kLimits;
      limits.n_kept_pages = 1 + seed % 4;
      SchedulerWorkload workload({.limits = limits, .seed = seed, .tier = tier});
      workload.run(2000);
      EXPECT_GT(workload.scheduler().n_preemptions(), 0) << "the workload should be too much for the pages";
      EXPECT_EQ(workload.scheduler().n_parked() > 0, tier != Tier::none);
      EXPECT_EQ(workload.scheduler().n_fetched() > 0, tier != Tier::none);
    }
  }
}

TEST(Scheduler, RandomWorkloadsFinishWithStates) {
  for (const Tier tier : {Tier::none, Tier::memory, Tier::disk}) {
    for (uint32_t seed = 0; seed < 10; ++seed) {
      Scheduler::Limits limits = with_slots(kLimits);
      limits.n_slots = limits.max_sequences + 1 + seed % 4;
      limits.preemption = seed % 3 == 0 ? Preemption::park : Preemption::by_cost;
      SchedulerWorkload({.limits = limits, .seed = seed, .tier = tier}).run(2000);
      limits.has_prefix_cache = false;
      SchedulerWorkload({.limits = limits, .seed = seed, .tier = tier}).run(2000);
    }
  }
}

// From as few panes as do for one sequence to one for each page, and from windows within a page to those that
// no sequence fills; with states besides, which no model has.
TEST(Scheduler, RandomWorkloadsFinishWithWindows) {
  for (const Tier tier : {Tier::none, Tier::memory, Tier::disk}) {
    for (uint32_t seed = 0; seed < 30; ++seed) {
      Scheduler::Limits limits = seed % 5 == 4 ? with_slots(kLimits) : kLimits;
      limits.window = 1 + seed % 20;
      limits.n_panes = std::min<int64_t>(
          limits.n_pages, Scheduler::enough_panes(limits.window, limits.page_size) + seed % 3 * 4);
      limits.preemption = seed % 3 == 0 ? Preemption::park : Preemption::by_cost;
      SchedulerWorkload({.limits = limits, .seed = seed, .tier = tier}).run(2000);
      limits.has_prefix_cache = false;
      SchedulerWorkload({.limits = limits, .seed = seed, .tier = tier}).run(2000);
    }
  }
}

}  // namespace
}  // namespace millrace
