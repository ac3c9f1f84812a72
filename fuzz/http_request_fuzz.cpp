// Any bytes as what a connection brings: the same requests in one piece and in many. The refusal after them
// may differ: of two faults the one is told that is seen first, and one of the two may still wait for the end
// of a line.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "serve/net/request_reader.h"

namespace {

using namespace millrace;

struct Heard {
  std::vector<HttpRequest> requests;

  bool agrees(const Heard& other) const {
    if (requests.size() != other.requests.size()) return false;
    for (size_t i = 0; i < requests.size(); ++i) {
      const HttpRequest &a = requests[i], &b = other.requests[i];
      if (a.method != b.method || a.path != b.path || a.query != b.query || a.headers != b.headers ||
          a.body != b.body || a.keeps_alive != b.keeps_alive)
        return false;
    }
    return true;
  }
};

// As Connection reads: what is left of a piece stays before the next one.
Heard read_in_pieces(std::string_view bytes, size_t n_first, size_t n_rest) {
  RequestReader reader({.header_bytes = 2048, .body_bytes = 8192});
  Heard heard;
  std::string in;
  size_t n = n_first;
  while (!bytes.empty()) {
    in += bytes.substr(0, n);
    bytes.remove_prefix(std::min(n, bytes.size()));
    n = n_rest;
    while (reader.take(in)) {
      heard.requests.push_back(reader.request());
      if (in.empty()) break;
    }
    if (reader.fault()) break;
    reader.wants_continue();
  }
  return heard;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data + 2), size - 2);
  const Heard whole = read_in_pieces(bytes, bytes.size() + 1, 1);
  if (!read_in_pieces(bytes, 1 + data[0], 1 + data[1]).agrees(whole)) std::abort();
  for (const HttpRequest& request : whole.requests)
    http_head(request, {.status = 200, .content_type = "text/plain"}, std::nullopt);
  return 0;
}
