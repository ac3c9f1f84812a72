#include "base/thread_pool.h"

#include <sched.h>

#include <fstream>
#include <set>
#include <string>

#include "base/error.h"

namespace millrace {
namespace {

// How long a thread spins before it sleeps in the kernel: 0.1 to 1 ms, as long as the processor's pause is
// (190 us on a Xeon of 2023). Longer than the gap between two ops, shorter than what a user would see as a
// busy idle program.
constexpr int kSpins = 20000;

void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns once `value` differs from `old`.
template <class T>
void await_change(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause_briefly();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
  check(n_threads >= 1, "a thread pool needs a thread");
  for (int thread = 1; thread < n_threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

ThreadPool::~ThreadPool() {
  is_stopping_ = true;
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run_job(const Job& job) {
  if (workers_.empty() || job.n_tasks <= 1) {
    for (int i = 0; i < job.n_tasks; ++i) job.call(job.body, i, 0);
    return;
  }
  job_ = job;
  next_task_.store(0, std::memory_order_relaxed);
  n_busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  take_tasks(job, 0);
  for (int busy = n_busy_.load(std::memory_order_acquire); busy != 0;
       busy = n_busy_.load(std::memory_order_acquire)) {
    await_change(n_busy_, busy);
  }
}

void ThreadPool::take_tasks(const Job& job, int thread) {
  for (int i = next_task_.fetch_add(1, std::memory_order_relaxed); i < job.n_tasks;
       i = next_task_.fetch_add(1, std::memory_order_relaxed)) {
    job.call(job.body, i, thread);
  }
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    await_change(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (is_stopping_) return;
    take_tasks(job_, thread);
    if (n_busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) n_busy_.notify_one();
  }
}

int n_physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return 1;
  std::set<std::string> cores;  // the siblings of a core share one list
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    if (!std::getline(file, siblings)) siblings = std::to_string(cpu);
    cores.insert(siblings);
  }
  return cores.empty() ? 1 : static_cast<int>(cores.size());
}

}  // namespace millrace
