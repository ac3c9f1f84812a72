// What the prefix cache learns and forgets, between the engine thread and the one that publishes it: a batch
// for each turn of the engine in which something changed. Batches are numbered. Where nobody takes them fast
// enough the newest are dropped, so that the engine never waits, and their numbers are missing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <vector>

#include "base/descriptor.h"
#include "kv/prefix_listener.h"

namespace millrace {

struct KvEvent {
  enum class Kind { stored, removed, cleared };
  Kind kind;
  std::vector<uint64_t> hashes{};    // of pages; of stored ones each follows the one before
  std::optional<uint64_t> parent{};  // what the first stored one follows; nothing: it begins a prompt
  std::vector<int32_t> tokens{};     // of all stored ones
};

struct KvEventBatch {
  uint64_t number;
  double unix_s;
  std::vector<KvEvent> events;
};

class KvEventQueue final : public PrefixListener {
 public:
  explicit KvEventQueue(size_t max_waiting = 10'000);

  // One thread, the engine's as long as there is an engine.
  void stored(const PageKey& key, const PageKey* before, std::span<const int32_t> tokens) override;
  void removed(const PageKey& key) override;
  void cleared();
  // What came since the last time is a batch.
  void flush();

  // Any thread. wake_fd() is readable when there is something to take, or after wake().
  std::vector<KvEventBatch> take();
  void wake();
  int wake_fd() const { return wake_.get(); }

  struct Counts {
    uint64_t n_batches = 0, n_dropped = 0;  // n_dropped: of the batches
  };
  Counts counts() const;

 private:
  const size_t max_waiting_;
  std::vector<KvEvent> events_;  // since flush()
  Descriptor wake_;
  mutable std::mutex mutex_;  // guards what follows
  std::deque<KvEventBatch> waiting_;
  Counts counts_;
};

}  // namespace millrace
