#include "engine/cache_tier.h"

#include <algorithm>

namespace millrace {
namespace {

using Clock = CacheTier::Clock;

// Adds the time of its life to a running mean. It begins when the memory's device is done with what it was
// given before: a copy would wait for a step that is not its own.
class Timer {
 public:
  Timer(Memory& memory, double& mean_us) : mean_us_(mean_us) {
    memory.wait();
    begin_ = Clock::now();
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    const double us = std::chrono::duration<double, std::micro>(Clock::now() - begin_).count();
    mean_us_ = mean_us_ == 0.0 ? us : mean_us_ * 0.9 + us * 0.1;
  }

 private:
  double& mean_us_;
  Clock::time_point begin_;
};

}  // namespace

bool CacheTier::load(const PageKey& key, Page to) {
  const Timer timer(parts_memory_, page_us_);
  return store_.load(key, memory_.kv.parts_of_page(to));
}

bool CacheTier::load_pane(const PageKey& key, Pane to) {
  const Timer timer(parts_memory_, page_us_);
  return store_.load(key, memory_.kv.parts_of_pane(to));
}

bool CacheTier::load_state(const PageKey& key, Slot to) {
  const Timer timer(parts_memory_, state_us_);
  return store_.load(key, memory_.states.parts_of(to));
}

void CacheTier::save(const PageKey& key, Page from, Keep keep) {
  const Timer timer(parts_memory_, page_us_);
  store_.save(key, memory_.kv.parts_of_page(from), keep);
}

void CacheTier::save_pane(const PageKey& key, Pane from, Keep keep) {
  const Timer timer(parts_memory_, page_us_);
  store_.save(key, memory_.kv.parts_of_pane(from), keep);
}

void CacheTier::save_state(const PageKey& key, Slot from, Keep keep) {
  const Timer timer(parts_memory_, state_us_);
  store_.save(key, memory_.states.parts_of(from), keep);
}

void CacheTier::set_finish_by(Clock::time_point finish_by) {
  finish_by_ = finish_by;
  store_.set_finish_by(finish_by);
}

int64_t CacheTier::largest_bytes(SequenceMemory::Shape shape) {
  shape.kv.n_pages = std::min<int64_t>(1, shape.kv.n_pages);
  shape.kv.n_panes = std::min<int64_t>(1, shape.kv.n_panes);
  shape.states.n_slots = std::min<int64_t>(1, shape.states.n_slots);
  return shape.kv_bytes() + shape.state_bytes();
}

}  // namespace millrace
