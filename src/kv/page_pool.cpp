#include "kv/page_pool.h"

#include <numeric>

#include "base/error.h"

namespace millrace {

PagePool::PagePool(int64_t n_pages)
    : n_holders_(static_cast<size_t>(n_pages), 0), free_(static_cast<size_t>(n_pages)) {
  std::iota(free_.rbegin(), free_.rend(), Page{0});  // the lowest page is taken first
}

std::optional<Page> PagePool::take() {
  if (free_.empty()) return std::nullopt;
  const Page page = free_.back();
  free_.pop_back();
  n_holders_[static_cast<size_t>(page)] = 1;
  ++n_held_once_;
  return page;
}

void PagePool::hold(Page page) {
  check(n_holders(page) > 0, "a free page cannot be held");
  if (++n_holders_[static_cast<size_t>(page)] == 2) --n_held_once_;
}

void PagePool::release(Page page) {
  check(n_holders(page) > 0, "a free page cannot be released");
  const int32_t n_left = --n_holders_[static_cast<size_t>(page)];
  if (n_left == 1) ++n_held_once_;
  if (n_left > 0) return;
  --n_held_once_;
  free_.push_back(page);
}

}  // namespace millrace
