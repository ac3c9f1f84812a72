// A queue between threads: any number of writers, any number of readers. The way out of the engine.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace millrace {

// All members may be called from any thread. Unbounded: what is written is bounded by what was asked for.
template <class T>
class Channel {
 public:
  // False (and nothing is kept) once the channel is closed.
  bool push(T value) {
    {
      const std::lock_guard lock(mutex_);
      if (is_closed_) return false;
      queue_.push_back(std::move(value));
    }
    ready_.notify_one();
    return true;
  }

  // Waits for a value; nothing once the channel is closed and empty.
  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [this] { return is_closed_ || !queue_.empty(); });
    return take();
  }

  // The same, but gives up at `deadline`.
  std::optional<T> pop_until(std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock(mutex_);
    ready_.wait_until(lock, deadline, [this] { return is_closed_ || !queue_.empty(); });
    return take();
  }

  std::optional<T> try_pop() {
    const std::lock_guard lock(mutex_);
    return take();
  }

  // Values already written can still be read.
  void close() {
    {
      const std::lock_guard lock(mutex_);
      is_closed_ = true;
    }
    ready_.notify_all();
  }

 private:
  std::optional<T> take() {
    if (queue_.empty()) return std::nullopt;
    std::optional<T> value(std::move(queue_.front()));
    queue_.pop_front();
    return value;
  }

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<T> queue_;
  bool is_closed_ = false;
};

}  // namespace millrace
