#include "serve/service.h"

#include <algorithm>
#include <mutex>
#include <random>

#include "base/log.h"
#include "serve/generation.h"

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
  if (error.status == 429 || error.status == 503) out.headers.emplace_back("Retry-After", "1");
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
void log_request(const HttpRequest& request, int status, double seconds, const Generation* generation) {
  std::string line =
      fmt::format("request id={} client={} method={} path={} status={} seconds={:.3f}", request.id,
                  request.client, printable(request.method, 20), printable(request.path), status, seconds);
  if (generation != nullptr) {
    const Totals& totals = generation->totals();
    line += fmt::format(
        " prompt_tokens={} cached_tokens={} completion_tokens={} first_token_seconds={:.3f} finish={}",
        totals.n_prompt, totals.n_cached, totals.n_generated, totals.first_token_s, generation->ended());
  }
  log_line(LogLevel::info, line);
}

// A request from its arrival to the last byte of its answer.
class Answering final : public Exchange {
 public:
  Answering(const ServedModel& model, const Dialect& dialect, HttpRequest request, HttpHeaders headers)
      : model_(model), dialect_(dialect), request_(std::move(request)), headers_(std::move(headers)) {}

  ~Answering() override {
    // 499, as nginx says it: the client left.
    if (!is_logged_) log_request(request_, 499, seconds(), generation_ ? &*generation_ : nullptr);
  }

  // Reads the request here, at once.
  void read_here(const ApiRoute& route, bool is_draining) {
    reading_ = std::make_shared<Reading>();
    read_request(route, {request_, model_, is_draining}, *reading_);
  }

  // Lets the worker read it. Both know the reading, whichever lives longer.
  void read_on(Worker& worker, const ApiRoute& route, bool is_draining, Waker wake) {
    reading_ = std::make_shared<Reading>();
    auto request = std::make_shared<HttpRequest>(request_);
    request_.body.clear();
    const bool is_taken = worker.post(
        [reading = reading_, request, &route, model = &model_, is_draining, wake = std::move(wake)] {
          read_request(route, {*request, *model, is_draining}, *reading);
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
    generation_.emplace(model_, std::move(std::get<Ask>(*parsed)), arrived_);
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
    if (progress.is_done) log(generation_->fault() ? generation_->fault()->status : 200);
    return progress;
  }

  Progress whole(HttpResponse response) {
    response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
    log(response.status);
    Progress progress;
    progress.head = std::move(response);
    progress.is_done = true;
    return progress;
  }

  void log(int status) {
    is_logged_ = true;
    log_request(request_, status, seconds(), generation_ ? &*generation_ : nullptr);
  }

  const ServedModel& model_;
  const Dialect& dialect_;
  HttpRequest request_;
  const HttpHeaders headers_;
  const Clock::time_point arrived_ = Clock::now();
  std::shared_ptr<Reading> reading_;
  std::optional<Generation> generation_;
  bool is_logged_ = false;
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

bool fits(const ApiRoute& route, std::string_view path) {
  if (!route.path.ends_with('*')) return route.path == path;
  const std::string_view stem = route.path.substr(0, route.path.size() - 1);
  return path.size() > stem.size() && path.starts_with(stem);
}

}  // namespace

Service::Service(const ServedModel& model, AccessOptions access)
    : model_(model),
      access_(std::move(access)),
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
  auto answering = [&] {
    return std::make_unique<Answering>(model_, *dialect, std::move(request), std::move(headers));
  };
  try {
    const Found found = find_route(request);
    dialect = found.dialect;
    need_access(request);
    if (is_draining_ && found.route->key == ApiRoute::Key::needed)
      throw ApiError(503, "the server is ending: it takes no new requests");
    std::unique_ptr<Answering> made = answering();
    if (found.route->runs == ApiRoute::Runs::here) {
      made->read_here(*found.route, is_draining_);
    } else {
      made->read_on(worker_, *found.route, is_draining_, std::move(wake));
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
