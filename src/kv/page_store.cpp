#include "kv/page_store.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace millrace {
namespace {

void scatter(std::span<const std::byte> content, const Parts& to, Memory& memory) {
  for (const std::span<std::byte> part : to) {
    memory.write(part.data(), content.first(part.size()));
    content = content.subspan(part.size());
  }
}

}  // namespace

size_t n_bytes_of(const Parts& parts) {
  size_t n = 0;
  for (const auto& part : parts) n += part.size();
  return n;
}

PageStore::PageStore(const Options& options)
    : parts_memory_(*options.parts_memory), max_bytes_(options.memory_bytes) {
  if (options.dir.empty() || options.disk_bytes == 0) return;
  disk_.emplace(options.dir, options.identity, options.disk_bytes);
  writer_ = std::thread([this] { write_all(); });
}

PageStore::~PageStore() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
  }
  wake_.notify_one();
  if (writer_.joinable()) writer_.join();
}

void PageStore::set_finish_by(std::chrono::steady_clock::time_point finish_by) {
  const std::lock_guard lock(mutex_);
  finish_by_ = finish_by;
}

void PageStore::write_all() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return is_stopping_ || !waiting_.empty(); });
    if (waiting_.empty() || (is_stopping_ && std::chrono::steady_clock::now() > finish_by_)) return;
    const PageKey key = waiting_.front();
    waiting_.pop_front();
    Record& record = records_.at(key);  // stays while it waits
    lock.unlock();
    disk_->write(key, {record.content.get(), static_cast<size_t>(record.n_bytes)});
    lock.lock();
    record.is_fixed = false;
    n_fixed_bytes_ -= record.n_bytes;
    written_.notify_one();
  }
}

bool PageStore::has(const PageKey& key) const {
  {
    const std::lock_guard lock(mutex_);
    if (records_.contains(key)) return true;
  }
  return disk_ && disk_->has(key);
}

bool PageStore::load(const PageKey& key, const Parts& to) {
  {
    const std::lock_guard lock(mutex_);
    const auto record = records_.find(key);
    if (record != records_.end()) {
      check(static_cast<size_t>(record->second.n_bytes) == n_bytes_of(to), "a record of that size");
      scatter({record->second.content.get(), static_cast<size_t>(record->second.n_bytes)}, to, parts_memory_);
      touch(record);
      return true;
    }
  }
  if (!disk_) return false;
  staging_.resize(n_bytes_of(to));
  if (!disk_->read(key, staging_)) return false;
  scatter(staging_, to, parts_memory_);
  return true;
}

void PageStore::save(const PageKey& key, const Parts& from, PageTier::Keep keep) {
  const auto n_bytes = static_cast<int64_t>(n_bytes_of(from));
  if (has(key) || !has_room(n_bytes)) return;
  // Filled before others see it: the writer need not wait for that.
  auto content = std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(n_bytes));
  std::byte* at = content.get();
  for (const std::span<std::byte> part : from) {
    parts_memory_.read(part.data(), {at, part.size()});
    at += part.size();
  }
  const std::lock_guard lock(mutex_);
  make_room(n_bytes);
  const auto [record, is_new] = records_.try_emplace(key);
  check(is_new, "what is not there");
  const bool is_parked = keep == PageTier::Keep::parked, waits = has_disk() && !is_parked;
  record->second = {.content = std::move(content), .n_bytes = n_bytes, .is_fixed = is_parked || waits};
  record->second.use = uses_.insert(uses_.end(), &record->first);
  n_bytes_ += n_bytes;
  if (record->second.is_fixed) n_fixed_bytes_ += n_bytes;
  if (!waits) return;
  waiting_.push_back(key);
  wake_.notify_one();
}

void PageStore::drop(const PageKey& key) {
  const std::lock_guard lock(mutex_);
  const auto record = records_.find(key);
  if (record == records_.end()) return;
  check(std::ranges::find(waiting_, key) == waiting_.end(), "what is parked waits for no disk");
  if (record->second.is_fixed) n_fixed_bytes_ -= record->second.n_bytes;
  erase(record);
}

bool PageStore::has_room(int64_t n_bytes) const {
  const std::lock_guard lock(mutex_);
  return n_fixed_bytes_ + n_bytes <= max_bytes_;
}

int64_t PageStore::n_bytes() const {
  const std::lock_guard lock(mutex_);
  return n_bytes_;
}

bool PageStore::wait_for_room(int64_t n_bytes, std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  return written_.wait_until(lock, deadline, [&] { return n_fixed_bytes_ + n_bytes <= max_bytes_; });
}

void PageStore::make_room(int64_t n_bytes) {
  for (auto use = uses_.begin(); n_bytes_ + n_bytes > max_bytes_ && use != uses_.end();) {
    const auto record = records_.find(**use++);
    if (!record->second.is_fixed) erase(record);
  }
}

void PageStore::erase(Records::iterator record) {
  n_bytes_ -= record->second.n_bytes;
  uses_.erase(record->second.use);
  records_.erase(record);
}

void PageStore::touch(Records::iterator record) { uses_.splice(uses_.end(), uses_, record->second.use); }

}  // namespace millrace
