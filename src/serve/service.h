// The program behind the HTTP server: finds the route of a request, lets it be read, and answers from the
// engine. Decides who may ask: Host, Origin.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/dialect.h"
#include "serve/net/exchange.h"
#include "serve/worker.h"

namespace millrace {

struct AccessOptions {
  // Names that Host may have, without port; empty: any. A page in a browser can make its own name resolve to
  // this machine (DNS rebinding), but not change the Host that it sends.
  std::vector<std::string> hosts;
  std::vector<std::string> cors_origins;  // pages that may ask, as browsers name them; "*": all
};

class Service final : public Application {
 public:
  // `model` must outlive it.
  Service(const ServedModel& model, AccessOptions access);

  std::unique_ptr<Exchange> start(HttpRequest request, Waker wake) override;
  HttpResponse refusal(const HttpFault& fault) override;
  void drain() override { is_draining_ = true; }

  // What every exchange needs of the service.
  const ServedModel& model() const { return model_; }
  bool is_draining() const { return is_draining_; }

 private:
  struct Found {
    const Dialect* dialect;
    const ApiRoute* route;
  };
  Found find_route(const HttpRequest& request) const;
  void need_access(const HttpRequest& request) const;
  bool is_known_origin(const std::string& origin) const;
  HttpHeaders extra_headers(const HttpRequest& request) const;
  HttpResponse preflight(const HttpRequest& request) const;
  std::string fresh_id();

  const ServedModel& model_;
  const AccessOptions access_;
  const uint64_t first_id_;
  uint64_t n_ids_ = 0;
  bool is_draining_ = false;
  Worker worker_;
};

}  // namespace millrace
