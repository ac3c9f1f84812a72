// The threads that compute. One fork-join per op, hundreds per token, so what counts is the cost of a join:
// workers spin for some microseconds after each job before they sleep, and a join waits for tasks, never for
// a worker that has none: where another process has the core, the others do the work.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

namespace millrace {

// Used by one thread at a time (the engine thread); that thread works too.
class ThreadPool {
 public:
  // `n_threads` counts the calling thread; at least 1.
  explicit ThreadPool(int n_threads);
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool();

  int n_threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls task(i, thread) once for each i in [0, n_tasks), thread in [0, n_threads()), and returns when all
  // have returned. Which thread takes which i varies from run to run: a result must not depend on it. Tasks
  // must not throw and must not call run().
  template <class Task>
  void run(int n_tasks, const Task& task) {
    run_job(
        {.call = [](const void* body, int i, int thread) { (*static_cast<const Task*>(body))(i, thread); },
         .body = &task,
         .n_tasks = n_tasks});
  }

 private:
  struct Job {
    void (*call)(const void* body, int i, int thread) = nullptr;
    const void* body = nullptr;
    int n_tasks = 0;
  };

  // A job's tasks as one word, so that taking one needs no other look at the job: only a thread that has
  // taken a task reads job_, and as long as it has not finished, the job does not end.
  static constexpr uint64_t cursor(uint32_t next, uint32_t n_tasks) {
    return static_cast<uint64_t>(n_tasks) << 32 | next;
  }

  void run_job(const Job& job);
  void take_tasks(int thread);
  void work(int thread);

  Job job_;
  alignas(64) std::atomic<uint32_t> generation_{0};  // one up for each job: what workers wait for
  alignas(64) std::atomic<uint64_t> cursor_{0};
  alignas(64) std::atomic<int> n_done_{0};  // tasks of the current job that have returned
  std::atomic<bool> is_stopping_{false};
  std::vector<std::thread> workers_;
};

// Physical cores that this process may use, as the affinity mask and /sys say: at least 1.
int n_physical_cores();

}  // namespace millrace
