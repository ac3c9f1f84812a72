// Bytes of a connection become requests. The grammar of HTTP is Beast's; what is refused beyond it, and the
// limits, are here. Knows no sockets.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "serve/net/http.h"

namespace millrace {

struct HttpLimits {
  size_t header_bytes = size_t{16} << 10;
  size_t body_bytes = size_t{32} << 20;
};

// Reads one request after the other. After a fault it must not be used again.
class RequestReader {
 public:
  explicit RequestReader(HttpLimits limits);
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;
  ~RequestReader();

  // Takes what it can from the front of `bytes` (and erases it). True when request() is whole.
  bool take(std::string& bytes);
  // Moves the whole request out and begins anew.
  HttpRequest request();

  const std::optional<HttpFault>& fault() const { return fault_; }
  // The head is read and the client waits for "100 Continue" before it sends the body. Told once.
  bool wants_continue();
  bool has_begun() const { return has_begun_; }
  bool has_head() const;

 private:
  struct Parser;
  void begin();
  void check_head();
  void refuse(int status, std::string sentence);

  HttpLimits limits_;
  std::unique_ptr<Parser> parser_;
  std::optional<HttpFault> fault_;
  HttpRequest head_;
  size_t n_head_bytes_ = 0;
  bool has_begun_ = false, is_head_checked_ = false, wants_continue_ = false;
};

}  // namespace millrace
