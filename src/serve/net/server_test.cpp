// Clients that take their time, against a server whose limits are a second.
#include "serve/net/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <csignal>
#include <thread>

#include "base/descriptor.h"

namespace millrace {
namespace {

// Answers at once; of /endless there is always more.
class Answer final : public Exchange {
 public:
  explicit Answer(bool is_endless) : is_endless_(is_endless) {}
  Progress poll() override {
    Progress progress{.is_streamed = is_endless_, .is_done = !is_endless_};
    if (!std::exchange(has_head_, true)) progress.head.emplace();
    if (is_endless_) progress.bytes.assign(1 << 22, 'x');
    return progress;
  }

 private:
  const bool is_endless_;
  bool has_head_ = false;
};

class Answering : public Application {
 public:
  std::unique_ptr<Exchange> start(HttpRequest request, Waker) override {
    return std::make_unique<Answer>(request.path == "/endless");
  }
  HttpResponse refusal(const HttpFault& fault) override { return {.status = fault.status}; }
  void drain() override {}
  void reload() override {}
};

class SlowClients : public testing::Test {
 protected:
  SlowClients() : server_(application_, options()), thread_([this] { server_.run(); }) {}
  ~SlowClients() override {
    ::kill(::getpid(), SIGTERM);
    thread_.join();
  }

  static ServerOptions options() {
    constexpr std::chrono::seconds kLimit{1};
    ServerOptions out{.port = 0, .drain = kLimit};
    out.connection = {.http = {}, .head = kLimit, .body = kLimit, .idle = kLimit, .write = kLimit};
    return out;
  }

  // What comes back for those bytes until the server closes, which it must within 10 s.
  std::string reply(const std::string& bytes, std::chrono::milliseconds reads_after = {}) {
    const std::string url = server_.url();
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(url.substr(url.rfind(':') + 1))));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const Descriptor socket(::socket(AF_INET, SOCK_STREAM, 0));
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_TRUE(write_all(socket.get(), std::as_bytes(std::span(bytes))));
    std::this_thread::sleep_for(reads_after);
    std::string out, part(1 << 16, '\0');
    while (true) {
      pollfd waiting{.fd = socket.get(), .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, 10000) != 1 || out.size() > 1 << 28) return "still open";
      const ssize_t n = ::recv(socket.get(), part.data(), part.size(), 0);
      if (n <= 0) return out;
      out.append(part, 0, static_cast<size_t>(n));
    }
  }

  Answering application_;
  HttpServer server_;
  std::thread thread_;
};

constexpr const char* kHead = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n";

TEST_F(SlowClients, AHeadAndABodyHaveTheirTime) {
  EXPECT_EQ(reply("GET / HT").substr(0, 12), "HTTP/1.1 408");
  EXPECT_EQ(reply(kHead).substr(0, 12), "HTTP/1.1 408");
  EXPECT_EQ(reply(std::string(kHead) + "\r\nhel").substr(0, 12), "HTTP/1.1 408");
  EXPECT_EQ(reply(std::string(kHead) + "\r\nhello").substr(0, 12), "HTTP/1.1 200");
}

TEST_F(SlowClients, WhoSaysNothingIsLeft) { EXPECT_EQ(reply(""), ""); }

TEST_F(SlowClients, WhoTakesNothingIsLeft) {
  const std::string got = reply("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n", std::chrono::milliseconds(5000));
  EXPECT_EQ(got.substr(0, 12), "HTTP/1.1 200");
}

// Nobody has told it to.
TEST(HttpServer, EndsWithItsApplication) {
  class Ended final : public Answering {
   public:
    bool has_ended() const override { return true; }
    void drain() override { is_drained = true; }
    bool is_drained = false;
  };
  Ended application;
  HttpServer(application, {.port = 0}).run();
  EXPECT_TRUE(application.is_drained);
}

}  // namespace
}  // namespace millrace
