#include "engine/candidates.h"

#include <algorithm>
#include <cmath>

namespace millrace {
namespace {

bool is_likelier(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

}  // namespace

Candidates::Candidates(std::span<const float> logits) {
  all_.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > -INFINITY) all_.push_back({static_cast<int32_t>(i), logits[i], 0.0});
  }
  if (all_.empty()) all_.push_back({0, 0.0f, 1.0});  // everything was forbidden, or the logits are NaN
}

void Candidates::divide_by_temperature(float temperature) {
  for (Candidate& c : all_) c.logit /= temperature;
}

void Candidates::normalise() {
  const float max = n_sorted_ > 0 ? all_[0].logit : std::ranges::min_element(all_, is_likelier)->logit;
  double sum = 0.0;
  for (Candidate& c : all_) {
    c.probability = std::exp(static_cast<double>(c.logit) - static_cast<double>(max));
    sum += c.probability;
  }
  for (Candidate& c : all_) c.probability /= sum;
}

void Candidates::sort_first(size_t n) {
  n = std::min(n, all_.size());
  if (n <= n_sorted_) return;
  const auto end = all_.begin() + static_cast<ptrdiff_t>(n);
  const auto begin = all_.begin() + static_cast<ptrdiff_t>(n_sorted_);
  if (end != all_.end()) std::nth_element(begin, end, all_.end(), is_likelier);
  std::sort(begin, end, is_likelier);
  n_sorted_ = n;
}

std::span<const Candidate> Candidates::sorted() {
  sort_first(all_.size());
  normalise();
  return all_;
}

void Candidates::keep_top_k(int32_t k) {
  if (k <= 0 || k >= size()) return;
  sort_first(static_cast<size_t>(k));
  all_.resize(static_cast<size_t>(k));
}

void Candidates::keep_top_p(float p) {
  if (p >= 1.0f) return;
  normalise();
  double sum = 0.0;
  for (size_t i = 0; i < all_.size(); ++i) {
    if (i == n_sorted_) sort_first(std::max<size_t>(64, 4 * n_sorted_));  // most often a few are enough
    sum += all_[i].probability;
    if (sum >= p) {
      all_.resize(i + 1);
      n_sorted_ = all_.size();
      return;
    }
  }
}

void Candidates::keep_min_p(float share) {
  if (share <= 0.0f) return;
  sort_first(1);
  const float least = all_[0].logit + std::log(share);
  std::erase_if(all_, [&](const Candidate& c) { return c.logit < least; });
  n_sorted_ = std::min(n_sorted_, all_.size());
}

void Candidates::keep_typical(float p) {
  if (p >= 1.0f) return;
  normalise();
  double entropy = 0.0;
  for (const Candidate& c : all_)
    entropy -= c.probability > 0.0 ? c.probability * std::log(c.probability) : 0.0;
  const auto strangeness = [entropy](const Candidate& c) {
    return std::fabs(-std::log(c.probability) - entropy);
  };
  std::ranges::sort(all_, [&](const Candidate& a, const Candidate& b) {
    const double sa = strangeness(a), sb = strangeness(b);
    return sa < sb || (sa == sb && is_likelier(a, b));
  });
  double sum = 0.0;
  size_t n = 0;
  while (n < all_.size() && sum < p) sum += all_[n++].probability;
  all_.resize(std::max<size_t>(n, 1));
  n_sorted_ = 0;
}

void Candidates::keep_top_n_sigma(float n) {
  if (n <= 0.0f) return;
  double sum = 0.0, squares = 0.0;
  float max = all_[0].logit;
  for (const Candidate& c : all_) {
    sum += c.logit;
    max = std::max(max, c.logit);
  }
  const double mean = sum / static_cast<double>(all_.size());
  for (const Candidate& c : all_) squares += (c.logit - mean) * (c.logit - mean);
  const double least = max - n * std::sqrt(squares / static_cast<double>(all_.size()));
  std::erase_if(all_, [&](const Candidate& c) { return c.logit < least; });
  n_sorted_ = 0;
}

void Candidates::exclude_top(float threshold) {
  const std::span<const Candidate> likeliest_first = sorted();
  size_t n_above = 0;
  while (n_above < likeliest_first.size() && likeliest_first[n_above].probability >= threshold) ++n_above;
  if (n_above < 2) return;
  all_.erase(all_.begin(), all_.begin() + static_cast<ptrdiff_t>(n_above - 1));
  n_sorted_ = all_.size();
}

void Candidates::keep_surprise_up_to(float mu) {
  const std::span<const Candidate> likeliest_first = sorted();
  size_t n = 1;
  while (n < likeliest_first.size() && -std::log2(likeliest_first[n].probability) <= mu) ++n;
  all_.resize(n);
  n_sorted_ = n;
}

const Candidate& Candidates::draw(double u) {
  if (n_sorted_ > 0)
    sort_first(all_.size());  // the order must not depend on how a partial sort left the rest
  normalise();
  double sum = 0.0;
  for (const Candidate& c : all_) {
    sum += c.probability;
    if (u < sum) return c;
  }
  return *std::ranges::min_element(all_, is_likelier);  // the probabilities summed to a little less than u
}

}  // namespace millrace
