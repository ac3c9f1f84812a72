#include "backend/ranks/workers.h"

#include <algorithm>
#include <utility>

#include "base/await_change.h"

namespace millrace::ranks {

Workers::Workers(int n_ranks, std::function<void()> on_failure, std::function<void()> begin_again)
    : on_failure_(std::move(on_failure)), begin_again_(std::move(begin_again)) {
  for (int rank = 0; rank < n_ranks; ++rank) workers_.push_back(std::make_unique<Worker>());
  for (int rank = 0; rank < n_ranks; ++rank)
    workers_[static_cast<size_t>(rank)]->thread = std::thread([this, rank] { work(rank); });
}

Workers::~Workers() {
  wait();
  is_stopping_ = true;
  n_given_.fetch_add(1, std::memory_order_release);
  n_given_.notify_all();
  for (const auto& worker : workers_) worker->thread.join();
}

void Workers::give(Task task) {
  throw_failure();
  const auto shared = std::make_shared<const Task>(std::move(task));
  for (const auto& worker : workers_) {
    const std::lock_guard lock(worker->mutex);
    worker->tasks.push_back(shared);
  }
  n_given_.fetch_add(1, std::memory_order_release);
  n_given_.notify_all();
}

void Workers::wait() const {
  for (const auto& worker : workers_) {
    for (uint64_t n = worker->n_done.load(std::memory_order_acquire);
         n != n_given_.load(std::memory_order_relaxed); n = worker->n_done.load(std::memory_order_acquire)) {
      worker->n_done.wait(n, std::memory_order_acquire);  // asleep: the workers need the core
    }
  }
}

bool Workers::is_done() const {
  return std::ranges::all_of(workers_, [this](const auto& worker) {
    return worker->n_done.load(std::memory_order_acquire) == n_given_.load(std::memory_order_relaxed);
  });
}

void Workers::finish() {
  wait();
  throw_failure();
}

std::shared_ptr<const Workers::Task> Workers::take(Worker& worker) {
  const std::lock_guard lock(worker.mutex);
  std::shared_ptr<const Task> task = std::move(worker.tasks.front());
  worker.tasks.pop_front();
  return task;
}

void Workers::work(int rank) {
  Worker& me = *workers_[static_cast<size_t>(rank)];
  for (uint64_t n_taken = 0;; ++n_taken) {
    await_change(n_given_, n_taken);
    if (is_stopping_) return;
    std::shared_ptr<const Task> task = take(me);
    try {
      if (!has_failed_) (*task)(rank);
    } catch (...) {
      note_failure();
    }
    task.reset();  // before anybody believes that it is done
    me.n_done.fetch_add(1, std::memory_order_release);
    me.n_done.notify_all();
  }
}

void Workers::note_failure() {
  {
    const std::lock_guard lock(mutex_);
    if (failure_ == nullptr) failure_ = std::current_exception();
  }
  has_failed_ = true;
  on_failure_();
}

void Workers::throw_failure() {
  if (!has_failed_) return;
  if (end_ != nullptr) std::rethrow_exception(end_);
  wait();
  const std::exception_ptr failure = std::exchange(failure_, nullptr);  // nobody else is there any more
  try {
    begin_again_();
    has_failed_ = false;
  } catch (...) {
    end_ = std::current_exception();
  }
  std::rethrow_exception(failure);
}

}  // namespace millrace::ranks
