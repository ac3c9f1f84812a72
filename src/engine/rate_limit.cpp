#include "engine/rate_limit.h"

#include <algorithm>

namespace millrace {

double RateLimit::n_left_of(const Bucket& bucket, Time now) const {
  const std::chrono::duration<double> passed = now - bucket.filled_at;
  const auto most = static_cast<double>(n_per_minute_);
  return std::min(most, bucket.n_left + passed.count() * most / 60.0);
}

double RateLimit::ask(const std::string& key, Time now) {
  if (n_per_minute_ == 0) return 0.0;
  forget_full(now);
  Bucket& bucket = buckets_.try_emplace(key, Bucket{static_cast<double>(n_per_minute_), now}).first->second;
  bucket = {n_left_of(bucket, now), now};
  if (bucket.n_left < 1.0) return (1.0 - bucket.n_left) * 60.0 / static_cast<double>(n_per_minute_);
  bucket.n_left -= 1.0;
  return 0.0;
}

void RateLimit::forget_full(Time now) {
  if (now - forgotten_at_ < std::chrono::minutes(1)) return;
  forgotten_at_ = now;
  std::erase_if(buckets_, [&](const auto& entry) {
    return n_left_of(entry.second, now) >= static_cast<double>(n_per_minute_);
  });
}

}  // namespace millrace
