// A thread for each rank. All do the same tasks in the same order, each at its own pace.
#pragma once

#include <atomic>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace millrace::ranks {

// Used by one thread at a time, which is none of the workers.
class Workers {
 public:
  using Task = std::function<void(int rank)>;

  // `on_failure` is called by a worker whose task throws: it makes the tasks of others end that wait for it.
  // When they have, and nothing else that was given has been done, `begin_again` makes it possible to go on;
  // where it throws, that is for ever what is thrown.
  Workers(int n_ranks, std::function<void()> on_failure, std::function<void()> begin_again);
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  ~Workers();

  // Returns at once. Throws what a task has thrown before, and gives nothing then.
  void give(Task task);
  // Returns when all is done that was given.
  void wait() const;
  bool is_done() const;
  // Waits, and throws what a task has thrown.
  void finish();

 private:
  struct Worker {
    std::mutex mutex;
    std::deque<std::shared_ptr<const Task>> tasks;  // behind the mutex
    std::atomic<uint64_t> n_done{0};
    std::thread thread;
  };

  static std::shared_ptr<const Task> take(Worker& worker);
  void work(int rank);
  void note_failure();
  void throw_failure();

  const std::function<void()> on_failure_, begin_again_;
  std::atomic<uint64_t> n_given_{0};  // one more at the end, of nothing
  std::atomic<bool> is_stopping_{false};
  std::atomic<bool> has_failed_{false};
  std::mutex mutex_;
  std::exception_ptr failure_;  // the first, behind the mutex
  std::exception_ptr end_;      // why there is no going on
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace millrace::ranks
