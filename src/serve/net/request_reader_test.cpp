#include "serve/net/request_reader.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

// The request that `wire` becomes when it arrives in parts of `n_bytes`.
std::optional<HttpRequest> read_in_parts(const std::string& wire, size_t n_bytes) {
  RequestReader reader({.header_bytes = 4096, .body_bytes = 100});
  std::string bytes;
  for (size_t at = 0; at < wire.size(); at += n_bytes) {
    bytes += wire.substr(at, n_bytes);
    if (reader.take(bytes)) return reader.request();
    if (reader.fault()) return std::nullopt;
  }
  return std::nullopt;
}

int status_of(const std::string& wire) {
  RequestReader reader({.header_bytes = 4096, .body_bytes = 100});
  std::string bytes = wire;
  EXPECT_FALSE(reader.take(bytes));
  return reader.fault() ? reader.fault()->status : 0;
}

TEST(RequestReader, ReadsARequestHoweverItArrives) {
  const std::string wire =
      "POST /v1/models/a%2Fb?x=%20y HTTP/1.1\r\nHost: h\r\nX-Request-ID:  7 \r\nTransfer-Encoding: "
      "chunked\r\n\r\n"
      "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nTrailer: t\r\n\r\n";
  for (size_t n_bytes = 1; n_bytes <= wire.size(); ++n_bytes) {
    const auto request = read_in_parts(wire, n_bytes);
    ASSERT_TRUE(request) << n_bytes;
    EXPECT_EQ(request->method, "POST");
    EXPECT_EQ(request->path, "/v1/models/a/b");
    EXPECT_EQ(request->query, "x=%20y");
    EXPECT_EQ(*request->header("x-request-id"), "7");
    EXPECT_EQ(request->body, "hello world");
    EXPECT_TRUE(request->keeps_alive);
  }
}

TEST(RequestReader, LeavesTheNextRequest) {
  RequestReader reader({});
  std::string bytes =
      "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
  ASSERT_TRUE(reader.take(bytes));
  EXPECT_EQ(reader.request().path, "/a");
  ASSERT_TRUE(reader.take(bytes));
  const HttpRequest second = reader.request();
  EXPECT_EQ(second.path, "/b");
  EXPECT_FALSE(second.keeps_alive);
  EXPECT_TRUE(bytes.empty());
}

TEST(RequestReader, TellsOnceThatTheClientWaits) {
  RequestReader reader({});
  std::string bytes = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
  EXPECT_FALSE(reader.take(bytes));
  EXPECT_TRUE(reader.has_head());
  EXPECT_TRUE(reader.wants_continue());
  EXPECT_FALSE(reader.wants_continue());
  bytes = "ok";
  EXPECT_TRUE(reader.take(bytes));
}

TEST(RequestReader, RefusesWhatCouldBeReadInTwoWays) {
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\n";
  EXPECT_EQ(status_of(post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"), 400);
  EXPECT_EQ(status_of(post + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx"), 400);
  EXPECT_EQ(status_of(post + "Transfer-Encoding: chunked, gzip\r\n\r\n"), 501);
  EXPECT_EQ(status_of(post + "Host: other\r\n\r\n"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\n\r\n"), 400);
}

TEST(RequestReader, ABodyOfTheLastChunkAlone) {
  const std::string wire = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
  for (size_t n_bytes = 1; n_bytes <= wire.size(); ++n_bytes) {
    const auto request = read_in_parts(wire, n_bytes);
    ASSERT_TRUE(request) << n_bytes;
    EXPECT_EQ(request->body, "");
  }
}

TEST(RequestReader, HasLimits) {
  const std::string post = "POST / HTTP/1.1\r\nHost: h\r\n";
  EXPECT_EQ(status_of(post + "Content-Length: 101\r\n\r\n"), 413);
  EXPECT_EQ(status_of(post + "Content-Length: 18446744073709551615\r\n\r\n"), 413);
  EXPECT_EQ(status_of(post + "Transfer-Encoding: chunked\r\n\r\n65\r\n" + std::string(101, 'x') + "\r\n"),
            413);
  EXPECT_EQ(status_of(post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"), 400);
  EXPECT_EQ(status_of(post + "A: " + std::string(5000, 'x')), 431);
  const std::string longest = post + "A: " + std::string(4096 - post.size() - 7, 'x') + "\r\n\r\n";
  for (const size_t n_bytes : {1, 7, 1000, 4096}) {
    EXPECT_TRUE(read_in_parts(longest, n_bytes)) << n_bytes;
    EXPECT_FALSE(read_in_parts("POST / HTTP/1.1\r\nB: 1\r\n" + longest.substr(17), n_bytes)) << n_bytes;
  }
  EXPECT_EQ(status_of(post + "Transfer-Encoding: chunked\r\n\r\n1;" + std::string(70000, 'x')), 400);
}

TEST(PercentDecoded, RefusesWhatIsNoByte) {
  EXPECT_EQ(percent_decoded("/a%20%4A"), "/a J");
  EXPECT_FALSE(percent_decoded("/%"));
  EXPECT_FALSE(percent_decoded("/%2"));
  EXPECT_FALSE(percent_decoded("/%g1"));
  EXPECT_FALSE(percent_decoded("/%00"));
}

}  // namespace
}  // namespace millrace
