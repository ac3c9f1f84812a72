// Publishes what the prefix cache holds over ZeroMQ, as vLLM does, for routers that send a request where its
// beginning is known:
//
//   PUB      topic | number | batch           as it happens; the number has 8 bytes, the first one is highest
//   ROUTER   <- number                        the batches from there on, of the last ones:
//            -> number | batch, ... , ff..ff | nothing
//
// A batch is MessagePack: [unix seconds, [event, ...], 0]. It begins and ends with a word that nothing is
// known: whoever saw the server before forgets what that one knew.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "serve/kv_event_queue.h"

namespace millrace {

class KvEventPublisher {
 public:
  // maps: each event is one, as vLLM has it since June 2026; arrays: as before.
  enum class Format { maps, arrays };
  struct Options {
    std::string endpoint;         // bound to where it has a * or :: or is a path, else connected to
    std::string replay_endpoint;  // empty: there is none
    std::string topic;
    Format format = Format::maps;
    int64_t page_size = 0;
  };

  // `queue` must outlive it. Throws Error(usage) where it cannot be reached at those endpoints.
  KvEventPublisher(KvEventQueue& queue, Options options);
  KvEventPublisher(const KvEventPublisher&) = delete;
  KvEventPublisher& operator=(const KvEventPublisher&) = delete;
  // The engine must be gone. Takes up to a second to bring out what is left.
  ~KvEventPublisher();

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace millrace
