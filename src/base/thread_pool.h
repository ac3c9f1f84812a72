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

  // Each thread has a run of the tasks, so that what one task reads ahead is mostly what the same thread
  // needs next; it takes them from the front, and when it has none left, those of others from the back. A
  // share is one word, so that taking one needs no other look at the job: only a thread that has taken a task
  // reads job_, and as long as it has not finished, the job does not end.
  struct alignas(64) Share {
    static constexpr uint64_t word(uint32_t begin, uint32_t end) {
      return static_cast<uint64_t>(end) << 32 | begin;
    }
    std::atomic<uint64_t> tasks{0};
  };

  void run_job(const Job& job);
  void take_tasks(int thread);
  void run_share(Share& share, bool is_own, int thread);
  void work(int thread);

  Job job_;
  alignas(64) std::atomic<uint32_t> generation_{0};  // one up for each job: what workers wait for
  std::vector<Share> shares_;                        // of each thread
  alignas(64) std::atomic<int> n_done_{0};           // tasks of the current job that have returned
  std::atomic<bool> is_stopping_{false};
  std::vector<std::thread> workers_;
};

// Physical cores that this process may use, as the affinity mask and /sys say: at least 1.
int n_physical_cores();

}  // namespace millrace
