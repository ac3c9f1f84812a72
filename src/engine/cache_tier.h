// What the scheduler wants moved between the cache and the store outside of it, in numbers, done to the
// bytes. It measures what that costs.
#pragma once

#include <algorithm>
#include <chrono>

#include "engine/runner.h"
#include "engine/scheduler.h"
#include "kv/page_store.h"

namespace millrace {

class CacheTier final : public PageTier {
 public:
  using Clock = std::chrono::steady_clock;

  // `memory` must outlive the tier.
  CacheTier(const SequenceMemory& memory, const PageStore::Options& options)
      : memory_(memory), parts_memory_(*options.parts_memory), store_(options) {}

  bool has(const PageKey& key) const override { return store_.has(key); }
  void begin_step() override { load_until_ = Clock::now() + load_time_; }
  bool may_begin_load() override { return Clock::now() < load_until_; }
  bool load(const PageKey& key, Page to) override;
  bool load_pane(const PageKey& key, Pane to) override;
  bool load_state(const PageKey& key, Slot to) override;
  void save(const PageKey& key, Page from, Keep keep) override;
  void save_pane(const PageKey& key, Pane from, Keep keep) override;
  void save_state(const PageKey& key, Slot from, Keep keep) override;
  void drop(const PageKey& key) override { store_.drop(key); }
  bool is_lasting() const override { return store_.has_disk(); }
  bool has_room() const override { return store_.has_room(largest_bytes()); }

  // What the last step took: it is loaded for as long in each, so that those who run wait for twice the time
  // at most. In bounds: a page takes some of it, and who runs in wide steps does not wait for two of them.
  void note_step(std::chrono::duration<double> took) {
    load_time_ = std::clamp(std::chrono::duration_cast<Clock::duration>(took), kLeastLoadTime, kMostLoadTime);
  }

  int64_t n_bytes() const { return store_.n_bytes(); }
  // Microseconds of the last ones, the newest of which count most; 0 where there was none.
  double page_us() const { return page_us_; }
  double state_us() const { return state_us_; }
  // For the end: what waits for the disk has until then, and so has wait_for_room(), which is false when that
  // came first.
  void set_finish_by(Clock::time_point finish_by);
  bool wait_for_room() { return store_.wait_for_room(largest_bytes(), finish_by_); }

  // Of a page and its pane, with the state after it.
  static int64_t largest_bytes(SequenceMemory::Shape shape);

 private:
  static constexpr Clock::duration kLeastLoadTime = std::chrono::milliseconds(2),
                                   kMostLoadTime = std::chrono::milliseconds(50);

  int64_t largest_bytes() const { return largest_bytes({memory_.kv.shape(), memory_.states.shape()}); }

  const SequenceMemory& memory_;
  Memory& parts_memory_;
  PageStore store_;
  double page_us_ = 0.0, state_us_ = 0.0;
  Clock::time_point finish_by_{}, load_until_{};
  Clock::duration load_time_ = kMostLoadTime;
};

}  // namespace millrace
