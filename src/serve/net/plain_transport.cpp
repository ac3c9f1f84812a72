#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>

#include "serve/net/transports.h"

namespace millrace {
namespace {

namespace asio = boost::asio;

auto adapted(Transport::Done done) {
  return [done = std::move(done)](const boost::system::error_code& error, size_t n) { done(!error, n); };
}

class PlainTransport final : public Transport {
 public:
  explicit PlainTransport(Socket socket) : socket_(std::move(socket)) {}

  void open(Done done) override {
    asio::post(socket_.get_executor(), [done = std::move(done)] { done(true, 0); });
  }

  void read(char* data, size_t size, Done done) override {
    socket_.async_read_some(asio::buffer(data, size), adapted(std::move(done)));
  }

  void write(const std::string& bytes, Done done) override {
    asio::async_write(socket_, asio::buffer(bytes), adapted(std::move(done)));
  }

  void end_writing(Done done) override {
    boost::system::error_code error;
    socket_.shutdown(Socket::shutdown_send, error);
    asio::post(socket_.get_executor(), [done = std::move(done), error] { done(!error, 0); });
  }

  void close() override {
    boost::system::error_code error;
    socket_.close(error);
  }

 private:
  Socket socket_;
};

}  // namespace

std::unique_ptr<Transport> make_plain_transport(Socket socket) {
  return std::make_unique<PlainTransport>(std::move(socket));
}

}  // namespace millrace
