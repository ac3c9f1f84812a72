// Which pages are free, and how many hold each of the others. Integers only: the memory is KvCache's. The
// slots of recurrent states are counted in the same way, theirs is StateCache's.
//
// Layers that see no further back than a window keep what they need of a page in its pane, another number. A
// pane is needed while somebody's next row sees its page; after that it stays with a page that the prefix
// cache keeps, idle, until another page takes it. So there are fewer panes than pages:
//
//   pages of a sequence   7  2  9  4  1  8
//   their panes           -  -  -  3  0  5      what the window, and the rows of a step, see
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <list>
#include <optional>
#include <vector>

namespace millrace {

using Page = int32_t;
using Pane = int32_t;

// What the layers with a window need of a sequence.
struct Window {
  int64_t n_positions = 0;  // that a row sees, the last of them its own; 0: every layer sees everything
  int64_t page_size = 1;
  int64_t n_panes = 0;

  // The first page that the row at that position sees.
  int64_t first_page(int64_t position) const {
    return n_positions == 0 ? 0 : std::max<int64_t>(0, position - n_positions + 1) / page_size;
  }
};

class PagePool {
 public:
  explicit PagePool(int64_t n_pages, const Window& window = {});

  int64_t n_pages() const { return static_cast<int64_t>(n_holders_.size()); }
  int64_t n_free() const { return static_cast<int64_t>(free_.size()); }

  // A free page, held once; nothing when all are held.
  std::optional<Page> take();
  // One more holder of a held page.
  void hold(Page page);
  // One holder less; the page, and its pane, are free when it was the last.
  void release(Page page);
  int32_t n_holders(Page page) const { return n_holders_[static_cast<size_t>(page)]; }

  // The prefix cache, one of its holders, says that it keeps the page, or keeps it no longer.
  void set_cached(Page page, bool is_cached);
  // Pages that the prefix cache holds and nobody else: they can be had by evicting.
  int64_t n_idle() const { return n_idle_; }

  // The following do nothing where no layer has a window: every page then has all it can.
  const Window& window() const { return window_; }
  // A pane for a page without one, needed once; false where none is free.
  bool take_pane(Page page);
  bool has_pane(Page page) const { return !has_panes() || pane_of(page) >= 0; }
  Pane pane_of(Page page) const { return panes_[static_cast<size_t>(page)]; }
  // Of all pages; -1 where there is none. Empty where no layer has a window.
  const std::vector<Pane>& panes() const { return panes_; }
  // One more needs the pane, which is there.
  void need_pane(Page page);
  // One needs it less. Of idle panes those leave first that were left behind and that nobody else ever began
  // from, the newest first, for a beginning is shared by more than what follows it; then the others, the one
  // that is idle longest first.
  enum class Left { behind, at_the_end };
  void leave_pane(Page page, Left how);
  // `from`, which has one holder, holds the same as `to`: who needs its pane needs that of `to`, which gets
  // it where it has none.
  void move_pane(Page from, Page to);
  // The page whose idle pane leaves first; nothing where none is idle.
  std::optional<Page> idlest() const;
  // Gives back its idle pane.
  void drop_pane(Page page);
  int64_t n_free_panes() const { return static_cast<int64_t>(free_panes_.size()); }
  // That can be had.
  int64_t n_panes_available() const {
    return has_panes() ? n_free_panes() + std::ssize(idle_) : std::numeric_limits<int64_t>::max();
  }
  int32_t n_needing(Page page) const { return n_needing_[static_cast<size_t>(page)]; }

 private:
  bool has_panes() const { return window_.n_positions > 0; }
  bool is_idle(Page page) const {
    return is_cached_[static_cast<size_t>(page)] && n_holders_[static_cast<size_t>(page)] == 1;
  }
  bool has_idle_pane(Page page) const { return pane_of(page) >= 0 && n_needing(page) == 0; }

  std::vector<int32_t> n_holders_;  // 0: free
  std::vector<bool> is_cached_;
  std::vector<Page> free_;
  int64_t n_idle_ = 0;

  const Window window_;
  std::vector<Pane> panes_;           // by page; -1: none
  std::vector<int32_t> n_needing_;    // by page
  std::vector<bool> was_begun_from_;  // by page: needed by another one than who took its pane
  std::vector<Pane> free_panes_;
  std::list<Page> idle_;                            // with idle panes; the first one leaves first
  std::vector<std::list<Page>::iterator> idle_at_;  // by page
};

using Slot = Page;
using SlotPool = PagePool;

}  // namespace millrace
