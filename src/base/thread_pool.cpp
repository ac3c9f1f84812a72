#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>

#include "base/await_change.h"
#include "base/error.h"

namespace millrace {

ThreadPool::ThreadPool(int n_threads) : shares_(static_cast<size_t>(std::max(1, n_threads))) {
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
  const auto n_threads = static_cast<int64_t>(shares_.size());
  const auto share_begin = [&](int64_t thread) {
    return static_cast<uint32_t>(job.n_tasks * thread / n_threads);
  };
  for (int64_t i = 0; i < n_threads; ++i) {
    shares_[static_cast<size_t>(i)].tasks.store(Share::word(share_begin(i), share_begin(i + 1)),
                                                std::memory_order_release);
  }
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  take_tasks(0);
  for (int n_done = n_done_.load(std::memory_order_acquire); n_done != job.n_tasks;
       n_done = n_done_.load(std::memory_order_acquire)) {
    await_change(n_done_, n_done);
  }
}

void ThreadPool::take_tasks(int thread) {
  const size_t n_threads = shares_.size();
  for (size_t i = 0; i < n_threads; ++i)
    run_share(shares_[(static_cast<size_t>(thread) + i) % n_threads], i == 0, thread);
}

void ThreadPool::run_share(Share& share, bool is_own, int thread) {
  uint64_t state = share.tasks.load(std::memory_order_acquire);
  for (;;) {
    const auto begin = static_cast<uint32_t>(state), end = static_cast<uint32_t>(state >> 32);
    if (begin >= end) return;
    const uint64_t rest = is_own ? Share::word(begin + 1, end) : Share::word(begin, end - 1);
    if (!share.tasks.compare_exchange_weak(state, rest, std::memory_order_acquire)) continue;
    const int n_tasks = job_.n_tasks;  // the job may be another's after its last task
    job_.call(job_.body, static_cast<int>(is_own ? begin : end - 1), thread);
    const bool is_last = n_done_.fetch_add(1, std::memory_order_acq_rel) + 1 == n_tasks;
    if (is_last && thread != 0) n_done_.notify_one();
    state = share.tasks.load(std::memory_order_acquire);
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
