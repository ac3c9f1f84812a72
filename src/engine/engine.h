// The engine: many requests, one model, which answers with tokens or gives embeddings. Two calls from any
// thread (submit, cancel), one stream of events a request. One thread of its own plans, computes and samples;
// it owns everything that changes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/channel.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "kv/prefix_listener.h"
#include "model/model.h"

namespace millrace {

// The memory that serving a model takes, computed before anything is allocated.
struct MemoryPlan {
  int64_t kv_bytes = 0;
  int64_t state_bytes = 0;  // of recurrent layers: one state a running sequence, and the snapshots
  int64_t arena_bytes = 0;  // of the widest step: activations, numbers, and what its ops take besides
  int64_t tier_bytes = 0;   // of the prefix cache beyond its pages, at most
  // Of an engine, beside all that: its checkpoint (Options::weights_bytes), and the program
  // (engine/memory.h).
  int64_t weights_bytes = 0, program_bytes = 0;
  // Of all that, what lies in memories of the backend's own. Activations of a backend with several memories
  // lie in each.
  struct Part {
    int64_t weights_bytes = 0, kv_bytes = 0, state_bytes = 0, arena_bytes = 0;

    int64_t n_bytes() const { return weights_bytes + kv_bytes + state_bytes + arena_bytes; }
    std::string text() const;  // "1.0 MiB for weights, ..."
  } on_device{};
};

class Engine {
 public:
  // Where prefixes go that the cache has no pages for, and where preempted sequences wait (kv/page_store.h).
  struct TierOptions {
    int64_t memory_bytes = 0;     // at least 2 pages, with their states; 0: there is no tier
    std::filesystem::path dir{};  // of a disk; empty: there is none
    int64_t disk_bytes = 0;       // that all models together may take there
    std::string model_id{};       // the same for two checkpoints only where all bits are the same
    int64_t n_kept_tokens = 256;  // what is shorter is sooner computed than found
  };
  struct Options {
    int64_t n_ctx = 0;           // positions of the longest sequence; 0: what the model was trained for
    int64_t n_kv_positions = 0;  // positions kept for all sequences and the prefix cache; 0: n_ctx, or of a
                                 // model that gives embeddings as many as a step computes
    int64_t page_size = 32;      // positions a page
    int64_t max_rows = 512;      // rows a step: the token budget
    int64_t max_sequences = 64;  // running at once; further requests wait
    int64_t max_waiting = 1024;  // answers; beyond that submit() refuses
    int64_t max_requests_per_minute = 0;  // of one key, all at once or one by one; 0: as many as it likes
    Dtype kv_dtype = Dtype::f16;
    std::optional<Pooling> pooling;  // of a model that gives embeddings; absent: what its file asks for
    bool has_prefix_cache = true;
    int64_t n_snapshots = 8;          // states of recurrent layers that the prefix cache keeps, at least 1
    int64_t snapshot_distance = 512;  // positions between them; rounded up to pages
    TierOptions tier{};
    Preemption preemption = Preemption::by_cost;
    int64_t weights_bytes = 0;  // of the mapped checkpoint, counted when the engine asks whether it fits
    // Called by the engine thread after each turn, when channels may hold new events: for one thread that
    // waits for many requests. Must not block, nor call the engine.
    std::function<void()> on_events;
    // Told by the engine thread what the prefix cache knows and forgets; must outlive the engine. Its keys
    // tell beginnings apart, and not models.
    PrefixListener* prefix_listener = nullptr;
  };

  // `model` and `backend` must outlive the engine, which is the only user of `backend` while it lives.
  // Throws Error(does_not_fit) with the numbers when the plan exceeds the memory that is there.
  Engine(const Model& model, Backend& backend, const Options& options);
  // Cancels what is left, and takes up to 10 s to bring to the disk what should outlive it.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  struct Ticket {
    uint64_t id = 0;
    std::shared_ptr<Channel<Event>> events;  // shared: the client may read it after the engine is gone
  };
  struct Submitted {
    std::optional<Ticket> ticket;  // absent when refused
    // One sentence with the numbers: empty prompt, over the context, queue full, bad value.
    std::string refusal;
    RefusalReason reason = RefusalReason::bad_request;  // where there is a refusal
    double retry_after_s = 0.0;                         // an estimate, where the reason passes
  };

  Submitted submit(Request request);
  // The last event of each answer is then FinishReason::cancelled. Unknown or finished ids are ignored.
  void cancel(uint64_t id);
  // Of one answer alone, which has begun: one that has not is left as it is.
  void cancel(uint64_t id, int index);

  const MemoryPlan& memory() const;
  // As it was after the last step. Any thread.
  struct Stats {
    int64_t n_running = 0, n_waiting = 0;
    int64_t n_preemptions = 0;              // since the start
    int64_t n_parked = 0;                   // of those: kept what they had
    int64_t n_pages_fetched = 0;            // from the tier
    int64_t tier_used_bytes = 0;            // of MemoryPlan::tier_bytes
    int64_t n_pages = 0, n_pages_used = 0;  // used: held by sequences, not by the prefix cache alone
  };
  Stats stats() const;
  const Options& options() const;  // with the defaults filled in
  // Why nothing can be computed any more (a device has failed), as a sentence; empty: it can. Any thread.
  std::string failure() const;

  // The plan for those options, allocating nothing; without what ops take besides.
  static MemoryPlan plan(const Model& model, const Options& options);

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace millrace
