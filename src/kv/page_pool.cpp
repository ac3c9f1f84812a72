#include "kv/page_pool.h"

#include <numeric>

#include "base/error.h"

namespace millrace {

PagePool::PagePool(int64_t n_pages)
    : n_holders_(static_cast<size_t>(n_pages), 0),
      is_cached_(static_cast<size_t>(n_pages), false),
      free_(static_cast<size_t>(n_pages)) {
  std::iota(free_.rbegin(), free_.rend(), Page{0});  // the lowest page is taken first
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
  free_.push_back(page);
}

void PagePool::set_cached(Page page, bool is_cached) {
  check(n_holders(page) > 0, "a free page is not cached");
  n_idle_ -= is_idle(page) ? 1 : 0;
  is_cached_[static_cast<size_t>(page)] = is_cached;
  n_idle_ += is_idle(page) ? 1 : 0;
}

}  // namespace millrace
