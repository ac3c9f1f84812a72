#include "serve/net/server.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "serve/net/tls.h"
#include "serve/net/transports.h"

namespace millrace {
namespace {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;
using Unix = asio::local::stream_protocol;
using ErrorCode = boost::system::error_code;

constexpr std::chrono::milliseconds kTick{500};

// As many open files as the system lets this process have: one a connection.
void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

Tcp::endpoint resolve(const std::string& host, int port) {
  asio::io_context context;
  Tcp::resolver resolver(context);
  ErrorCode error;
  const auto found = resolver.resolve(host, std::to_string(port), Tcp::resolver::passive, error);
  if (error || found.empty())
    fail(ErrorKind::usage, "--host {} is no address of this machine: {}", printable(host), error.message());
  return *found.begin();
}

// A socket file that nobody listens on is left over from a server that was killed.
void remove_stale(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  asio::io_context context;
  Unix::socket probe(context);
  ErrorCode error;
  probe.connect(Unix::endpoint(path), error);
  if (error == asio::error::connection_refused) ::unlink(path.c_str());
}

}  // namespace

class HttpServer::Core final : public Connection::Owner {
 public:
  Core(Application& application, const ServerOptions& options)
      : application_(application),
        options_(options),
        tcp_(*context_),
        unix_(*context_),
        tick_(*context_),
        signals_(*context_) {
    raise_file_limit();
    // Before anybody is told that it listens: from then on a signal ends it in order.
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) signals_.add(number);
    if (options_.tls) tls_ = std::make_unique<TlsContext>(*options_.tls);
    if (options_.inherited) {
      inherit(options_.inherited->descriptor);
    } else {
      is_unix() ? listen_unix() : listen_tcp();
    }
  }

  ~Core() override {
    for (const auto& connection : connections_) connection->close();
    if (is_unix() && !options_.inherited) ::unlink(options_.unix_socket.c_str());
  }

  std::string url() const {
    if (is_unix()) return "unix:" + options_.unix_socket;
    const bool is_v6 = options_.host.find(':') != std::string::npos;
    return fmt::format("{}://{}{}{}:{}", options_.tls ? "https" : "http", is_v6 ? "[" : "", options_.host,
                       is_v6 ? "]" : "", tcp_.local_endpoint().port());
  }

  void run() {
    await_signal();
    await_tick();
    is_unix() ? accept(unix_) : accept(tcp_);
    manager_.ready();
    context_->run();
  }

  // What is posted runs inside of run() alone, while this lives; the context may live longer.
  Waker waker() {
    return [this, context = context_, is_posted = is_wake_posted_] {
      if (!is_posted->exchange(true)) asio::post(*context, [this] { wake_all(); });
    };
  }

  void wake_all() {
    *is_wake_posted_ = false;
    // By index: advancing one may close it, and never opens another.
    for (size_t i = 0; i < connections_.size(); ++i) {
      if (connections_[i]->is_answering()) connections_[i]->advance();
    }
  }

  Application& application() override { return application_; }
  bool is_draining() const override { return is_draining_; }

  Waker waker_of(std::weak_ptr<Connection> connection) override {
    return [context = context_, connection = std::move(connection)] {
      asio::post(*context, [connection] {
        if (const auto alive = connection.lock()) alive->advance();
      });
    };
  }

 private:
  bool is_unix() const { return !options_.unix_socket.empty(); }

  void inherit(int descriptor) {
    ErrorCode error;
    if (is_unix()) {
      unix_.assign(Unix(), descriptor, error);
    } else {
      const bool is_v6 = asio::ip::make_address(options_.host, error).is_v6();
      tcp_.assign(is_v6 ? Tcp::v6() : Tcp::v4(), descriptor, error);
    }
    if (error) fail(ErrorKind::usage, "cannot use the socket of the service manager: {}", error.message());
  }

  void listen_tcp() {
    const Tcp::endpoint endpoint = resolve(options_.host, options_.port);
    ErrorCode error;
    tcp_.open(endpoint.protocol(), error);
    if (!error) tcp_.set_option(Tcp::acceptor::reuse_address(true), error);
    if (!error) tcp_.bind(endpoint, error);
    if (!error) tcp_.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      fail(ErrorKind::usage, "cannot listen on {} port {}: {}", printable(options_.host), options_.port,
           error.message());
  }

  void listen_unix() {
    remove_stale(options_.unix_socket);
    ErrorCode error;
    unix_.open(Unix(), error);
    if (options_.unix_socket.size() > 107)
      fail(ErrorKind::usage, "the path of a unix socket has at most 107 bytes, found {}",
           options_.unix_socket.size());
    const mode_t before = ::umask(0177);  // for this user alone
    if (!error) unix_.bind(Unix::endpoint(options_.unix_socket), error);
    ::umask(before);
    if (!error) unix_.listen(asio::socket_base::max_listen_connections, error);
    if (error)
      fail(ErrorKind::usage, "cannot listen on {}: {}", printable(options_.unix_socket), error.message());
  }

  template <class Acceptor>
  void accept(Acceptor& acceptor) {
    acceptor.async_accept([this, &acceptor](const ErrorCode& error, auto socket) {
      if (is_draining_) return;
      if (!error) {
        admit(std::move(socket));
      } else if (error != asio::error::operation_aborted) {
        log_warning("cannot accept a connection: {}", error.message());
        return retry_accept(acceptor);
      }
      accept(acceptor);
    });
  }

  // Out of files, most likely: wait until some are closed.
  template <class Acceptor>
  void retry_accept(Acceptor& acceptor) {
    auto timer = std::make_shared<asio::steady_timer>(*context_, kTick);
    timer->async_wait([this, timer, &acceptor](const ErrorCode&) {
      if (!is_draining_) accept(acceptor);
    });
  }

  void admit(Tcp::socket socket) {
    ErrorCode error;
    socket.set_option(Tcp::no_delay(true), error);
    const auto peer = socket.remote_endpoint(error);
    if (!error) admit(Socket(std::move(socket)), peer.address().to_string());
  }
  void admit(Unix::socket socket) { admit(Socket(std::move(socket)), "unix"); }

  void admit(Socket socket, std::string client) {
    forget_closed();
    if (static_cast<int64_t>(connections_.size()) >= options_.max_connections) {
      log_warning("refused a connection of {}: {} are open", client, connections_.size());
      return;  // the socket closes
    }
    std::unique_ptr<Transport> transport =
        tls_ ? tls_->transport(std::move(socket)) : make_plain_transport(std::move(socket));
    connections_.push_back(
        std::make_shared<Connection>(*this, std::move(transport), std::move(client), options_.connection));
    connections_.back()->start();
  }

  void forget_closed() {
    std::erase_if(connections_, [](const auto& connection) { return connection->is_closed(); });
  }

  void await_tick() {
    tick_.expires_after(
        manager_.alive_every() ? std::min<std::chrono::microseconds>(kTick, *manager_.alive_every()) : kTick);
    tick_.async_wait([this](const ErrorCode& error) {
      if (error) return;
      const auto now = Connection::Clock::now();
      if (manager_.alive_every()) manager_.alive();
      for (size_t i = 0; i < connections_.size(); ++i) connections_[i]->check_time(now);
      forget_closed();
      if (!is_draining_ && application_.has_ended()) drain();
      if (is_draining_ && (connections_.empty() || now >= drained_by_)) return context_->stop();
      await_tick();
    });
  }

  void await_signal() {
    signals_.async_wait([this](const ErrorCode& error, int number) {
      if (error) return;
      if (number == SIGHUP) {
        reload();
      } else if (is_draining_) {
        return context_->stop();
      } else {
        drain();
      }
      await_signal();
    });
  }

  // What cannot be read leaves things as they are.
  void reload() {
    manager_.reloading();
    try {
      if (options_.tls) tls_ = std::make_unique<TlsContext>(*options_.tls);
      application_.reload();
      log_info("read the keys and certificates again");
    } catch (const Error& error) {
      log_warning("keys and certificates stay as they were: {}", error.what());
    }
    manager_.ready();
  }

  void drain() {
    log_info("ending: {} connections are open, what runs has {} s", connections_.size(),
             options_.drain.count());
    manager_.stopping();
    is_draining_ = true;
    drained_by_ = Connection::Clock::now() + options_.drain;
    ErrorCode error;
    tcp_.close(error);
    unix_.close(error);
    application_.drain();
  }

  Application& application_;
  const ServerOptions options_;
  const std::shared_ptr<asio::io_context> context_ = std::make_shared<asio::io_context>(1);
  Tcp::acceptor tcp_;
  Unix::acceptor unix_;
  const ServiceManager manager_;
  asio::steady_timer tick_;
  asio::signal_set signals_;
  std::vector<std::shared_ptr<Connection>> connections_;
  const std::shared_ptr<std::atomic<bool>> is_wake_posted_ = std::make_shared<std::atomic<bool>>(false);
  std::unique_ptr<TlsContext> tls_;
  bool is_draining_ = false;
  Connection::Clock::time_point drained_by_;
};

HttpServer::HttpServer(Application& application, const ServerOptions& options)
    : core_(std::make_unique<Core>(application, options)) {}
HttpServer::~HttpServer() = default;
std::string HttpServer::url() const { return core_->url(); }
void HttpServer::run() { core_->run(); }
Waker HttpServer::waker() { return core_->waker(); }

bool is_loopback(const std::string& host) { return resolve(host, 0).address().is_loopback(); }

}  // namespace millrace
