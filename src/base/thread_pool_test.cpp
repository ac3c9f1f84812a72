#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <numeric>

namespace millrace {
namespace {

class ThreadPools : public testing::TestWithParam<int> {};

TEST_P(ThreadPools, CallEachTaskOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.n_threads(), GetParam());
  for (const int n_tasks : {0, 1, 2, 3, 7, 64, 1000}) {
    std::vector<std::atomic<int>> n_calls(static_cast<size_t>(n_tasks));
    std::atomic<bool> is_thread_in_range = true;
    pool.run(n_tasks, [&](int i, int thread) {
      ++n_calls[static_cast<size_t>(i)];
      if (thread < 0 || thread >= pool.n_threads()) is_thread_in_range = false;
    });
    for (const auto& n : n_calls) EXPECT_EQ(n, 1) << n_tasks;
    EXPECT_TRUE(is_thread_in_range);
  }
}

// What the tasks wrote is seen after run(), and what was written before run() is seen by the tasks.
TEST_P(ThreadPools, AJobSeesTheJobBefore) {
  ThreadPool pool(GetParam());
  constexpr int kTasks = 16;
  std::vector<int> values(kTasks, 0);
  for (int job = 1; job <= 300; ++job) {
    pool.run(kTasks, [&values, job](int i, int) {
      const int neighbour = values[static_cast<size_t>(i)];
      values[static_cast<size_t>(i)] = neighbour == job - 1 ? job : -1'000'000;
    });
    ASSERT_EQ(std::accumulate(values.begin(), values.end(), 0), job * kTasks);
  }
}

// Jobs of any size one after another, so that late wakers of one job meet the next.
TEST_P(ThreadPools, SurviveManySmallJobs) {
  ThreadPool pool(GetParam());
  int64_t expected = 0;
  std::atomic<int64_t> sum = 0;
  for (int job = 0; job < 500; ++job) {
    const int n_tasks = job % 5;
    expected += n_tasks;
    pool.run(n_tasks, [&sum](int, int) { sum.fetch_add(1, std::memory_order_relaxed); });
    ASSERT_EQ(sum, expected);
  }
}

TEST_P(ThreadPools, WakeAfterSleeping) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));  // longer than the workers spin
    std::atomic<int> n = 0;
    pool.run(100, [&n](int, int) { ++n; });
    EXPECT_EQ(n, 100);
  }
}

// Two tasks that wait for each other end only if two threads take them.
TEST_P(ThreadPools, WorkAtTheSameTime) {
  if (GetParam() < 2) GTEST_SKIP() << "needs two threads";
  ThreadPool pool(GetParam());
  std::atomic<int> n_there = 0;
  pool.run(2, [&n_there](int, int) {
    ++n_there;
    while (n_there < 2) std::this_thread::yield();
  });
  EXPECT_EQ(n_there, 2);
}

std::atomic<int> n_held = 0;
std::atomic<bool> is_open = false;
void hold(int) {
  ++n_held;
  while (!is_open) ::sched_yield();
}

// Where the workers get no core, the caller does everything alone instead of waiting for them. A signal holds
// them here.
TEST_P(ThreadPools, DoNotWaitForWorkersWithoutATask) {
  ThreadPool pool(GetParam());
  is_open = false;
  n_held = 0;
  std::signal(SIGUSR1, hold);
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    const int id = std::stoi(task.path().filename());
    if (id != ::gettid()) ::tgkill(::getpid(), id, SIGUSR1);
  }
  while (n_held < pool.n_threads() - 1) std::this_thread::yield();
  for (int job = 1; job <= 3; ++job) {
    int n_calls = 0;  // no atomic: only this thread is there
    pool.run(10, [&n_calls](int, int thread) { n_calls += thread == 0; });
    EXPECT_EQ(n_calls, 10);
  }
  is_open = true;
}

TEST_P(ThreadPools, ComeAndGo) {
  for (int i = 0; i < 20; ++i) {
    ThreadPool pool(GetParam());
    if (i % 2 == 0) pool.run(3, [](int, int) {});
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPools, testing::Values(1, 2, 3, 4));

TEST(PhysicalCores, AreSomeAndNoMoreThanLogicalOnes) {
  EXPECT_GE(n_physical_cores(), 1);
  EXPECT_LE(n_physical_cores(), static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace
}  // namespace millrace
