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
  return page;
}

void PagePool::hold(Page page) {
  check(n_holders(page) > 0, "a free page cannot be held");
  ++n_holders_[static_cast<size_t>(page)];
}

void PagePool::release(Page page) {
  check(n_holders(page) > 0, "a free page cannot be released");
  if (--n_holders_[static_cast<size_t>(page)] == 0) free_.push_back(page);
}

}  // namespace millrace
