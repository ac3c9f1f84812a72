// The program behind the HTTP server: finds the route of a request, lets it be read, and answers from the
// engine. Decides who may ask: Host, Origin, API keys.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "serve/dialect.h"
#include "serve/keys.h"
#include "serve/metrics.h"
#include "serve/net/exchange.h"
#include "serve/worker.h"

namespace millrace {

class TraceExporter;

struct AccessOptions {
  // Names that Host may have, without port; empty: any. A page in a browser can make its own name resolve to
  // this machine (DNS rebinding), but not change the Host that it sends.
  std::vector<std::string> hosts;
  std::vector<std::string> cors_origins;  // pages that may ask, as browsers name them; "*": all
  bool metrics_need_key = true;           // where there are keys
};

class Service final : public Application {
 public:
  // `model` must outlive it. With an empty ring whoever passes the other checks may ask.
  Service(const ServedModel& model, AccessOptions access, KeyRing keys);

  // I/O thread: the keys from now on.
  void set_keys(KeyRing keys);
  // Of requests that need a key, where there are keys. `traces` must outlive it.
  void trace_to(TraceExporter& traces) { traces_ = &traces; }
  // Called at SIGHUP, on the I/O thread.
  void on_reload(std::function<void()> reload) { reload_ = std::move(reload); }

  std::unique_ptr<Exchange> start(HttpRequest request, Waker wake) override;
  HttpResponse refusal(const HttpFault& fault) override;
  void drain() override { is_draining_ = true; }
  bool has_ended() const override { return !model_.engine.failure().empty(); }
  void reload() override {
    if (reload_) reload_();
  }

 private:
  struct Found {
    const Dialect* dialect;
    const ApiRoute* route;
  };
  Found find_route(const HttpRequest& request) const;
  void need_access(const HttpRequest& request) const;
  // Whose the request is; nothing where no key is asked for. Throws where it may not be answered.
  std::shared_ptr<ApiKey> need_key(const HttpRequest& request, const ApiRoute& route);
  bool is_known_origin(const std::string& origin) const;
  HttpHeaders extra_headers(const HttpRequest& request) const;
  HttpResponse preflight(const HttpRequest& request) const;
  std::string fresh_id();

  const ServedModel& model_;
  const AccessOptions access_;
  KeyRing keys_;
  Metrics metrics_;
  TraceExporter* traces_ = nullptr;
  std::function<void()> reload_;
  const uint64_t first_id_;
  uint64_t n_ids_ = 0;
  bool is_draining_ = false;
  Worker worker_;
};

}  // namespace millrace
