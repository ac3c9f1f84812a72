// What stands between connections and the program behind them: a request goes up, an Exchange comes back, and
// is asked for bytes whenever it may have some.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "serve/net/http.h"

namespace millrace {

// One request that is being answered. Made, asked and destroyed on the I/O thread; destroyed early when the
// client has left, which ends whatever computes for it.
class Exchange {
 public:
  virtual ~Exchange() = default;

  struct Progress {
    std::optional<HttpResponse> head;  // once, before or with the first bytes
    bool is_streamed = false;  // with the head: bytes follow in pieces; else head->body is all there is
    std::string bytes;         // the next ones of a streamed body
    bool is_done = false;
  };
  // What there is now; nothing while the answer is still computed. Must not block.
  virtual Progress poll() = 0;
  // Called now and then while nothing was sent for long: bytes that keep a stream alive.
  virtual std::string keep_alive() { return {}; }
};

// May be called from any thread, at any time, also when the connection is gone.
using Waker = std::function<void()>;

class Application {
 public:
  virtual ~Application() = default;
  // I/O thread. `wake` asks for poll() to be called.
  virtual std::unique_ptr<Exchange> start(HttpRequest request, Waker wake) = 0;
  // The reply to bytes that are no request.
  virtual HttpResponse refusal(const HttpFault& fault) = 0;
  // The server takes no new connections and ends when what runs is done.
  virtual void drain() = 0;
  // Whether there is nothing more to serve: the server ends as if it had been told to.
  virtual bool has_ended() const { return false; }
  // SIGHUP: files that were read at the start may have changed.
  virtual void reload() = 0;
};

}  // namespace millrace
