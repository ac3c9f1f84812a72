#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace millrace {

Scheduler::Scheduler(const Limits& limits, PageMover& mover, PageTier* tier, PrefixListener* listener)
    : limits_(limits),
      mover_(mover),
      tier_(tier),
      pool_(limits.n_pages,
            {.n_positions = limits.window, .page_size = limits.page_size, .n_panes = limits.n_panes}),
      slots_(limits.n_slots),
      tree_(pool_, limits.page_size, is_recurrent() ? &slots_ : nullptr, tier, limits.n_kept_pages) {
  tree_.set_listener(listener);
  // One more, so that somebody can always leave the snapshot that it begins with.
  check(!is_recurrent() || limits.n_slots >= limits.max_sequences + (limits.has_prefix_cache ? 1 : 0),
        "there is a slot for each sequence");
  check(limits.window == 0 || limits.n_panes >= enough_panes(limits.window, limits.page_size),
        "there are panes for a sequence");
  check(
      !has_snapshots() || (limits.snapshot_distance > 0 && limits.snapshot_distance % limits.page_size == 0),
      "snapshots lie between pages");
}

void Scheduler::add(Sequence& sequence) {
  sequence.arrival = ++n_arrivals_;
  queue_.push_back(sequence);
}

void Scheduler::fork(const Sequence& parent, Sequence& child) {
  check(parent.is_running && parent.n_left() == 0, "what is computed can be forked");
  child.arrival = parent.arrival;
  child.n_charged = parent.n_charged;
  child.n_cached = parent.n_cached;
  child.was_started = true;
  queue_.arrive(child);
  const auto n_full = static_cast<size_t>(parent.n_computed / limits_.page_size);
  child.pages.assign(parent.pages.begin(), parent.pages.begin() + static_cast<ptrdiff_t>(n_full));
  child.n_passed = parent.n_passed;
  for (size_t i = 0; i < child.pages.size(); ++i) {
    pool_.hold(child.pages[i]);
    if (static_cast<int64_t>(i) >= child.n_passed) pool_.need_pane(child.pages[i]);
  }
  child.n_remembered = parent.n_remembered;
  child.place = parent.place;
  const bool has_rest = parent.n_computed % limits_.page_size > 0;
  if (n_running() >= limits_.max_sequences || !has_room_for(child) || (has_rest && !take_page(child))) {
    release(child);
    return queue_.push_front(child);
  }
  if (has_rest) copy_page(parent.pages[n_full], child.pages.back());
  child.n_computed = parent.n_computed;
  child.has_rows = true;
  child.slot = parent.slot;
  if (child.slot >= 0) slots_.hold(child.slot);
  start(child);
}

std::vector<PlannedRows> Scheduler::plan(bool may_fetch) {
  ++n_steps_;
  if (tier_ != nullptr) tier_->begin_step();
  while (admit_next()) {
  }
  Step step{.rows = {},
            .budget = limits_.max_rows,
            .logits_budget = limits_.max_sequences - n_running(),
            .may_fetch = may_fetch};
  // Parted before anything is planned: what is matched or fetched on the way may make an answer of a prompt,
  // or a prompt of an answer.
  std::vector<Sequence*> answers, prompts;
  for (Sequence* sequence : running_) (is_answering(*sequence) ? answers : prompts).push_back(sequence);
  for (size_t i = 0; i < answers.size() && step.budget > 0; ++i) {
    if (answers[i]->is_running) give_rows(step, *answers[i], answers[i]->n_left());
  }
  std::erase_if(prompts, [](const Sequence* sequence) { return !sequence->is_running; });
  if (!prompts.empty()) plan_prompts(step, prompts);
  // Some of the pages may have come from sequences that were planned before: those do not run any more.
  std::erase_if(step.rows, [](const PlannedRows& rows) { return !rows.sequence->is_running; });
  return std::move(step.rows);
}

void Scheduler::plan_prompts(Step& step, std::vector<Sequence*>& prompts) {
  Sequence& oldest = *prompts.front();
  int64_t n_for_oldest = std::min(oldest.n_left(), step.budget);
  if (prompts.size() > 1) n_for_oldest = std::min(n_for_oldest, (step.budget + 1) / 2);
  if (limits_.keeps_sequences_whole) {
    n_for_oldest = oldest.n_left();
  } else {
    std::ranges::stable_sort(prompts.begin() + 1, prompts.end(), [](const Sequence* a, const Sequence* b) {
      return std::pair(-a->priority, a->n_left()) < std::pair(-b->priority, b->n_left());
    });
  }
  give_rows(step, oldest, n_for_oldest);
  for (size_t i = 1; i < prompts.size() && step.budget > 0; ++i) {
    if (prompts[i]->is_running && !follows_another(step, *prompts[i]))
      give_rows(step, *prompts[i], prompts[i]->n_left());
  }
}

void Scheduler::give_rows(Step& step, Sequence& sequence, int64_t n_rows) {
  const bool is_whole = limits_.keeps_sequences_whole;
  if (is_whole && sequence.n_left() > step.budget) return;  // it is the first one some time
  if (!sequence.has_rows && !match_again(sequence, step.may_fetch)) return;
  const int64_t begin = sequence.n_computed;
  if (sequence.is_scored) n_rows = std::min(n_rows, 1 + step.logits_budget);
  const int64_t wanted = begin + std::min({sequence.n_left(), n_rows, step.budget});
  const int64_t end = reserve(sequence, has_snapshots() ? std::min(wanted, next_stop(sequence)) : wanted);
  if (end <= begin || !take_slot(sequence)) return;
  sequence.has_rows = sequence.was_started = true;
  step.rows.push_back({&sequence, begin, end, sequence.slot, sequence.next_slot, sequence.is_scored});
  step.budget -= end - begin;
  if (sequence.is_scored) step.logits_budget -= end - begin - 1;
}

bool Scheduler::follows_another(const Step& step, const Sequence& sequence) const {
  if (!limits_.has_prefix_cache || sequence.has_rows) return false;
  const std::span<const int32_t> known = known_tokens(sequence);
  return std::ranges::any_of(step.rows, [&](const PlannedRows& rows) {
    if (rows.end - rows.begin == 1 || rows.sequence->rope_table != sequence.rope_table) return false;
    const std::vector<int32_t>& other = rows.sequence->tokens;
    const auto n = static_cast<ptrdiff_t>(std::min(other.size(), known.size()));
    const int64_t n_common =
        std::mismatch(known.begin(), known.begin() + n, other.begin()).first - known.begin();
    return n_common / limits_.page_size > rows.begin / limits_.page_size;
  });
}

bool Scheduler::admit_next() {
  Sequence* const next = queue_.front();
  if (next == nullptr || next == blocked_) return false;
  Sequence& sequence = *next;
  match(sequence);
  if (!can_make_room_for(sequence) || !make_room_for(sequence)) {
    release(sequence);
    blocked_ = next;
    return false;
  }
  queue_.pop_front();
  sequence.n_charged = std::max(sequence.n_charged, sequence.n_computed);  // what is known costs nothing
  start(sequence);
  return true;
}

bool Scheduler::has_room_for(const Sequence& sequence) const {
  if (running_.empty()) return true;
  Room promised = lacking(sequence);
  for (const Sequence* running : running_) promised += lacking(*running);
  return n_running() < limits_.max_sequences && promised.fits_into(available());
}

bool Scheduler::can_make_room_for(const Sequence& sequence) const {
  Room promised = lacking(sequence), had = available();
  int64_t n_staying = 0;
  for (const Sequence* running : running_) {
    const bool stays = running->priority >= sequence.priority;
    n_staying += stays ? 1 : 0;
    (stays ? promised : had) += stays ? lacking(*running) : held(*running);
  }
  return n_staying == 0 || (n_staying < limits_.max_sequences && promised.fits_into(had));
}

bool Scheduler::make_room_for(const Sequence& sequence) {
  while (!has_room_for(sequence)) {
    if (running_.back()->priority >= sequence.priority) return false;
    preempt(*running_.back());
  }
  return true;
}

void Scheduler::start(Sequence& sequence) {
  queue_.charge(sequence, static_cast<int64_t>(sequence.tokens.size()));
  sequence.is_running = true;
  const auto is_before = [](const Sequence* a, const Sequence* b) {
    return a->priority != b->priority ? a->priority > b->priority : a->arrival < b->arrival;
  };
  running_.insert(std::ranges::upper_bound(running_, &sequence, is_before), &sequence);
}

// The newest token is always computed: its logits are wanted. So are those that are not scored yet.
std::span<const int32_t> Scheduler::known_tokens(const Sequence& sequence) const {
  const size_t n = sequence.is_scored ? static_cast<size_t>(sequence.n_scored) : sequence.tokens.size() - 1;
  return std::span(sequence.tokens).first(n);
}

void Scheduler::match(Sequence& sequence) {
  sequence.matched_at = n_steps_;
  sequence.place = tree_.root(sequence.rope_table);
  if (!limits_.has_prefix_cache) return;
  const std::span<const int32_t> known = known_tokens(sequence);
  RadixTree::Prefix prefix = tree_.match(sequence.rope_table, known);
  sequence.place = prefix.place;
  sequence.pages = std::move(prefix.pages);
  sequence.slot = prefix.snapshot;
  sequence.n_remembered = static_cast<int64_t>(sequence.pages.size());
  sequence.n_computed = sequence.n_remembered * limits_.page_size;
  sequence.n_passed = pool_.window().first_page(sequence.n_computed);
}

bool Scheduler::match_again(Sequence& sequence, bool may_fetch) {
  if (!sequence.fetch) {
    if (limits_.has_prefix_cache && sequence.matched_at != n_steps_) {
      release(sequence);
      match(sequence);
    }
    sequence.fetch = find_in_tier(sequence);
  }
  if (sequence.fetch) {
    if (!may_fetch) return false;
    const Fetched fetched = fetch(sequence);
    if (fetched == Fetched::later) return false;
    const bool is_parked = std::exchange(sequence.fetch, std::nullopt)->is_parked;
    sequence.has_rows = fetched == Fetched::all && is_parked;  // nobody else knows them
    if (fetched == Fetched::lost && needs_its_end()) {
      release(sequence);
      match(sequence);
    }
  }
  drop_parked(sequence);
  const bool ends_with_a_page = sequence.n_computed % limits_.page_size == 0;
  if (limits_.has_prefix_cache && !is_recurrent() && ends_with_a_page) copy_partial_page(sequence);
  if (!sequence.was_started) sequence.n_cached = sequence.n_computed;
  return true;
}

std::span<const int32_t> Scheduler::tokens_of_page(const Sequence& sequence, int64_t page) const {
  return std::span(sequence.tokens)
      .subspan(static_cast<size_t>(page * limits_.page_size), static_cast<size_t>(limits_.page_size));
}

void Scheduler::copy_partial_page(Sequence& sequence) {
  const auto [page, n_tokens] = tree_.match_partly(
      sequence.place, known_tokens(sequence).subspan(static_cast<size_t>(sequence.n_computed)));
  // A whole one became known after the match.
  if (n_tokens == 0 || n_tokens == limits_.page_size || !pool_.has_pane(page)) return;
  // Evicting for its copy must not give it back.
  pool_.hold(page);
  pool_.need_pane(page);
  if (take_page(sequence)) {
    copy_page(page, sequence.pages.back());
    sequence.n_computed += n_tokens;
  }
  pool_.leave_pane(page, PagePool::Left::at_the_end);
  pool_.release(page);
}

void Scheduler::copy_page(Page from, Page to) {
  mover_.copy_page(from, to);
  if (limits_.window > 0) mover_.copy_pane(pool_.pane_of(from), pool_.pane_of(to));
}

Scheduler::Room Scheduler::lacking(const Sequence& sequence) const {
  const auto n_tokens = static_cast<int64_t>(sequence.tokens.size());
  const int64_t n_pages = n_tokens / limits_.page_size + 1;
  const Room has = held(sequence);
  return {std::max<int64_t>(0, n_pages - has.n_pages),
          std::max<int64_t>(0, n_pages - pool_.window().first_page(n_tokens) - has.n_panes)};
}

Scheduler::Room Scheduler::available() const {
  if (limits_.window == 0) return {n_available(), n_available()};  // as if each page were its pane
  const bool may_lack = limits_.n_panes < limits_.n_pages;
  return {n_available(),
          pool_.n_panes_available() - (may_lack ? limits_.max_rows / limits_.page_size + 1 : 0)};
}

bool Scheduler::take_page(Sequence& sequence, bool with_pane) {
  if (with_pane && pool_.n_panes_available() == 0) return false;
  auto page = pool_.take();
  while (!page && tree_.evict_one()) page = pool_.take();
  if (!page) return false;
  const bool is_whole = !with_pane || take_pane(*page);
  check(is_whole, "a pane that can be had");
  sequence.pages.push_back(*page);
  return true;
}

bool Scheduler::take_pane(Page page) {
  while (!pool_.take_pane(page)) {
    if (!tree_.evict_pane()) return false;
  }
  return true;
}

void Scheduler::pass(Sequence& sequence, int64_t first_page, PagePool::Left how) {
  const int64_t end = std::min(first_page, std::ssize(sequence.pages));
  const int64_t first_of_answer = pool_.window().first_page(sequence.n_prompt);
  for (; sequence.n_passed < end; ++sequence.n_passed) {
    // Another answer may be asked for.
    const bool ends_prompt =
        sequence.n_passed >= first_of_answer && sequence.n_passed * limits_.page_size < sequence.n_prompt;
    pool_.leave_pane(sequence.pages[static_cast<size_t>(sequence.n_passed)],
                     ends_prompt ? PagePool::Left::at_the_end : how);
  }
}

int64_t Scheduler::reserve(Sequence& sequence, int64_t end) {
  const auto reach = [&] { return static_cast<int64_t>(sequence.pages.size()) * limits_.page_size; };
  while (reach() < end) {
    if (take_page(sequence)) continue;
    Sequence& youngest = *running_.back();
    // Panes come back as windows move on: nobody has to go for them.
    const bool has_to_wait = &youngest == &sequence || pool_.n_panes_available() == 0;
    if (has_to_wait && reach() > sequence.n_computed) return reach();
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
  park(sequence);
  stop(sequence);
  queue_.push_front(sequence);
  ++n_preemptions_;
}

void Scheduler::stop(Sequence& sequence) {
  release(sequence);
  std::erase(running_, &sequence);
  sequence.is_running = false;
  blocked_ = nullptr;
}

void Scheduler::release(Sequence& sequence) {
  pass(sequence, std::ssize(sequence.pages), PagePool::Left::at_the_end);
  for (const Page page : sequence.pages) pool_.release(page);
  sequence.pages.clear();
  sequence.n_passed = 0;
  if (sequence.next_slot >= 0 && sequence.next_slot != sequence.slot) slots_.release(sequence.next_slot);
  if (sequence.slot >= 0) slots_.release(sequence.slot);
  sequence.slot = sequence.next_slot = -1;
  sequence.n_computed = 0;
  sequence.n_remembered = 0;
  sequence.has_rows = false;
  sequence.fetch.reset();
}

void Scheduler::remember(Sequence& sequence) {
  if (!limits_.has_prefix_cache || sequence.fetch) return;  // what is fetched is known already
  const auto n_known = static_cast<size_t>(sequence.n_remembered);
  const auto n_full = static_cast<size_t>(sequence.n_computed / limits_.page_size);
  const std::span<const int32_t> tokens(sequence.tokens);
  sequence.place =
      tree_.extend(sequence.place, tokens.subspan(n_known * static_cast<size_t>(limits_.page_size)),
                   std::span(sequence.pages).subspan(n_known, n_full - n_known));
  sequence.n_remembered = static_cast<int64_t>(n_full);
}

void Scheduler::remember_state(const Sequence& sequence) {
  const int64_t n = sequence.n_computed;
  if (n % limits_.snapshot_distance != 0 && n != prompt_stop(sequence)) return;
  tree_.add_snapshot(sequence.place, sequence.slot);
}

void Scheduler::commit(const std::vector<PlannedRows>& rows) {
  for (const PlannedRows& planned : rows) {
    Sequence& sequence = *planned.sequence;
    const bool fills_a_page = planned.begin / limits_.page_size != planned.end / limits_.page_size;
    sequence.n_computed = planned.end;
    if (sequence.is_scored) sequence.n_scored = std::max(sequence.n_scored, planned.end);
    sequence.is_scored &= planned.end < sequence.n_prompt;
    queue_.charge(sequence, planned.end);
    const Slot before = std::exchange(sequence.slot, std::exchange(sequence.next_slot, -1));
    if (before >= 0 && before != sequence.slot) slots_.release(before);
    if (fills_a_page) {
      remember(sequence);
      if (has_snapshots()) remember_state(sequence);
    }
    pass(sequence, pool_.window().first_page(sequence.n_computed), PagePool::Left::behind);
  }
}

void Scheduler::recompute_newest(Sequence& sequence) {
  check(!is_recurrent(), "a row that can be computed twice");
  const int64_t newest = std::ssize(sequence.tokens) - 1;
  const bool sees_all = pool_.window().first_page(newest) >= sequence.n_passed;
  if (sequence.is_running && !sees_all) preempt(sequence);
  // With what the tier has, no row would be left.
  sequence.fetch.reset();
  drop_parked(sequence);
  if (sequence.n_computed <= newest) return;
  sequence.n_computed = newest;
  if (sequence.n_remembered * limits_.page_size <= newest) return;
  // The prefix cache has the page that ends with it, and will be told of it once more.
  sequence.place = RadixTree::parent_of(sequence.place);
  --sequence.n_remembered;
}

void Scheduler::remove(Sequence& sequence) {
  if (sequence.is_running) {
    remember(sequence);
    stop(sequence);
  } else {
    queue_.erase(sequence);
    if (blocked_ == &sequence) blocked_ = nullptr;
  }
  drop_parked(sequence);
  queue_.leave(sequence);
}

void Scheduler::check_panes(const std::vector<int32_t>& n_needing) const {
  std::vector<bool> is_taken(static_cast<size_t>(limits_.n_panes), false);
  int64_t n_taken = 0, n_idle = 0;
  for (Page page = 0; page < limits_.n_pages; ++page) {
    check(pool_.n_needing(page) == n_needing[static_cast<size_t>(page)], "panes know who needs them");
    check(pool_.has_pane(page) || pool_.n_needing(page) == 0, "what is needed is there");
    if (!pool_.has_pane(page)) continue;
    check(pool_.n_holders(page) > 0, "a free page has no pane");
    check(!is_taken.at(static_cast<size_t>(pool_.pane_of(page))), "a pane is of one page");
    is_taken[static_cast<size_t>(pool_.pane_of(page))] = true;
    ++n_taken;
    n_idle += pool_.n_needing(page) == 0 ? 1 : 0;
  }
  check(n_taken + pool_.n_free_panes() == limits_.n_panes, "no pane is lost");
  check(n_idle + pool_.n_free_panes() == pool_.n_panes_available(), "the panes that can be had are counted");
}

void Scheduler::check_integrity() const {
  tree_.check_integrity();
  std::vector<int32_t> n_held(static_cast<size_t>(limits_.n_pages), 0), n_needing(n_held);
  for (const Sequence* sequence : running_) {
    const auto n_pages = static_cast<int64_t>(sequence->pages.size());
    check(n_pages * limits_.page_size >= sequence->n_computed, "computed positions have pages");
    for (const Page page : sequence->pages) ++n_held[static_cast<size_t>(page)];
    check(sequence->fetch || sequence->n_passed <= pool_.window().first_page(sequence->n_computed),
          "no pane is given up that is seen");
    check(sequence->fetch || sequence->n_remembered * limits_.page_size <= sequence->n_computed,
          "what is remembered is computed");
    for (int64_t i = sequence->n_passed; i < n_pages; ++i)
      ++n_needing[static_cast<size_t>(sequence->pages[static_cast<size_t>(i)])];
  }
  queue_.for_each([](const Sequence& sequence) {
    check(sequence.pages.empty() && sequence.slot < 0 && !sequence.is_running,
          "who waits holds no pages and no slot");
  });
  int64_t n_of_tree = 0, n_of_tree_alone = 0, n_free = 0;
  for (Page page = 0; page < limits_.n_pages; ++page) {
    n_free += pool_.n_holders(page) == 0 ? 1 : 0;
    const int32_t rest = pool_.n_holders(page) - n_held[static_cast<size_t>(page)];
    check(rest == 0 || rest == 1, "a page is held by its sequences and at most once by the tree");
    n_of_tree += rest;
    if (rest == 1 && n_held[static_cast<size_t>(page)] == 0) ++n_of_tree_alone;
  }
  check(n_of_tree == tree_.n_pages(), "no page is lost");
  if (limits_.window > 0) check_panes(n_needing);
  check(n_available() == n_free + n_of_tree_alone, "the pages that can be had are counted");
  int64_t n_slots_held = tree_.n_snapshots();
  for (const Sequence* sequence : running_) {
    const bool has_next = sequence->next_slot >= 0 && sequence->next_slot != sequence->slot;
    n_slots_held += (sequence->slot >= 0 ? 1 : 0) + (has_next ? 1 : 0);
  }
  for (Slot slot = 0; slot < limits_.n_slots; ++slot) n_slots_held -= slots_.n_holders(slot);
  check(n_slots_held == 0, "no slot is lost");
}

}  // namespace millrace
