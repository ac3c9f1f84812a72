// What /metrics shows: counters and histograms of what the server answered, under the names that vLLM uses
// and gateways read. One thread, the I/O thread, counts and writes.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serve/dialect.h"

namespace millrace {

// Prometheus's: counts of values up to each bound.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void add(double value);
  // The family `name`, with HELP and TYPE. `labels`: `a="b",...` without braces.
  void write(std::string& out, std::string_view name, std::string_view help, std::string_view labels) const;

 private:
  std::span<const double> bounds_;
  std::vector<uint64_t> counts_;  // the last one: beyond all bounds
  double sum_ = 0.0;
};

class Metrics {
 public:
  Metrics();

  void count_response(std::string_view method, int status);
  void count_token() { ++generated_tokens_; }
  void count_first_token(double seconds) { first_token_.add(seconds); }
  void count_gap(double seconds) { gaps_.add(seconds); }
  // A request that the engine was asked to answer has ended: "stop", "length", "abort", "error".
  void count_generation(std::string_view finish, const Totals& totals);

  // The whole page. `model`: the name that labels carry.
  std::string text(const ServedModel& model) const;

 private:
  Histogram first_token_, gaps_, total_, queue_, n_prompt_, n_generated_;
  int64_t prompt_tokens_ = 0, cached_tokens_ = 0, generated_tokens_ = 0;
  std::map<std::string, int64_t, std::less<>> finished_;      // by reason
  std::map<std::pair<std::string, int>, int64_t> responses_;  // by method and status
};

// A value between the quotes of a label.
std::string label_value(std::string_view text);

}  // namespace millrace
