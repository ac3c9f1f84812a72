#include "backend/ranks/workers.h"

#include "base/await_change.h"

namespace millrace::ranks {

Workers::Workers(int n_ranks, std::function<void()> on_failure) : on_failure_(std::move(on_failure)) {
  for (int rank = 0; rank < n_ranks; ++rank) workers_.push_back(std::make_unique<Worker>());
  for (int rank = 0; rank < n_ranks; ++rank)
    workers_[static_cast<size_t>(rank)]->thread = std::thread([this, rank] { work(rank); });
}

Workers::~Workers() {
  for (const auto& worker : workers_) worker->tasks.close();
  for (const auto& worker : workers_) worker->thread.join();
}

void Workers::give(Task task) {
  throw_failure();
  ++n_given_;
  const auto shared = std::make_shared<const Task>(std::move(task));
  for (const auto& worker : workers_) worker->tasks.push(shared);
}

void Workers::wait() const {
  for (const auto& worker : workers_) {
    for (uint64_t n = worker->n_done.load(std::memory_order_acquire); n != n_given_;
         n = worker->n_done.load(std::memory_order_acquire)) {
      await_change(worker->n_done, n);
    }
  }
}

void Workers::finish() const {
  wait();
  throw_failure();
}

void Workers::work(int rank) {
  Worker& me = *workers_[static_cast<size_t>(rank)];
  while (auto task = me.tasks.pop()) {
    try {
      if (!has_failed_) (**task)(rank);
    } catch (...) {
      note_failure();
    }
    task->reset();  // before anybody believes that it is done
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

void Workers::throw_failure() const {
  if (!has_failed_) return;
  const std::lock_guard lock(mutex_);
  std::rethrow_exception(failure_);
}

}  // namespace millrace::ranks
