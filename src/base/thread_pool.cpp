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
  n_done_.store(0, std::memory_order_relaxed);
  cursor_.store(cursor(0, static_cast<uint32_t>(job.n_tasks)), std::memory_order_release);
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  take_tasks(0);
  for (int n_done = n_done_.load(std::memory_order_acquire); n_done != job.n_tasks;
       n_done = n_done_.load(std::memory_order_acquire)) {
    await_change(n_done_, n_done);
  }
}

void ThreadPool::take_tasks(int thread) {
  uint64_t state = cursor_.load(std::memory_order_acquire);
  for (;;) {
    const auto next = static_cast<uint32_t>(state), n_tasks = static_cast<uint32_t>(state >> 32);
    if (next >= n_tasks) return;
    if (!cursor_.compare_exchange_weak(state, cursor(next + 1, n_tasks), std::memory_order_acquire)) continue;
    job_.call(job_.body, static_cast<int>(next), thread);
    const bool is_last = n_done_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<int>(n_tasks);
    if (is_last && thread != 0) n_done_.notify_one();
    state = cursor_.load(std::memory_order_acquire);
  }
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    await_change(generation_, seen);
    seen = generation_.load(std::memory_order_acquire);
    if (is_stopping_) return;
    take_tasks(thread);
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
