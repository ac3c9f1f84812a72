// API keys: who may ask, for which models, and how much in a minute. Keys are known by their SHA-256 alone.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"

namespace millrace {

// So much a minute, all at once or evenly: a token bucket. No locks: its user is one thread.
class Allowance {
 public:
  using Time = std::chrono::steady_clock::time_point;
  Allowance() = default;  // no limit
  explicit Allowance(int64_t per_minute)
      : per_minute_(per_minute), n_left_(static_cast<double>(per_minute)) {}

  // 0 where `n` may be spent at `now`; else the seconds until then. 0 a minute is no limit.
  double wait_for(double n, Time now);
  // May go below nothing, for what was not known before: that is paid back first.
  void spend(double n) { n_left_ -= n; }
  int64_t per_minute() const { return per_minute_; }

 private:
  int64_t per_minute_ = 0;
  double n_left_ = 0.0;
  Time filled_at_{};
};

struct ApiKey {
  std::string name;  // for logs and metrics; never the key
  Digest digest{};
  std::vector<std::string> models;  // that it may ask; empty: all
  Allowance requests, tokens;       // of the prompt and generated
};

class KeyRing {
 public:
  // {"keys": [{"name": "team", "sha256": "64 hex digits", "requests_per_minute": 60, "tokens_per_minute":
  // 100000, "models": ["name"]}]}, where name and sha256 are needed. Throws Error(usage) that says where it
  // is wrong.
  static KeyRing of_file(const std::filesystem::path& path);
  void add(ApiKey key);

  bool empty() const { return keys_.empty(); }
  // Takes as long for every key that is wrong. Shared: a request that runs outlives a ring that is read anew.
  std::shared_ptr<ApiKey> find(std::string_view key) const;
  // What was spent under keys of `other` that are here unchanged counts on.
  void take_over_allowances(const KeyRing& other);

 private:
  std::vector<std::shared_ptr<ApiKey>> keys_;
};

}  // namespace millrace
