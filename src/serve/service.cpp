#include "serve/service.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <random>

#include "base/log.h"
#include "serve/generation.h"
#include "serve/traces.h"

namespace millrace {
namespace {

constexpr int64_t kMaxWaitingJobs = 4096;
constexpr size_t kMaxIdBytes = 128;

bool is_id(const std::string& text) {
  return !text.empty() && text.size() <= kMaxIdBytes &&
         std::ranges::all_of(text, [](char c) { return c > ' ' && c < 0x7f && c != '"' && c != '\\'; });
}

// Host without its port: "[::1]:80" is "[::1]".
std::string host_name(const std::string& host) {
  const size_t bracket = host.rfind(']');
  const size_t colon = host.rfind(':');
  const bool has_port = colon != std::string::npos && (bracket == std::string::npos || colon > bracket);
  return lower_case(has_port ? std::string_view(host).substr(0, colon) : std::string_view(host));
}

HttpResponse error_response(const Dialect& dialect, const ApiError& error, const std::string& id) {
  HttpResponse out{.status = error.status, .body = dialect.error_body(error, id)};
  if (error.status == 401) out.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.status == 429 || error.status == 503) {
    const double seconds = std::clamp(std::ceil(error.retry_after_s), 1.0, 3600.0);
    out.headers.emplace_back("Retry-After", fmt::format("{:.0f}", seconds));
  }
  return out;
}

// What a request became on the worker; filled there, taken on the I/O thread.
struct Reading {
  std::mutex mutex;
  std::optional<Parsed> parsed;
  std::optional<ApiError> error;
  bool is_done = false;
};

void read_request(const ApiRoute& route, const Incoming& incoming, Reading& reading) {
  std::optional<Parsed> parsed;
  std::optional<ApiError> error;
  try {
    parsed = route.parse(incoming);
  } catch (const ApiError& refused) {
    error = refused;
  } catch (const Error& failed) {
    error = ApiError(failed.kind() == ErrorKind::usage ? 400 : 500, failed.what());
  } catch (const std::exception& failed) {
    error = ApiError(500, failed.what());
  }
  const std::lock_guard lock(reading.mutex);
  reading.parsed = std::move(parsed);
  reading.error = std::move(error);
  reading.is_done = true;
}

// A line for every request, with what it cost.
void log_request(const HttpRequest& request, const std::string& key, int status, double seconds,
                 const Generation* generation) {
  std::string line =
      fmt::format("request id={} client={} method={} path={} status={} seconds={:.3f}", request.id,
                  request.client, printable(request.method, 20), printable(request.path), status, seconds);
  if (!key.empty()) line += fmt::format(" key={}", key);
  if (generation != nullptr) {
    const Totals& totals = generation->totals();
    line += fmt::format(
        " prompt_tokens={} cached_tokens={} completion_tokens={} first_token_seconds={:.3f} finish={}",
        totals.n_prompt, totals.n_cached, totals.n_generated, totals.first_token_s, generation->ended());
  }
  log_line(LogLevel::info, line);
}

// Under the names of OpenTelemetry and, where those have none, of vLLM.
TraceSpan span_of(const HttpRequest& request, const ServedModel& model, int status,
                  const Generation* generation) {
  TraceSpan span;
  span.name = fmt::format("{} {}", request.method, request.path);
  if (const std::string* parent = request.header("traceparent"))
    span.parent = TraceParent::of_header(*parent);
  span.has_failed = status >= 500;
  const auto add = [&](std::string_view key, Json value) {
    span.attributes.emplace_back(key, std::move(value));
  };
  add("http.request.method", request.method);
  add("url.path", request.path);
  add("http.response.status_code", status);
  add("gen_ai.request.id", request.id);
  add("gen_ai.response.model", model.names.front());
  if (status >= 400) add("error.type", std::to_string(status));
  if (generation == nullptr) return span;
  const Totals& totals = generation->totals();
  add("gen_ai.response.finish_reasons", Json::Array{generation->ended()});
  add("gen_ai.usage.input_tokens", totals.n_prompt);
  add("gen_ai.usage.cache_read.input_tokens", totals.n_cached);
  add("gen_ai.usage.output_tokens", totals.n_generated);
  add("gen_ai.latency.time_in_queue", totals.queue_s);
  add("gen_ai.latency.time_to_first_token", totals.first_token_s);
  add("gen_ai.latency.e2e", totals.total_s);
  return span;
}

// A request from its arrival to the last byte of its answer.
class Answering final : public Exchange {
 public:
  // What outlives every exchange.
  struct Around {
    const ServedModel& model;
    Metrics& metrics;
    bool is_draining;
    TraceExporter* traces;  // nullptr: nobody wants any
  };
  Answering(const Around& around, const Dialect& dialect, std::shared_ptr<ApiKey> key, HttpRequest request,
            HttpHeaders headers)
      : model_(around.model),
        metrics_(around.metrics),
        is_draining_(around.is_draining),
        traces_(around.traces),
        dialect_(dialect),
        key_(std::move(key)),
        request_(std::move(request)),
        headers_(std::move(headers)) {}

  ~Answering() override {
    // 499, as nginx says it: the client left.
    if (!is_finished_) finish(499);
  }

  // Reads the request here, at once.
  void read_here(const ApiRoute& route) {
    reading_ = std::make_shared<Reading>();
    read_request(route, {request_, model_, key_.get(), &metrics_, is_draining_}, *reading_);
  }

  // Lets the worker read it. Both know the reading, whichever lives longer.
  void read_on(Worker& worker, const ApiRoute& route, Waker wake) {
    reading_ = std::make_shared<Reading>();
    auto request = std::make_shared<HttpRequest>(request_);
    request_.body.clear();
    const bool is_taken = worker.post([reading = reading_, request, &route, model = &model_, key = key_,
                                       is_draining = is_draining_, wake = std::move(wake)] {
      read_request(route, {*request, *model, key.get(), nullptr, is_draining}, *reading);
      wake();
    });
    if (!is_taken) refuse(ApiError(429, "too many requests wait to be read", {}, "queue_full"));
  }

  void refuse(ApiError error) {
    reading_ = std::make_shared<Reading>();
    reading_->error = std::move(error);
    reading_->is_done = true;
  }

  Progress poll() override { return generation_ ? advance() : begin(); }
  std::string keep_alive() override { return generation_ ? generation_->keep_alive() : std::string(); }

 private:
  using Clock = Generation::Clock;
  double seconds() const { return std::chrono::duration<double>(Clock::now() - arrived_).count(); }

  Progress begin() {
    std::optional<Parsed> parsed;
    {
      const std::lock_guard lock(reading_->mutex);
      if (!reading_->is_done) return {};
      if (reading_->error) return whole(error_response(dialect_, *reading_->error, request_.id));
      parsed = std::move(reading_->parsed);
    }
    if (auto* response = std::get_if<HttpResponse>(&*parsed)) return whole(std::move(*response));
    generation_.emplace(model_, std::move(std::get<Ask>(*parsed)), arrived_, metrics_);
    if (const auto refused = generation_->submit())
      return whole(error_response(dialect_, *refused, request_.id));
    if (!generation_->is_streamed()) return advance();
    Progress progress = advance();
    progress.is_streamed = true;
    progress.head = HttpResponse{.status = 200, .content_type = generation_->stream_type()};
    progress.head->headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    progress.head->headers.insert(progress.head->headers.end(), headers_.begin(), headers_.end());
    return progress;
  }

  Progress advance() {
    std::string bytes;
    generation_->advance(bytes);
    if (!generation_->is_streamed()) {
      if (!generation_->is_done()) return {};
      if (generation_->fault()) return whole(error_response(dialect_, *generation_->fault(), request_.id));
      return whole({.status = 200, .body = std::move(bytes)});
    }
    Progress progress;
    progress.bytes = std::move(bytes);
    progress.is_done = generation_->is_done();
    if (progress.is_done) finish(generation_->fault() ? generation_->fault()->status : 200);
    return progress;
  }

  Progress whole(HttpResponse response) {
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    finish(response.status);
    Progress progress;
    progress.head = std::move(response);
    progress.is_done = true;
    return progress;
  }

  // Logged, counted, paid for.
  void finish(int status) {
    is_finished_ = true;
    const Generation* generation = generation_ ? &*generation_ : nullptr;
    log_request(request_, key_ == nullptr ? std::string() : key_->name, status, seconds(), generation);
    metrics_.count_response(request_.method, status);
    trace(status);
    if (generation == nullptr || !generation->is_submitted()) return;
    const Totals totals = generation->totals();
    const std::string_view reason = status == 499         ? "abort"
                                    : generation->fault() ? "error"
                                                          : generation->ended();
    metrics_.count_generation(reason, totals);
    if (key_ != nullptr) key_->tokens.spend(static_cast<double>(totals.n_prompt + totals.n_generated));
  }

  void trace(int status) const {
    if (traces_ == nullptr) return;
    TraceSpan span = span_of(request_, model_, status, generation_ ? &*generation_ : nullptr);
    span.end = std::chrono::system_clock::now();
    span.begin =
        span.end - std::chrono::duration_cast<std::chrono::system_clock::duration>(Clock::now() - arrived_);
    traces_->add(std::move(span));
  }

  const ServedModel& model_;
  Metrics& metrics_;
  const bool is_draining_;
  TraceExporter* const traces_;
  const Dialect& dialect_;
  const std::shared_ptr<ApiKey> key_;
  HttpRequest request_;
  const HttpHeaders headers_;
  const Clock::time_point arrived_ = Clock::now();
  std::shared_ptr<Reading> reading_;
  std::optional<Generation> generation_;
  bool is_finished_ = false;
};

class Whole final : public Exchange {
 public:
  explicit Whole(HttpResponse response) : response_(std::move(response)) {}
  Progress poll() override {
    Progress progress;
    progress.head = std::move(response_);
    progress.is_done = true;
    return progress;
  }

 private:
  HttpResponse response_;
};

std::string given_key(const HttpRequest& request) {
  const std::string* bearer = request.header("authorization");
  if (bearer != nullptr && lower_case(bearer->substr(0, 7)) == "bearer ") return bearer->substr(7);
  const std::string* plain = request.header("x-api-key");
  return plain == nullptr ? std::string() : *plain;
}

// Tokens are paid for when they are known: whoever owes some waits.
void spend_request(ApiKey& key) {
  const auto now = std::chrono::steady_clock::now();
  const auto need = [now](Allowance& allowance, std::string_view what) {
    const double wait_s = allowance.wait_for(1, now);
    if (wait_s == 0.0) return;
    ApiError error(429,
                   fmt::format("the key may spend {} {} a minute: again in {:.0f} s", allowance.per_minute(),
                               what, std::ceil(wait_s)),
                   {}, "rate_limit_exceeded");
    error.retry_after_s = wait_s;
    throw error;
  };
  need(key.requests, "requests");
  need(key.tokens, "tokens");
  key.requests.spend(1);
}

bool fits(const ApiRoute& route, std::string_view path) {
  if (!route.path.ends_with('*')) return route.path == path;
  const std::string_view stem = route.path.substr(0, route.path.size() - 1);
  return path.size() > stem.size() && path.starts_with(stem);
}

}  // namespace

Service::Service(const ServedModel& model, AccessOptions access, KeyRing keys)
    : model_(model),
      access_(std::move(access)),
      keys_(std::move(keys)),
      first_id_(static_cast<uint64_t>(std::random_device{}()) << 32 | std::random_device{}()),
      worker_(kMaxWaitingJobs) {}

std::string Service::fresh_id() {
  // Unique in this process, and unlikely to be another's: a drawn beginning and a count.
  return fmt::format("{:016x}{:08x}", first_id_, ++n_ids_);
}

std::unique_ptr<Exchange> Service::start(HttpRequest request, Waker wake) {
  const std::string* id = request.header("x-request-id");
  request.id = id != nullptr && is_id(*id) ? *id : fresh_id();
  HttpHeaders headers = extra_headers(request);
  const Dialect* dialect = &all_dialects().front();
  if (request.method == "OPTIONS") return std::make_unique<Whole>(preflight(request));
  std::shared_ptr<ApiKey> key;
  TraceExporter* traces = traces_;
  auto answering = [&] {
    return std::make_unique<Answering>(Answering::Around{model_, metrics_, is_draining_, traces}, *dialect,
                                       std::move(key), std::move(request), std::move(headers));
  };
  try {
    const Found found = find_route(request);
    dialect = found.dialect;
    if (found.route->key != ApiRoute::Key::needed) traces = nullptr;  // probes and scrapes
    need_access(request);
    key = need_key(request, *found.route);
    if (is_draining_ && found.route->key == ApiRoute::Key::needed)
      throw ApiError(503, "the server is ending: it takes no new requests");
    std::unique_ptr<Answering> made = answering();
    if (found.route->runs == ApiRoute::Runs::here) {
      made->read_here(*found.route);
    } else {
      made->read_on(worker_, *found.route, std::move(wake));
    }
    return made;
  } catch (const ApiError& error) {
    std::unique_ptr<Answering> made = answering();
    made->refuse(error);
    return made;
  }
}

Service::Found Service::find_route(const HttpRequest& request) const {
  const std::string_view method = request.method == "HEAD" ? "GET" : std::string_view(request.method);
  bool is_known = false;
  for (const Dialect& dialect : all_dialects()) {
    for (const ApiRoute& route : dialect.routes) {
      if (!fits(route, request.path)) continue;
      if (route.method == method) return {&dialect, &route};
      is_known = true;
    }
  }
  if (is_known)
    throw ApiError(
        405, fmt::format("{} does not take {}", printable(request.path), printable(request.method, 20)));
  throw ApiError(404, fmt::format("there is no {}", printable(request.path)));
}

bool Service::is_known_origin(const std::string& origin) const {
  return std::ranges::any_of(access_.cors_origins,
                             [&](const std::string& known) { return known == "*" || known == origin; });
}

// A page of another site runs nothing here, unless its origin was allowed; nor does a page whose name was
// made to resolve to this machine.
void Service::need_access(const HttpRequest& request) const {
  const std::string* host = request.header("host");
  const std::string name = host == nullptr ? "" : host_name(*host);
  if (!access_.hosts.empty() && std::ranges::find(access_.hosts, name) == access_.hosts.end())
    throw ApiError(421, fmt::format("the host {} is none of this server's: allow it with --allow-host",
                                    printable(name)));
  if (request.n_headers("authorization") > 1) throw ApiError(400, "there are several Authorization headers");
  const std::string* origin = request.header("origin");
  if (origin != nullptr && host != nullptr && !is_known_origin(*origin)) {
    const bool is_own = *origin == "http://" + *host || *origin == "https://" + *host;
    if (!is_own)
      throw ApiError(403, fmt::format("pages of {} may not ask this server: allow them with --cors-origin",
                                      printable(*origin)));
  }
  if (request.method != "POST") return;
  const std::string* type = request.header("content-type");
  const std::string kind = type == nullptr ? "" : lower_case(type->substr(0, type->find(';')));
  if (kind != "application/json")
    throw ApiError(415, fmt::format("the body should come as Content-Type: application/json, found {}",
                                    kind.empty() ? "none" : printable(kind)));
}

void Service::set_keys(KeyRing keys) {
  keys.take_over_allowances(keys_);
  keys_ = std::move(keys);
}

std::shared_ptr<ApiKey> Service::need_key(const HttpRequest& request, const ApiRoute& route) {
  const bool is_open =
      route.key == ApiRoute::Key::none || (route.key == ApiRoute::Key::metrics && !access_.metrics_need_key);
  if (keys_.empty() || is_open) return nullptr;
  const std::string given = given_key(request);
  if (given.empty())
    throw ApiError(401, "an API key is missing: send it as Authorization: Bearer KEY or as x-api-key", {},
                   "missing_api_key");
  std::shared_ptr<ApiKey> key = keys_.find(given);
  if (key == nullptr) throw ApiError(401, "the API key is none of this server's", {}, "invalid_api_key");
  if (route.runs == ApiRoute::Runs::on_worker) spend_request(*key);  // what computes nothing costs nothing
  return key;
}

HttpHeaders Service::extra_headers(const HttpRequest& request) const {
  HttpHeaders out = {{"x-request-id", request.id}, {"request-id", request.id}};
  const std::string* origin = request.header("origin");
  if (origin != nullptr && is_known_origin(*origin)) {
    out.emplace_back("Access-Control-Allow-Origin", *origin);
    out.emplace_back("Access-Control-Expose-Headers", "x-request-id, request-id");
    out.emplace_back("Vary", "Origin");
  }
  return out;
}

HttpResponse Service::preflight(const HttpRequest& request) const {
  HttpResponse out{.status = 204, .content_type = {}};
  out.headers = extra_headers(request);
  const std::string* origin = request.header("origin");
  if (origin != nullptr && is_known_origin(*origin)) {
    out.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST");
    out.headers.emplace_back(
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, x-api-key, anthropic-version, anthropic-beta, x-request-id");
    out.headers.emplace_back("Access-Control-Max-Age", "600");
  } else {
    out.headers.emplace_back("Allow", "GET, HEAD, POST, OPTIONS");
  }
  return out;
}

HttpResponse Service::refusal(const HttpFault& fault) {
  log_line(LogLevel::info, fmt::format("request refused status={}: {}", fault.status, fault.sentence));
  const std::string id = fresh_id();
  return error_response(all_dialects().front(), ApiError(fault.status, fault.sentence), id);
}

}  // namespace millrace
