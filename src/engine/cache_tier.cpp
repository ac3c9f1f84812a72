#include "engine/cache_tier.h"

#include <algorithm>

namespace millrace {
namespace {

using Clock = CacheTier::Clock;

// Adds the time of its life to a running mean.
class Timer {
 public:
  explicit Timer(double& mean_us) : mean_us_(mean_us) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() {
    const double us = std::chrono::duration<double, std::micro>(Clock::now() - begin_).count();
    mean_us_ = mean_us_ == 0.0 ? us : mean_us_ * 0.9 + us * 0.1;
  }

 private:
  double& mean_us_;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace

bool CacheTier::load(const PageKey& key, Page to) {
  const Timer timer(page_us_);
  return store_.load(key, memory_.kv.parts_of_page(to));
}

bool CacheTier::load_pane(const PageKey& key, Pane to) {
  const Timer timer(page_us_);
  return store_.load(key, memory_.kv.parts_of_pane(to));
}

bool CacheTier::load_state(const PageKey& key, Slot to) {
  const Timer timer(state_us_);
  return store_.load(key, memory_.states.parts_of(to));
}

void CacheTier::save(const PageKey& key, Page from, Keep keep) {
  const Timer timer(page_us_);
  store_.save(key, memory_.kv.parts_of_page(from), keep);
}

void CacheTier::save_pane(const PageKey& key, Pane from, Keep keep) {
  const Timer timer(page_us_);
  store_.save(key, memory_.kv.parts_of_pane(from), keep);
}

void CacheTier::save_state(const PageKey& key, Slot from, Keep keep) {
  const Timer timer(state_us_);
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
