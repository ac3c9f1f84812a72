#include "serve/net/tls.h"

#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>

#include "base/error.h"

namespace millrace {
namespace {

namespace asio = boost::asio;
namespace ssl = asio::ssl;

}  // namespace

struct TlsContext::Context {
  ssl::context ssl{ssl::context::tls_server};
};

namespace {

class TlsTransport final : public Transport {
 public:
  TlsTransport(Socket socket, std::shared_ptr<ssl::context> context)
      : context_(std::move(context)), stream_(std::move(socket), *context_) {}

  void open(Done done) override {
    stream_.async_handshake(ssl::stream_base::server,
                            [done = std::move(done)](const auto& error) { done(!error, 0); });
  }

  void read(char* data, size_t size, Done done) override {
    stream_.async_read_some(asio::buffer(data, size),
                            [done = std::move(done)](const auto& error, size_t n) { done(!error, n); });
  }

  void write(const std::string& bytes, Done done) override {
    asio::async_write(stream_, asio::buffer(bytes),
                      [done = std::move(done)](const auto& error, size_t n) { done(!error, n); });
  }

  // Tells the other side that it has all, and waits for the same: then there is nothing left to read.
  void end_writing(Done done) override {
    stream_.async_shutdown([done = std::move(done)](const auto&) { done(false, 0); });
  }

  void close() override {
    boost::system::error_code error;
    stream_.next_layer().close(error);
  }

 private:
  const std::shared_ptr<ssl::context> context_;
  ssl::stream<Socket> stream_;
};

}  // namespace

TlsContext::TlsContext(const TlsFiles& files) : context_(std::make_shared<Context>()) {
  ssl::context& context = context_->ssl;
  context.set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                      ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1);
  // A key under a passphrase would ask the terminal for it.
  boost::system::error_code error;
  context.set_password_callback([](size_t, ssl::context::password_purpose) { return std::string(); }, error);
  context.use_certificate_chain_file(files.certificate.string(), error);
  if (error)
    fail(ErrorKind::usage, "{} is no certificate in PEM: {}", printable(files.certificate.string(), 200),
         error.message());
  context.use_private_key_file(files.key.string(), ssl::context::pem, error);
  if (error)
    fail(ErrorKind::usage, "{} is no key of that certificate in PEM: {}", printable(files.key.string(), 200),
         error.message());
}

TlsContext::~TlsContext() = default;

std::unique_ptr<Transport> TlsContext::transport(Socket socket) const {
  return std::make_unique<TlsTransport>(std::move(socket),
                                        std::shared_ptr<ssl::context>(context_, &context_->ssl));
}

}  // namespace millrace
