#include "engine/divergence.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace millrace {
namespace {

constexpr float kLeastLog = -16.0f;

// The value below which `share` of the sorted values lie, between neighbours linearly.
double quantile(const std::vector<double>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (at - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

void log_softmax(std::span<const float> logits, std::span<float> out) {
  const double max = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  const double log_sum = max + std::log(sum);
  for (size_t i = 0; i < logits.size(); ++i)
    out[i] = static_cast<float>(static_cast<double>(logits[i]) - log_sum);
}

void DivergenceMeter::add(std::span<const float> base, std::span<const float> other, int32_t followed) {
  check(base.size() == other.size(), "both models have one vocabulary");
  double kl = 0.0;
  for (size_t i = 0; i < base.size(); ++i) {
    if (base[i] <= kLeastLog) continue;
    const auto log_p = static_cast<double>(base[i]);
    kl += std::exp(log_p) * (log_p - static_cast<double>(other[i]));
  }
  kl_.push_back(kl);
  const auto top = [](std::span<const float> all) { return std::ranges::max_element(all) - all.begin(); };
  n_same_top_ += top(base) == top(other) ? 1 : 0;
  const double base_log = base[static_cast<size_t>(followed)],
               other_log = other[static_cast<size_t>(followed)];
  const double delta_p = std::exp(other_log) - std::exp(base_log);
  base_surprise_ -= base_log;
  surprise_ -= other_log;
  squared_delta_p_ += delta_p * delta_p;
}

Divergence DivergenceMeter::result() const {
  check(!kl_.empty(), "a divergence is of at least one position");
  std::vector<double> sorted = kl_;
  std::ranges::sort(sorted);
  const auto n = static_cast<double>(sorted.size());
  double sum = 0.0, squares = 0.0;
  for (const double kl : sorted) {
    sum += kl;
    squares += kl * kl;
  }
  const double mean = sum / n;
  const double variance = std::max(0.0, squares / n - mean * mean);
  return {.n_positions = std::ssize(sorted),
          .mean = mean,
          .mean_stderr = std::sqrt(variance / std::max(1.0, n - 1.0)),
          .median = quantile(sorted, 0.5),
          .p99 = quantile(sorted, 0.99),
          .max = sorted.back(),
          .same_top = static_cast<double>(n_same_top_) / n,
          .rms_delta_p = std::sqrt(squared_delta_p_ / n),
          .base_perplexity = std::exp(base_surprise_ / n),
          .perplexity = std::exp(surprise_ / n),
          .perplexity_ratio = std::exp((surprise_ - base_surprise_) / n)};
}

}  // namespace millrace
