// One connection: reads requests, asks their exchanges for bytes, writes them. A state machine of callbacks
// on the I/O thread. Requests that arrive while one is answered wait their turn in a bounded buffer; reading
// goes on meanwhile, for that is how a client that leaves is noticed.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <string>

#include "serve/net/exchange.h"
#include "serve/net/request_reader.h"
#include "serve/net/transport.h"

namespace millrace {

struct ConnectionLimits {
  HttpLimits http;
  std::chrono::seconds head{15};   // from the first byte of a request to its empty line; also of a handshake
  std::chrono::seconds body{120};  // from there to its end
  std::chrono::seconds idle{75};   // between requests
  std::chrono::seconds write{60};  // for the client to take what is written
  std::chrono::seconds quiet{15};  // of a stream, before it is kept alive
};

class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  using Clock = std::chrono::steady_clock;
  // What a connection needs of the server.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual Application& application() = 0;
    // A function for any thread that makes `connection` advance on the I/O thread.
    virtual Waker waker_of(std::weak_ptr<Connection> connection) = 0;
    virtual bool is_draining() const = 0;
  };

  Connection(Owner& owner, std::unique_ptr<Transport> transport, std::string client,
             const ConnectionLimits& limits);
  void start();
  // Does whatever can be done now: the exchange may have bytes.
  void advance();
  // Called every second or so: ends what took too long.
  void check_time(Clock::time_point now);
  void close();

  bool is_closed() const { return is_closed_; }
  bool is_answering() const { return exchange_ != nullptr || is_writing_; }

 private:
  void read();
  void on_read(bool is_ok, size_t n_bytes);
  bool take_request();
  void begin_exchange();
  void refuse(const HttpFault& fault);
  void pump();
  std::string framed(Exchange::Progress& progress);
  void finish_exchange();
  void write(std::string bytes);
  void on_written(bool is_ok);
  // No more is written; what the client still sends is thrown away for a moment, so that it can read our
  // reply.
  void linger();
  void set_deadline(std::chrono::seconds from_now) { deadline_ = Clock::now() + from_now; }

  Owner& owner_;
  const std::unique_ptr<Transport> transport_;
  const std::string client_;
  const ConnectionLimits& limits_;
  RequestReader reader_;
  std::array<char, size_t{4} << 10> chunk_{};  // the read that is pending
  std::string in_;                             // read and not yet taken
  std::string out_;                            // the write that is pending
  HttpRequest request_;                        // that exchange_ answers, without its body
  std::unique_ptr<Exchange> exchange_;
  Clock::time_point deadline_ = Clock::time_point::max(), last_write_;
  bool is_reading_ = false, is_writing_ = false, is_ended_by_client_ = false;
  bool is_streaming_ = false, closes_after_write_ = false, is_lingering_ = false, is_closed_ = false;
};

}  // namespace millrace
