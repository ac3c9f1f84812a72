// The HTTP server: listens, keeps connections, ends in order. One thread does all of it; nothing here
// computes or waits.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "serve/net/connection.h"
#include "serve/net/systemd.h"
#include "serve/net/tls_files.h"

namespace millrace {

struct ServerOptions {
  std::string host = "127.0.0.1";            // an address or a name
  int port = 8080;                           // 0: any that is free
  std::string unix_socket;                   // a path; where it is given nothing listens on host and port
  std::optional<InheritedSocket> inherited;  // listens already, on that host or path
  std::optional<TlsFiles> tls;               // https, where they are given; read again at SIGHUP
  int64_t max_connections = 8192;
  std::chrono::seconds drain{30};  // for what runs when the server is told to end
  ConnectionLimits connection;
};

class HttpServer {
 public:
  // Binds and listens. Throws Error(usage) when it cannot.
  HttpServer(Application& application, const ServerOptions& options);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  // "http://127.0.0.1:8080", "unix:/run/millrace.sock"
  std::string url() const;
  // Until SIGTERM or SIGINT, or the application has ended, and then until what runs is done or its time is
  // over; a second signal ends at once.
  void run();

  // Says that any exchange may have something. Cheap when it is called often; may outlive the server.
  Waker waker();

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

// Whether `host` (an address, or a name that resolves to one) is reached from this machine alone.
bool is_loopback(const std::string& host);

}  // namespace millrace
