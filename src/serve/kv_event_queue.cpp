#include "serve/kv_event_queue.h"

#include <sys/eventfd.h>

#include <chrono>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace millrace {
namespace {

// The end of the key, as vLLM makes numbers of its hashes.
uint64_t hash_of(const PageKey& key) {
  uint64_t hash = 0;
  for (size_t i = key.size() - 8; i < key.size(); ++i) hash = hash << 8 | key[i];
  return hash;
}

}  // namespace

KvEventQueue::KvEventQueue(size_t max_waiting)
    : max_waiting_(max_waiting), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) fail(ErrorKind::runtime, "the system has no descriptor left for KV events");
}

void KvEventQueue::stored(const PageKey& key, const PageKey* before, std::span<const int32_t> tokens) {
  const bool goes_on = before != nullptr && !events_.empty() &&
                       events_.back().kind == KvEvent::Kind::stored &&
                       events_.back().hashes.back() == hash_of(*before);
  if (!goes_on) {
    KvEvent& event = events_.emplace_back(KvEvent{.kind = KvEvent::Kind::stored});
    if (before != nullptr) event.parent = hash_of(*before);
  }
  events_.back().hashes.push_back(hash_of(key));
  events_.back().tokens.insert(events_.back().tokens.end(), tokens.begin(), tokens.end());
}

void KvEventQueue::removed(const PageKey& key) {
  if (events_.empty() || events_.back().kind != KvEvent::Kind::removed)
    events_.push_back({.kind = KvEvent::Kind::removed});
  events_.back().hashes.push_back(hash_of(key));
}

void KvEventQueue::cleared() { events_.push_back({.kind = KvEvent::Kind::cleared}); }

void KvEventQueue::flush() {
  if (events_.empty()) return;
  const std::chrono::duration<double> now = std::chrono::system_clock::now().time_since_epoch();
  {
    const std::lock_guard lock(mutex_);
    const uint64_t number = counts_.n_batches++;
    if (waiting_.size() < max_waiting_) {
      waiting_.push_back({number, now.count(), std::move(events_)});
    } else {
      ++counts_.n_dropped;
    }
  }
  events_.clear();
  wake();
}

std::vector<KvEventBatch> KvEventQueue::take() {
  eventfd_t n = 0;
  ::eventfd_read(wake_.get(), &n);
  const std::lock_guard lock(mutex_);
  std::vector<KvEventBatch> taken(std::make_move_iterator(waiting_.begin()),
                                  std::make_move_iterator(waiting_.end()));
  waiting_.clear();
  return taken;
}

void KvEventQueue::wake() { ::eventfd_write(wake_.get(), 1); }

KvEventQueue::Counts KvEventQueue::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace millrace
