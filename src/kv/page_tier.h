// Where the contents of pages and slots go that leave the cache, and come back from: a slower place, which
// knows them by their keys. The tree and the scheduler speak to it in numbers; what moves the bytes stands
// above them (engine/cache_tier.h).
#pragma once

#include "kv/page_key.h"
#include "kv/page_pool.h"

namespace millrace {

// Used by the thread that plans.
class PageTier {
 public:
  virtual ~PageTier() = default;

  // Whether it is there now: it may be gone when it is asked for.
  virtual bool has(const PageKey& key) const = 0;
  // Who has rows in a step waits for what it loads: it has some time for that from begin_step() on, and
  // begins a load only where may_begin_load() says so.
  virtual void begin_step() = 0;
  virtual bool may_begin_load() = 0;
  // False, and anything in `to`, where it is not there or broken.
  virtual bool load(const PageKey& key, Page to) = 0;
  virtual bool load_pane(const PageKey& key, Pane to) = 0;
  virtual bool load_state(const PageKey& key, Slot to) = 0;
  // May drop it at once, or something older. `parked`: of one sequence, of no use to others.
  enum class Keep { shared, parked };
  virtual void save(const PageKey& key, Page from, Keep keep) = 0;
  virtual void save_pane(const PageKey& key, Pane from, Keep keep) = 0;
  virtual void save_state(const PageKey& key, Slot from, Keep keep) = 0;
  virtual void drop(const PageKey& key) = 0;
  // Whether it outlives the process: then what is worth it is saved before it has to leave.
  virtual bool is_lasting() const = 0;
  // Whether it would take a page or a state without dropping another one that is not on its disk yet.
  virtual bool has_room() const = 0;
};

}  // namespace millrace
