#include "serve/traces.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "base/log.h"
#include "base/version.h"

namespace millrace {
namespace {

constexpr size_t kMaxWaiting = 4096, kMaxBatch = 512;
constexpr std::chrono::milliseconds kPeriod{1000}, kStepTime{3000};
constexpr int kServerKind = 2, kErrorCode = 2;

HttpTarget traces_of(const std::string& url) {
  HttpTarget target = HttpTarget::of_url(url, "--otlp");
  if (target.path.ends_with('/')) target.path.pop_back();
  target.path += "/v1/traces";
  return target;
}

std::string fresh_id(size_t n_digits) {
  thread_local std::mt19937_64 random(std::random_device{}());
  std::string out;
  while (out.size() < n_digits) out += fmt::format("{:016x}", random() | 1);  // no id is all zeros
  return out;
}

// 64-bit integers are texts in OTLP's JSON.
Json any_value(const Json& value) {
  Json out;
  if (value.is_string()) {
    out["stringValue"] = value;
  } else if (value.is_int()) {
    out["intValue"] = std::to_string(value.as_int());
  } else if (value.is_double()) {
    out["doubleValue"] = value;
  } else if (value.is_bool()) {
    out["boolValue"] = value;
  } else {
    Json::Array values;
    for (const Json& each : value.as_array()) values.push_back(any_value(each));
    out["arrayValue"]["values"] = std::move(values);
  }
  return out;
}

Json key_value(std::string_view key, const Json& value) {
  Json out;
  out["key"] = key;
  out["value"] = any_value(value);
  return out;
}

std::string unix_nanoseconds(std::chrono::system_clock::time_point time) {
  return std::to_string(
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count());
}

Json span_json(const TraceSpan& span) {
  Json out;
  out["traceId"] = span.parent ? span.parent->trace_id : fresh_id(32);
  out["spanId"] = fresh_id(16);
  if (span.parent) out["parentSpanId"] = span.parent->span_id;
  out["name"] = span.name;
  out["kind"] = kServerKind;
  out["startTimeUnixNano"] = unix_nanoseconds(span.begin);
  out["endTimeUnixNano"] = unix_nanoseconds(span.end);
  Json::Array attributes;
  for (const auto& [key, value] : span.attributes) attributes.push_back(key_value(key, value));
  out["attributes"] = std::move(attributes);
  if (span.has_failed) out["status"]["code"] = kErrorCode;
  return out;
}

std::string document(const std::vector<TraceSpan>& spans) {
  Json scope;
  scope["scope"]["name"] = "millrace";
  Json::Array list;
  for (const TraceSpan& span : spans) list.push_back(span_json(span));
  scope["spans"] = std::move(list);
  Json resource;
  resource["resource"]["attributes"] =
      Json::Array{key_value("service.name", "millrace"), key_value("service.version", version())};
  resource["scopeSpans"] = Json::Array{std::move(scope)};
  Json out;
  out["resourceSpans"] = Json::Array{std::move(resource)};
  return out.dump();
}

bool is_id(std::string_view text) {
  const bool is_hex =
      std::ranges::all_of(text, [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  return is_hex && std::ranges::any_of(text, [](char c) { return c != '0'; });
}

}  // namespace

std::optional<TraceParent> TraceParent::of_header(std::string_view header) {
  // 00-TRACE-SPAN-FLAGS; later versions may go on after that.
  if (header.size() < 55 || header[2] != '-' || header[35] != '-' || header[52] != '-') return std::nullopt;
  const bool is_known =
      header.starts_with("00") ? header.size() == 55 : header.size() == 55 || header[55] == '-';
  TraceParent out{.trace_id = std::string(header.substr(3, 32)),
                  .span_id = std::string(header.substr(36, 16))};
  const char flags = header[54];
  const int digit = flags >= 'a' && flags <= 'f' ? flags - 'a' + 10 : flags - '0';
  if (!is_known || header.starts_with("ff") || !is_id(out.trace_id) || !is_id(out.span_id) || digit < 0 ||
      digit > 15)
    return std::nullopt;
  out.is_sampled = (digit & 1) != 0;
  return out;
}

TraceExporter::TraceExporter(const std::string& url) : target_(traces_of(url)), thread_([this] { run(); }) {}

TraceExporter::~TraceExporter() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void TraceExporter::add(TraceSpan span) {
  if (span.parent && !span.parent->is_sampled) return;
  bool is_many = false;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() >= kMaxWaiting) {
      ++n_dropped_;
      return;
    }
    waiting_.push_back(std::move(span));
    is_many = waiting_.size() == kMaxBatch;
  }
  if (is_many) changed_.notify_one();
}

void TraceExporter::run() {
  while (true) {
    std::vector<TraceSpan> batch;
    bool is_last = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, kPeriod, [this] { return is_ending_ || waiting_.size() >= kMaxBatch; });
      const size_t n = std::min(waiting_.size(), kMaxBatch);
      const auto end = waiting_.begin() + static_cast<ptrdiff_t>(n);
      batch.assign(std::make_move_iterator(waiting_.begin()), std::make_move_iterator(end));
      waiting_.erase(waiting_.begin(), end);
      is_last = is_ending_ && (waiting_.empty() || !is_reachable_);
    }
    if (!batch.empty()) send(batch);
    if (is_last) return;
  }
}

// What a collector refuses or does not take is not sent again: a queue that waits for it would only be older.
void TraceExporter::send(const std::vector<TraceSpan>& spans) {
  const HttpAnswer answer = post_json(target_, document(spans), kStepTime);
  const bool is_taken = answer.status >= 200 && answer.status < 300;
  if (!is_taken) n_dropped_ += std::ssize(spans);
  if (!is_taken && is_reachable_) {
    log_warning("traces are lost: {}",
                answer.fault.empty() ? fmt::format("the collector answers {}", answer.status) : answer.fault);
  } else if (is_taken && n_dropped_ > 0) {
    log_warning("the collector takes traces again: {} were lost", n_dropped_.exchange(0));
  }
  is_reachable_ = is_taken;
}

}  // namespace millrace
