// Which pages are free, and how many hold each of the others. Integers only: the memory is KvCache's. The
// slots of recurrent states are counted in the same way, theirs is StateCache's.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace millrace {

using Page = int32_t;

class PagePool {
 public:
  explicit PagePool(int64_t n_pages);

  int64_t n_pages() const { return static_cast<int64_t>(n_holders_.size()); }
  int64_t n_free() const { return static_cast<int64_t>(free_.size()); }

  // A free page, held once; nothing when all are held.
  std::optional<Page> take();
  // One more holder of a held page.
  void hold(Page page);
  // One holder less; the page is free when it was the last.
  void release(Page page);
  int32_t n_holders(Page page) const { return n_holders_[static_cast<size_t>(page)]; }

  // The prefix cache, one of its holders, says that it keeps the page, or keeps it no longer.
  void set_cached(Page page, bool is_cached);
  // Pages that the prefix cache holds and nobody else: they can be had by evicting.
  int64_t n_idle() const { return n_idle_; }

 private:
  bool is_idle(Page page) const {
    return is_cached_[static_cast<size_t>(page)] && n_holders_[static_cast<size_t>(page)] == 1;
  }

  std::vector<int32_t> n_holders_;  // 0: free
  std::vector<bool> is_cached_;
  std::vector<Page> free_;
  int64_t n_idle_ = 0;
};

using Slot = Page;
using SlotPool = PagePool;

}  // namespace millrace
