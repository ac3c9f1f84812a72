#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace millrace {

Scheduler::Scheduler(const Limits& limits)
    : limits_(limits),
      pool_(limits.n_pages),
      slots_(limits.n_slots),
      tree_(pool_, limits.page_size, is_recurrent() ? &slots_ : nullptr) {
  // One more, so that somebody can always leave the snapshot that it begins with.
  check(!is_recurrent() || limits.n_slots >= limits.max_sequences + (limits.has_prefix_cache ? 1 : 0),
        "there is a slot for each sequence");
  check(
      !has_snapshots() || (limits.snapshot_distance > 0 && limits.snapshot_distance % limits.page_size == 0),
      "snapshots lie between pages");
}

void Scheduler::add(Sequence& sequence) { waiting_.push_back(&sequence); }

std::vector<PlannedRows> Scheduler::plan() {
  std::vector<PlannedRows> plan;
  int64_t budget = limits_.max_rows;
  const int64_t n_preemptions = n_preemptions_;
  const auto give_rows = [&](Sequence& sequence) {
    if (limits_.keeps_sequences_whole && n_left(sequence) > budget) return;  // it is the first one some time
    const int64_t begin = sequence.n_computed;
    const int64_t wanted = begin + std::min(n_left(sequence), budget);
    const int64_t end = reserve(sequence, has_snapshots() ? std::min(wanted, next_stop(sequence)) : wanted);
    if (end <= begin || !take_slot(sequence)) return;
    plan.push_back({&sequence, begin, end, sequence.slot, sequence.next_slot});
    budget -= end - begin;
  };
  // Preemption shortens running_ from its end, so an index is safe where an iterator is not.
  for (size_t i = 0; i < running_.size() && budget > 0; ++i) {
    if (n_left(*running_[i]) == 1) give_rows(*running_[i]);
  }
  for (size_t i = 0; i < running_.size() && budget > 0; ++i) {
    if (n_left(*running_[i]) > 1) give_rows(*running_[i]);
  }
  while (budget > 0 && n_preemptions_ == n_preemptions && admit_next()) give_rows(*running_.back());
  // Some of the pages may have come from sequences that were planned before: those do not run any more.
  std::erase_if(plan, [&](const PlannedRows& rows) {
    return std::ranges::find(running_, rows.sequence) == running_.end();
  });
  return plan;
}

bool Scheduler::admit_next() {
  if (waiting_.empty() || n_running() >= limits_.max_sequences) return false;
  Sequence& sequence = *waiting_.front();
  // The newest token is always computed: its logits are wanted.
  const std::span<const int32_t> known(sequence.tokens.data(), sequence.tokens.size() - 1);
  if (has_snapshots()) {
    auto [pages, snapshot] = tree_.match_snapshot(sequence.rope_table, known);
    sequence.pages = std::move(pages);
    sequence.slot = snapshot;
  } else if (limits_.has_prefix_cache) {
    sequence.pages = tree_.match(sequence.rope_table, known);
  }
  sequence.n_remembered = static_cast<int64_t>(sequence.pages.size());
  sequence.n_computed = sequence.n_remembered * limits_.page_size;
  int64_t n_promised = n_lacking(sequence);
  for (const Sequence* running : running_) n_promised += n_lacking(*running);
  if (n_running() > 0 && n_promised > n_available()) {
    release(sequence);
    return false;
  }
  if (!sequence.was_admitted) sequence.n_cached = sequence.n_computed;
  sequence.was_admitted = true;
  waiting_.pop_front();
  running_.push_back(&sequence);
  return true;
}

int64_t Scheduler::n_lacking(const Sequence& sequence) const {
  const auto n_tokens = static_cast<int64_t>(sequence.tokens.size());
  const int64_t n_pages = n_tokens / limits_.page_size + 1;
  return std::max<int64_t>(0, n_pages - static_cast<int64_t>(sequence.pages.size()));
}

int64_t Scheduler::n_available() const {
  // A page that one holds alone is a running sequence's, or the cache's.
  int64_t n_own = 0;
  for (const Sequence* sequence : running_)
    n_own += static_cast<int64_t>(sequence->pages.size()) - sequence->n_remembered;
  return pool_.n_free() + pool_.n_held_once() - n_own;
}

bool Scheduler::take_page(Sequence& sequence) {
  auto page = pool_.take();
  while (!page && tree_.evict_one()) page = pool_.take();
  if (page) sequence.pages.push_back(*page);
  return page.has_value();
}

int64_t Scheduler::reserve(Sequence& sequence, int64_t end) {
  const auto reach = [&] { return static_cast<int64_t>(sequence.pages.size()) * limits_.page_size; };
  while (reach() < end) {
    if (take_page(sequence)) continue;
    Sequence& youngest = *running_.back();
    if (&youngest == &sequence && reach() > sequence.n_computed) return reach();
    preempt(youngest);
    if (&youngest == &sequence) return 0;
  }
  return end;
}

bool Scheduler::take_slot(Sequence& sequence) {
  if (!is_recurrent()) return true;
  sequence.next_slot = sequence.slot;
  if (sequence.slot >= 0 && slots_.n_holders(sequence.slot) == 1)
    return true;  // nobody else needs what it holds
  auto slot = slots_.take();
  while (!slot && tree_.evict_snapshot()) slot = slots_.take();
  sequence.next_slot = slot.value_or(-1);
  return slot.has_value();
}

int64_t Scheduler::prompt_stop(const Sequence& sequence) const {
  return (sequence.n_prompt - 1) / limits_.page_size *
         limits_.page_size;  // the last token is computed always
}

int64_t Scheduler::next_stop(const Sequence& sequence) const {
  const int64_t distance = limits_.snapshot_distance;
  const int64_t next = (sequence.n_computed / distance + 1) * distance;
  const int64_t of_prompt = prompt_stop(sequence);
  return sequence.n_computed < of_prompt ? std::min(next, of_prompt) : next;
}

void Scheduler::preempt(Sequence& sequence) {
  remember(sequence);  // what stays in the cache need not be computed again
  release(sequence);
  std::erase(running_, &sequence);
  waiting_.push_front(&sequence);
  ++n_preemptions_;
}

void Scheduler::release(Sequence& sequence) {
  for (const Page page : sequence.pages) pool_.release(page);
  sequence.pages.clear();
  if (sequence.next_slot >= 0 && sequence.next_slot != sequence.slot) slots_.release(sequence.next_slot);
  if (sequence.slot >= 0) slots_.release(sequence.slot);
  sequence.slot = sequence.next_slot = -1;
  sequence.n_computed = 0;
  sequence.n_remembered = 0;
}

void Scheduler::remember(Sequence& sequence) {
  if (!limits_.has_prefix_cache) return;
  const auto n_full = static_cast<size_t>(sequence.n_computed / limits_.page_size);
  tree_.insert(sequence.rope_table, sequence.tokens, std::span(sequence.pages).first(n_full));
  sequence.n_remembered = static_cast<int64_t>(n_full);
}

void Scheduler::remember_state(const Sequence& sequence) {
  const int64_t n = sequence.n_computed;
  if (n % limits_.snapshot_distance != 0 && n != prompt_stop(sequence)) return;
  tree_.add_snapshot(sequence.rope_table, std::span(sequence.tokens).first(static_cast<size_t>(n)),
                     sequence.slot);
}

void Scheduler::commit(const std::vector<PlannedRows>& rows) {
  for (const PlannedRows& planned : rows) {
    Sequence& sequence = *planned.sequence;
    const bool fills_a_page = planned.begin / limits_.page_size != planned.end / limits_.page_size;
    sequence.n_computed = planned.end;
    const Slot before = std::exchange(sequence.slot, std::exchange(sequence.next_slot, -1));
    if (before >= 0 && before != sequence.slot) slots_.release(before);
    if (!fills_a_page) continue;
    remember(sequence);
    if (has_snapshots()) remember_state(sequence);
  }
}

void Scheduler::remove(Sequence& sequence) {
  if (std::erase(running_, &sequence) > 0) {
    remember(sequence);
    release(sequence);
  } else {
    std::erase(waiting_, &sequence);
  }
}

void Scheduler::check_integrity() const {
  tree_.check_integrity();
  std::vector<int32_t> n_held(static_cast<size_t>(limits_.n_pages), 0);
  for (const Sequence* sequence : running_) {
    const auto n_pages = static_cast<int64_t>(sequence->pages.size());
    check(n_pages * limits_.page_size >= sequence->n_computed, "computed positions have pages");
    for (const Page page : sequence->pages) ++n_held[static_cast<size_t>(page)];
  }
  for (const Sequence* sequence : waiting_)
    check(sequence->pages.empty() && sequence->slot < 0, "who waits holds no pages and no slot");
  int64_t n_of_tree = 0, n_of_tree_alone = 0;
  for (Page page = 0; page < limits_.n_pages; ++page) {
    const int32_t rest = pool_.n_holders(page) - n_held[static_cast<size_t>(page)];
    check(rest == 0 || rest == 1, "a page is held by its sequences and at most once by the tree");
    n_of_tree += rest;
    if (rest == 1 && n_held[static_cast<size_t>(page)] == 0) ++n_of_tree_alone;
  }
  check(n_of_tree == tree_.n_pages(), "no page is lost");
  check(n_available() == pool_.n_free() + n_of_tree_alone, "the pages that can be had are counted");
  int64_t n_slots_held = tree_.n_snapshots();
  for (const Sequence* sequence : running_) {
    const bool has_next = sequence->next_slot >= 0 && sequence->next_slot != sequence->slot;
    n_slots_held += (sequence->slot >= 0 ? 1 : 0) + (has_next ? 1 : 0);
  }
  for (Slot slot = 0; slot < limits_.n_slots; ++slot) n_slots_held -= slots_.n_holders(slot);
  check(n_slots_held == 0, "no slot is lost");
}

}  // namespace millrace
