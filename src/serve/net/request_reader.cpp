#include "serve/net/request_reader.h"

#include <fmt/format.h>

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/error.h"

namespace millrace {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

// Bytes that Beast may leave untaken because a line is not whole: a chunk's head, a trailer.
constexpr size_t kMaxUntaken = size_t{64} << 10;

// Which of its string views Beast gives depends on its version.
std::string_view view_of(const auto& text) { return {text.data(), text.size()}; }

HttpFault fault_of(const boost::system::error_code& error, const HttpLimits& limits) {
  if (error == http::error::body_limit)
    return {413,
            fmt::format("the body is longer than the {} bytes that this server takes", limits.body_bytes)};
  if (error == http::error::bad_version) return {505, "the version of HTTP is not known: send HTTP/1.1"};
  return {400, fmt::format("this is no HTTP request: {}", error.message())};
}

}  // namespace

struct RequestReader::Parser {
  http::request_parser<http::string_body> http;
};

RequestReader::RequestReader(HttpLimits limits) : limits_(limits) { begin(); }
RequestReader::~RequestReader() = default;

void RequestReader::begin() {
  parser_ = std::make_unique<Parser>();
  // Beast counts a head by what it holds of it at a time: take() counts the whole and comes first.
  parser_->http.header_limit(static_cast<uint32_t>(limits_.header_bytes + 1));
  parser_->http.body_limit(limits_.body_bytes);
  parser_->http.eager(true);
  head_ = {};
  n_head_bytes_ = 0;
  has_begun_ = is_head_checked_ = wants_continue_ = false;
}

bool RequestReader::has_head() const { return parser_->http.is_header_done(); }

bool RequestReader::take(std::string& bytes) {
  if (fault_) return false;
  has_begun_ = has_begun_ || !bytes.empty();
  while (!bytes.empty() && !parser_->http.is_done()) {
    boost::system::error_code error;
    // Not eager until the head is judged: no body is taken for a head that is refused.
    parser_->http.eager(is_head_checked_);
    const bool is_in_head = !has_head();
    const size_t n_given =
        is_in_head ? std::min(bytes.size(), limits_.header_bytes - n_head_bytes_) : bytes.size();
    const size_t n_taken = parser_->http.put(asio::buffer(bytes.data(), n_given), error);
    bytes.erase(0, n_taken);
    if (is_in_head) n_head_bytes_ += n_taken;
    if (is_in_head && !has_head() && (!error || error == http::error::need_more) &&
        n_head_bytes_ + bytes.size() >= limits_.header_bytes)
      refuse(431, fmt::format("the head is longer than the {} bytes that this server takes",
                              limits_.header_bytes));
    if (fault_) return false;
    if (has_head() && !is_head_checked_) {
      check_head();
      if (fault_) return false;
      continue;
    }
    if (error == http::error::need_more || n_taken == 0) {
      if (bytes.size() > kMaxUntaken) refuse(400, "a line of the request is too long");
      if (error == http::error::need_more || !error) break;
    }
    if (error) {
      fault_ = fault_of(error, limits_);
      return false;
    }
  }
  return !fault_ && is_head_checked_ && parser_->http.is_done();
}

void RequestReader::refuse(int status, std::string sentence) { fault_ = {status, std::move(sentence)}; }

// What Beast lets pass and this server does not.
void RequestReader::check_head() {
  is_head_checked_ = true;
  const auto& head = parser_->http.get();
  head_.method = view_of(head.method_string());
  head_.is_http_1_0 = head.version() == 10;
  head_.keeps_alive = head.keep_alive();
  for (const auto& field : head) {
    const std::string_view name = view_of(field.name_string()), value = view_of(field.value());
    head_.headers.emplace_back(lower_case(name), value);
  }
  if (head.version() != 10 && head.version() != 11)
    return refuse(505, "the version of HTTP is not known: send HTTP/1.1");
  const size_t n_hosts = head_.n_headers("host");
  if (n_hosts > 1 || (n_hosts == 0 && !head_.is_http_1_0))
    return refuse(400, fmt::format("expected one Host header, found {}", n_hosts));
  const std::string_view target = view_of(head.target());
  if (!target.starts_with('/') && !(target == "*" && head_.method == "OPTIONS"))
    return refuse(400, fmt::format("the target of a request is a path, found {}", printable(target)));
  const size_t query = std::min(target.find('?'), target.size());
  const auto path = percent_decoded(target.substr(0, query));
  if (!path) return refuse(400, "the path has a % that two hex digits do not follow");
  head_.path = *path;
  if (query < target.size()) head_.query = target.substr(query + 1);
  if (const std::string* coding = head_.header("content-encoding");
      coding != nullptr && *coding != "identity")
    return refuse(415,
                  fmt::format("Content-Encoding {} is not read: send the body as it is", printable(*coding)));
  const std::string* coding = head_.header("transfer-encoding");
  if (coding != nullptr && (lower_case(*coding) != "chunked" || head_.is_http_1_0))
    return refuse(501, fmt::format("Transfer-Encoding {} is not known", printable(*coding)));
  if (const std::string* expected = head_.header("expect"))
    wants_continue_ = lower_case(*expected) == "100-continue";
}

bool RequestReader::wants_continue() {
  return std::exchange(wants_continue_, false) && !parser_->http.is_done();
}

HttpRequest RequestReader::request() {
  HttpRequest out = std::move(head_);
  out.body = std::move(parser_->http.get().body());
  begin();
  return out;
}

}  // namespace millrace
