// Spans of requests for a collector of OpenTelemetry, as OTLP over HTTP in JSON. They are sent by a thread of
// their own, many at once; where the collector is slow or gone they are dropped, the log says how many, and
// no request waits.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/json.h"
#include "serve/net/http_post.h"

namespace millrace {

// Whom a request belongs to, as its `traceparent` says (W3C Trace Context).
struct TraceParent {
  std::string trace_id;  // 32 hex digits
  std::string span_id;   // 16
  bool is_sampled = false;

  // Nothing for what is no such header.
  static std::optional<TraceParent> of_header(std::string_view header);
};

struct TraceSpan {
  std::string name;
  std::optional<TraceParent> parent;  // nothing: it begins a trace
  std::chrono::system_clock::time_point begin, end;
  std::vector<std::pair<std::string, Json>> attributes;  // texts, numbers, or lists of texts
  bool has_failed = false;
};

class TraceExporter {
 public:
  // To the collector at `url` (its base: /v1/traces is added). Throws Error(usage) for what is no URL.
  explicit TraceExporter(const std::string& url);
  TraceExporter(const TraceExporter&) = delete;
  TraceExporter& operator=(const TraceExporter&) = delete;
  ~TraceExporter();  // tries once more to send what is left

  // Any thread. Never waits. A parent that was not sampled is not exported either.
  void add(TraceSpan span);

 private:
  void run();
  void send(const std::vector<TraceSpan>& spans);

  const HttpTarget target_;
  std::atomic<int64_t> n_dropped_{0};  // since the collector last took some
  bool is_reachable_ = true;           // as of the last time; its own thread
  std::mutex mutex_;                   // guards what follows
  std::condition_variable changed_;
  std::vector<TraceSpan> waiting_;
  bool is_ending_ = false;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace millrace
