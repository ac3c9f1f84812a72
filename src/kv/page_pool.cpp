#include "kv/page_pool.h"

#include <numeric>
#include <utility>

#include "base/error.h"

namespace millrace {

PagePool::PagePool(int64_t n_pages, const Window& window)
    : n_holders_(static_cast<size_t>(n_pages), 0),
      is_cached_(static_cast<size_t>(n_pages), false),
      free_(static_cast<size_t>(n_pages)),
      window_(window) {
  std::iota(free_.rbegin(), free_.rend(), Page{0});  // the lowest page is taken first
  if (!has_panes()) return;
  panes_.assign(n_holders_.size(), -1);
  n_needing_.assign(n_holders_.size(), 0);
  was_begun_from_.assign(n_holders_.size(), false);
  idle_at_.assign(n_holders_.size(), idle_.end());
  free_panes_.resize(static_cast<size_t>(window.n_panes));
  std::iota(free_panes_.rbegin(), free_panes_.rend(), Pane{0});
}

std::optional<Page> PagePool::take() {
  if (free_.empty()) return std::nullopt;
  const Page page = free_.back();
  free_.pop_back();
  n_holders_[static_cast<size_t>(page)] = 1;
  return page;
}

void PagePool::hold(Page page) {
  check(n_holders(page) > 0, "a free page cannot be held");
  n_idle_ -= is_idle(page) ? 1 : 0;
  ++n_holders_[static_cast<size_t>(page)];
}

void PagePool::release(Page page) {
  check(n_holders(page) > 0, "a free page cannot be released");
  const int32_t n_left = --n_holders_[static_cast<size_t>(page)];
  n_idle_ += is_idle(page) ? 1 : 0;
  if (n_left > 0) return;
  check(!is_cached_[static_cast<size_t>(page)], "the prefix cache holds what it keeps");
  if (has_panes() && pane_of(page) >= 0) drop_pane(page);
  free_.push_back(page);
}

void PagePool::set_cached(Page page, bool is_cached) {
  check(n_holders(page) > 0, "a free page is not cached");
  n_idle_ -= is_idle(page) ? 1 : 0;
  is_cached_[static_cast<size_t>(page)] = is_cached;
  n_idle_ += is_idle(page) ? 1 : 0;
}

bool PagePool::take_pane(Page page) {
  if (!has_panes()) return true;
  check(pane_of(page) < 0 && n_holders(page) > 0, "a held page without a pane");
  if (free_panes_.empty()) return false;
  panes_[static_cast<size_t>(page)] = free_panes_.back();
  free_panes_.pop_back();
  n_needing_[static_cast<size_t>(page)] = 1;
  was_begun_from_[static_cast<size_t>(page)] = false;
  return true;
}

void PagePool::need_pane(Page page) {
  if (!has_panes()) return;
  check(pane_of(page) >= 0, "a pane that is there");
  if (has_idle_pane(page)) idle_.erase(idle_at_[static_cast<size_t>(page)]);
  ++n_needing_[static_cast<size_t>(page)];
  was_begun_from_[static_cast<size_t>(page)] = true;
}

void PagePool::leave_pane(Page page, Left how) {
  if (!has_panes()) return;
  check(n_needing(page) > 0, "a pane that is needed");
  if (--n_needing_[static_cast<size_t>(page)] > 0) return;
  const bool leaves_first = how == Left::behind && !was_begun_from_[static_cast<size_t>(page)];
  idle_at_[static_cast<size_t>(page)] = idle_.insert(leaves_first ? idle_.begin() : idle_.end(), page);
  if (!is_cached_[static_cast<size_t>(page)]) drop_pane(page);
}

void PagePool::move_pane(Page from, Page to) {
  if (!has_panes() || n_needing(from) == 0) return;
  check(n_holders(from) == 1 && n_needing(from) == 1, "a page of one holder");
  if (pane_of(to) < 0) {
    panes_[static_cast<size_t>(to)] = std::exchange(panes_[static_cast<size_t>(from)], -1);
    n_needing_[static_cast<size_t>(to)] = std::exchange(n_needing_[static_cast<size_t>(from)], 0);
    was_begun_from_[static_cast<size_t>(to)] = true;  // it was known as a beginning
  } else {
    need_pane(to);
    leave_pane(from, Left::behind);
  }
}

std::optional<Page> PagePool::idlest() const {
  return idle_.empty() ? std::nullopt : std::optional(idle_.front());
}

void PagePool::drop_pane(Page page) {
  check(has_idle_pane(page), "a pane that nobody needs");
  idle_.erase(idle_at_[static_cast<size_t>(page)]);
  free_panes_.push_back(std::exchange(panes_[static_cast<size_t>(page)], -1));
}

}  // namespace millrace
