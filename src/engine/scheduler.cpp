#include "engine/scheduler.h"

#include <algorithm>

#include "base/error.h"

namespace millrace {

Scheduler::Scheduler(const Limits& limits)
    : limits_(limits), pool_(limits.n_pages), tree_(pool_, limits.page_size) {}

void Scheduler::add(Sequence& sequence) { waiting_.push_back(&sequence); }

std::vector<PlannedRows> Scheduler::plan() {
  std::vector<PlannedRows> plan;
  int64_t budget = limits_.max_rows;
  const int64_t n_preemptions = n_preemptions_;
  const auto give_rows = [&](Sequence& sequence) {
    const int64_t begin = sequence.n_computed;
    const int64_t end = reserve(sequence, begin + std::min(n_left(sequence), budget));
    if (end <= begin) return;
    plan.push_back({&sequence, begin, end});
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
  if (limits_.has_prefix_cache) sequence.pages = tree_.match(sequence.rope_table, known);
  sequence.n_remembered = static_cast<int64_t>(sequence.pages.size());
  sequence.n_computed = sequence.n_remembered * limits_.page_size;
  int64_t n_promised = n_lacking(sequence);
  for (const Sequence* running : running_) n_promised += n_lacking(*running);
  if (n_running() > 0 && n_promised > n_available()) {
    release_pages(sequence);
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

void Scheduler::preempt(Sequence& sequence) {
  remember(sequence);  // what stays in the cache need not be computed again
  release_pages(sequence);
  std::erase(running_, &sequence);
  waiting_.push_front(&sequence);
  ++n_preemptions_;
}

void Scheduler::release_pages(Sequence& sequence) {
  for (const Page page : sequence.pages) pool_.release(page);
  sequence.pages.clear();
  sequence.n_computed = 0;
  sequence.n_remembered = 0;
}

void Scheduler::remember(Sequence& sequence) {
  if (!limits_.has_prefix_cache) return;
  const auto n_full = static_cast<size_t>(sequence.n_computed / limits_.page_size);
  tree_.insert(sequence.rope_table, sequence.tokens, std::span(sequence.pages).first(n_full));
  sequence.n_remembered = static_cast<int64_t>(n_full);
}

void Scheduler::commit(const std::vector<PlannedRows>& rows) {
  for (const PlannedRows& planned : rows) {
    Sequence& sequence = *planned.sequence;
    const bool fills_a_page = planned.begin / limits_.page_size != planned.end / limits_.page_size;
    sequence.n_computed = planned.end;
    if (fills_a_page) remember(sequence);
  }
}

void Scheduler::remove(Sequence& sequence) {
  if (std::erase(running_, &sequence) > 0) {
    remember(sequence);
    release_pages(sequence);
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
  for (const Sequence* sequence : waiting_) check(sequence->pages.empty(), "who waits holds no pages");
  int64_t n_of_tree = 0, n_of_tree_alone = 0;
  for (Page page = 0; page < limits_.n_pages; ++page) {
    const int32_t rest = pool_.n_holders(page) - n_held[static_cast<size_t>(page)];
    check(rest == 0 || rest == 1, "a page is held by its sequences and at most once by the tree");
    n_of_tree += rest;
    if (rest == 1 && n_held[static_cast<size_t>(page)] == 0) ++n_of_tree_alone;
  }
  check(n_of_tree == tree_.n_pages(), "no page is lost");
  check(n_available() == pool_.n_free() + n_of_tree_alone, "the pages that can be had are counted");
}

}  // namespace millrace
