// Pages and states outside of the cache: in memory of a fixed size, and from there on a disk.
//
//   save -> memory --(a thread)--> disk       memory: what waits for the disk, what is parked, and what else
//   load <- memory or disk                    there is room for: of that the least recently used leaves
//
// Where keys and values lie in host memory already, a large memory here would only take from the cache what
// it gives; between it and the disk stands the page cache of the system, which holds what was written last.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "kv/disk_store.h"
#include "kv/page_tier.h"
#include "tensor/memory.h"

namespace millrace {

// A record as it lies in the cache, one stretch for each tensor that has a part of it.
using Parts = std::vector<std::span<std::byte>>;
size_t n_bytes_of(const Parts& parts);

class PageStore {
 public:
  struct Options {
    int64_t memory_bytes = 0;
    std::filesystem::path dir{};  // of the disk; empty: none
    int64_t disk_bytes = 0;
    std::string identity{};                    // of DiskStore
    Memory* parts_memory = &program_memory();  // that Parts lie in
  };

  explicit PageStore(const Options& options);
  PageStore(const PageStore&) = delete;
  PageStore& operator=(const PageStore&) = delete;
  // Gives the disk until `finish_by` for what waits for it; without that, none.
  ~PageStore();
  void set_finish_by(std::chrono::steady_clock::time_point finish_by);

  // The following are for one thread.
  bool has(const PageKey& key) const;
  bool load(const PageKey& key, const Parts& to);
  // Never waits: what finds no room is not kept. Shared records go to the disk, parked ones stay in memory
  // until they are dropped.
  void save(const PageKey& key, const Parts& from, PageTier::Keep keep);
  void drop(const PageKey& key);
  // Whether save() of that many bytes would keep them.
  bool has_room(int64_t n_bytes) const;
  // Waits for that; false when `deadline` came first.
  bool wait_for_room(int64_t n_bytes, std::chrono::steady_clock::time_point deadline);
  // In memory now.
  int64_t n_bytes() const;
  bool has_disk() const { return disk_.has_value(); }

 private:
  struct Record {
    std::unique_ptr<std::byte[]> content;
    int64_t n_bytes = 0;
    bool is_fixed = false;  // parked, or waits for the disk
    std::list<const PageKey*>::iterator use{};
  };
  using Records = std::map<PageKey, Record>;

  void write_all();
  void make_room(int64_t n_bytes);
  void erase(Records::iterator record);
  void touch(Records::iterator record);

  Memory& parts_memory_;
  const int64_t max_bytes_;
  std::optional<DiskStore> disk_;
  std::vector<std::byte> staging_;  // of load()

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable wake_, written_;
  Records records_;
  std::list<const PageKey*> uses_;  // least recent first
  std::deque<PageKey> waiting_;     // for the disk
  int64_t n_bytes_ = 0, n_fixed_bytes_ = 0;
  std::chrono::steady_clock::time_point finish_by_{};
  bool is_stopping_ = false;

  std::thread writer_;  // last: it uses all of the above
};

}  // namespace millrace
