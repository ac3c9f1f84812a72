// What the scheduler fetches from the tier below the prefix cache before the first rows of a sequence, and
// what a preempted one parks there.
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "engine/scheduler.h"

namespace millrace {

std::optional<Fetch> Scheduler::find_in_tier(const Sequence& sequence) const {
  if (tier_ == nullptr) return std::nullopt;
  const auto n_matched = static_cast<int64_t>(sequence.pages.size());
  const auto n_full = static_cast<int64_t>(known_tokens(sequence).size()) / limits_.page_size;
  const Window& window = pool_.window();
  // What is matched has the panes that anything after it sees; of what follows it, all from `first_pane` on.
  int64_t n_shared = n_matched, n_found = n_matched, first_pane = 0;
  RadixTree::Place place = sequence.place;
  PageKey key = RadixTree::key_of(sequence.place);
  while (limits_.has_prefix_cache && n_shared < n_full) {
    const std::span<const int32_t> tokens = tokens_of_page(sequence, n_shared);
    if (place != nullptr) place = tree_.child(place, tokens);
    key = next_key(key, tokens);
    if (place == nullptr && !tier_->has(key)) break;
    const bool has_pane = place != nullptr && pool_.has_pane(RadixTree::page_of(place));
    ++n_shared;
    if (limits_.window > 0 && !has_pane && !tier_->has(pane_key(key))) first_pane = n_shared;
    const bool has_state = !is_recurrent() || tier_->has(state_key(key));
    if (has_state && window.first_page(n_shared * limits_.page_size) >= first_pane) n_found = n_shared;
  }
  const std::optional<Parked>& parked = sequence.parked;
  if (parked && n_shared >= parked->n_shared && parked->n_computed > n_matched * limits_.page_size &&
      window.first_page(parked->n_computed) >= first_pane)
    return Fetch{.n_shared = std::max(n_matched, parked->n_shared),
                 .n_pages = (parked->n_computed + limits_.page_size - 1) / limits_.page_size,
                 .n_computed = parked->n_computed,
                 .is_parked = true};
  const auto n_rows = static_cast<double>((n_found - n_matched) * limits_.page_size);
  const double load_us = static_cast<double>(n_found - n_matched) * costs_.page_us + costs_.state_us;
  if (n_found == n_matched || load_us >= n_rows * costs_.row_us) return std::nullopt;
  return Fetch{.n_shared = n_found, .n_pages = n_found, .n_computed = n_found * limits_.page_size};
}

bool Scheduler::is_fetching() const {
  return std::ranges::any_of(running_, [](const Sequence* sequence) { return sequence->fetch.has_value(); });
}

Scheduler::Fetched Scheduler::fetch(Sequence& sequence) {
  const Fetch& wanted = *sequence.fetch;
  pass(sequence, pool_.window().first_page(wanted.n_computed), PagePool::Left::behind);
  while (static_cast<int64_t>(sequence.pages.size()) < wanted.n_pages) {
    const Fetched page = fetch_page(sequence);
    if (page == Fetched::later) return page;
    const int64_t n_reached = static_cast<int64_t>(sequence.pages.size()) * limits_.page_size;
    if (!needs_its_end()) sequence.n_computed = std::min(n_reached, wanted.n_computed);
    if (page == Fetched::lost) return page;
  }
  if (is_recurrent() && !fetch_state(sequence)) return Fetched::lost;
  sequence.n_computed = wanted.n_computed;
  return Fetched::all;
}

Scheduler::Fetched Scheduler::fetch_page(Sequence& sequence) {
  const auto i = static_cast<int64_t>(sequence.pages.size());
  const bool is_shared = i < sequence.fetch->n_shared;
  const bool needs_pane = i >= pool_.window().first_page(sequence.fetch->n_computed);
  // Somebody else may have fetched or computed it.
  const RadixTree::Place child =
      is_shared ? tree_.child(sequence.place, tokens_of_page(sequence, i)) : nullptr;
  const bool is_there = child != nullptr && (!needs_pane || pool_.has_pane(RadixTree::page_of(child)));
  if (!is_there && !tier_->may_begin_load()) return Fetched::later;
  const bool is_fetched =
      child != nullptr ? share_page(sequence, child, needs_pane) : load_page(sequence, is_shared, needs_pane);
  if (!is_fetched) return Fetched::lost;
  if (!needs_pane) sequence.n_passed = i + 1;
  return Fetched::all;
}

bool Scheduler::share_page(Sequence& sequence, RadixTree::Place child, bool needs_pane) {
  const Page page = RadixTree::page_of(child);
  pool_.hold(page);
  if (needs_pane && pool_.has_pane(page)) {
    pool_.need_pane(page);
  } else if (needs_pane) {
    if (!load_pane(page, pane_key(RadixTree::key_of(child)))) {
      pool_.release(page);
      return false;
    }
    tree_.set_pane_kept(child);
  }
  sequence.pages.push_back(page);
  sequence.place = child;
  ++sequence.n_remembered;
  return true;
}

bool Scheduler::load_page(Sequence& sequence, bool is_shared, bool needs_pane) {
  const auto i = static_cast<int64_t>(sequence.pages.size());
  const PageKey key = is_shared ? next_key(RadixTree::key_of(sequence.place), tokens_of_page(sequence, i))
                                : parked_key(sequence.id, i);
  if (!take_page(sequence, false)) return false;
  const Page page = sequence.pages.back();
  if (!tier_->load(key, page) || (needs_pane && !load_pane(page, pane_key(key)))) {
    pool_.release(page);
    sequence.pages.pop_back();
    return false;
  }
  ++n_fetched_;
  if (!is_shared) return true;
  sequence.place =
      tree_.extend(sequence.place, tokens_of_page(sequence, i), std::span(sequence.pages).last(1));
  tree_.set_page_kept(sequence.place);
  if (needs_pane) tree_.set_pane_kept(sequence.place);
  ++sequence.n_remembered;
  return true;
}

bool Scheduler::load_pane(Page page, const PageKey& key) {
  if (limits_.window == 0) return true;
  if (!take_pane(page)) return false;
  if (tier_->load_pane(key, pool_.pane_of(page))) return true;
  pool_.leave_pane(page, PagePool::Left::behind);
  if (pool_.has_pane(page)) pool_.drop_pane(page);  // nobody may find what it holds
  return false;
}

bool Scheduler::fetch_state(Sequence& sequence) {
  const bool is_parked = sequence.fetch->is_parked;
  if (sequence.slot >= 0) slots_.release(std::exchange(sequence.slot, -1));
  if (!take_slot(sequence)) return false;
  sequence.slot = std::exchange(sequence.next_slot, -1);
  const PageKey key = is_parked ? parked_key(sequence.id, -1) : state_key(RadixTree::key_of(sequence.place));
  if (!tier_->load_state(key, sequence.slot)) return false;
  if (is_parked) return true;
  tree_.add_snapshot(sequence.place, sequence.slot);
  tree_.set_snapshot_kept(sequence.place);
  return true;
}

// Rows that it would compute again: what comes after the last page, or snapshot, that the prefix cache keeps.
int64_t Scheduler::n_lost(const Sequence& sequence) const {
  if (!is_recurrent()) return sequence.n_computed - sequence.n_remembered * limits_.page_size;
  return has_snapshots() ? sequence.n_computed % limits_.snapshot_distance : sequence.n_computed;
}

bool Scheduler::is_parking_wanted(const Sequence& sequence) const {
  // Before its first rows it has nothing that is not known elsewhere; what it parked before stays.
  if (tier_ == nullptr || !sequence.has_rows || n_lost(sequence) == 0) return false;
  if (limits_.preemption != Preemption::by_cost) return limits_.preemption == Preemption::park;
  const double n_pages = static_cast<double>(n_used_pages(sequence) - sequence.n_remembered);
  const double move_us = n_pages * costs_.page_us + (is_recurrent() ? costs_.state_us : 0.0);
  return 2.0 * move_us < static_cast<double>(n_lost(sequence)) * costs_.row_us;
}

void Scheduler::park_page(const Sequence& sequence, int64_t i) {
  const PageKey key = parked_key(sequence.id, i);
  const Page page = sequence.pages[static_cast<size_t>(i)];
  tier_->save(key, page, PageTier::Keep::parked);
  if (limits_.window > 0 && i >= sequence.n_passed)
    tier_->save_pane(pane_key(key), pool_.pane_of(page), PageTier::Keep::parked);
}

void Scheduler::park(Sequence& sequence) {
  if (!is_parking_wanted(sequence)) return;
  for (int64_t i = sequence.n_remembered; i < n_used_pages(sequence); ++i) park_page(sequence, i);
  if (is_recurrent()) tier_->save_state(parked_key(sequence.id, -1), sequence.slot, PageTier::Keep::parked);
  sequence.parked = {.n_shared = sequence.n_remembered, .n_computed = sequence.n_computed};
  ++n_parked_;
}

void Scheduler::drop_parked(Sequence& sequence) {
  if (!sequence.parked) return;
  const auto [n_shared, n_computed] = *std::exchange(sequence.parked, std::nullopt);
  for (int64_t i = n_shared; i * limits_.page_size < n_computed; ++i) {
    const PageKey key = parked_key(sequence.id, i);
    tier_->drop(key);
    if (limits_.window > 0) tier_->drop(pane_key(key));
  }
  if (is_recurrent()) tier_->drop(parked_key(sequence.id, -1));
}

}  // namespace millrace
