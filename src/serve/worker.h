// A thread for what takes too long for the I/O thread: reading requests, templates, tokenizing.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <utility>

#include "base/channel.h"

namespace millrace {

class Worker {
 public:
  explicit Worker(int64_t max_waiting) : max_waiting_(max_waiting), thread_([this] { run(); }) {}
  ~Worker() {
    jobs_.close();
    thread_.join();
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // False when too many jobs wait already. A job must not throw.
  bool post(std::function<void()> job) {
    if (n_waiting_.fetch_add(1) >= max_waiting_) {
      --n_waiting_;
      return false;
    }
    return jobs_.push(std::move(job));
  }

 private:
  void run() {
    while (const auto job = jobs_.pop()) {
      (*job)();
      --n_waiting_;
    }
  }

  const int64_t max_waiting_;
  std::atomic<int64_t> n_waiting_{0};
  Channel<std::function<void()>> jobs_;
  std::thread thread_;
};

}  // namespace millrace
