// HTTP/1.1 as the program sees it: requests read, replies made. Knows no sockets.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace millrace {

// Name and value. Names are in lower case.
using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string path;   // percent-decoded once: what routes, keys and logs see
  std::string query;  // as sent, without ?
  HttpHeaders headers;
  std::string body;
  std::string id;      // of the client (X-Request-Id), or drawn
  std::string client;  // the address it came from
  bool is_http_1_0 = false;
  bool keeps_alive = true;

  // The value of the header of that name in lower case, or nullptr. Of several the first.
  const std::string* header(std::string_view name) const;
  size_t n_headers(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  HttpHeaders headers;
};

// A refusal of bytes that are no request this server reads: the connection ends after it.
struct HttpFault {
  int status = 400;
  std::string sentence;
};

// Head of a reply, up to and with the empty line. `n_body`: bytes of the body; absent: it is sent in chunks,
// or to an HTTP/1.0 client until the connection closes.
std::string http_head(const HttpRequest& request, const HttpResponse& response, std::optional<size_t> n_body);
// A chunk of a chunked body. Empty for no bytes: that chunk would be the last.
std::string http_chunk(std::string_view bytes);

// %41 as A. Nothing where % is not followed by two hex digits, or stands for NUL.
std::optional<std::string> percent_decoded(std::string_view text);

std::string lower_case(std::string_view ascii);

}  // namespace millrace
