// How often a key may ask: a token bucket for each key. No locks: its user has one.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

namespace millrace {

class RateLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // A key may ask `n_per_minute` times at once, and gets as many back in a minute. 0: no limit.
  explicit RateLimit(int64_t n_per_minute) : n_per_minute_(n_per_minute) {}

  // 0 when `key` may ask at `now`, which then counts; else the seconds until it may.
  double ask(const std::string& key, Time now);

 private:
  struct Bucket {
    double n_left;
    Time filled_at;
  };
  // Full buckets are as good as none.
  void forget_full(Time now);
  double n_left_of(const Bucket& bucket, Time now) const;

  int64_t n_per_minute_;
  std::map<std::string, Bucket> buckets_;
  Time forgotten_at_{};
};

}  // namespace millrace
