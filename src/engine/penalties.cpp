#include "engine/penalties.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <vector>

namespace millrace {
namespace {

std::span<const int32_t> last_of(std::span<const int32_t> history, int32_t n) {
  return n < 0 || static_cast<size_t>(n) >= history.size() ? history : history.last(static_cast<size_t>(n));
}

// For each position i the length of the longest common ending of tokens[0..i] and the whole of tokens.
// The Z function of the reversed tokens.
std::vector<size_t> common_endings(std::span<const int32_t> tokens) {
  const size_t n = tokens.size();
  const auto at = [&](size_t i) { return tokens[n - 1 - i]; };
  std::vector<size_t> z(n, 0);
  for (size_t i = 1, left = 0, right = 0; i < n; ++i) {
    if (i < right) z[i] = std::min(right - i, z[i - left]);
    while (i + z[i] < n && at(z[i]) == at(i + z[i])) ++z[i];
    if (i + z[i] > right) {
      left = i;
      right = i + z[i];
    }
  }
  std::ranges::reverse(z);
  return z;
}

bool is_breaker(int32_t token, const std::vector<std::vector<int32_t>>& breakers) {
  return std::ranges::any_of(breakers, [token](const auto& b) { return b.size() == 1 && b[0] == token; });
}

// How many of the last tokens may take part in a repetition: up to the last breaker.
size_t n_since_breaker(std::span<const int32_t> tokens, const std::vector<std::vector<int32_t>>& breakers) {
  size_t n = tokens.size();
  for (const std::vector<int32_t>& breaker : breakers) {
    const auto found = std::find_end(tokens.begin(), tokens.end(), breaker.begin(), breaker.end());
    if (found != tokens.end()) n = std::min(n, static_cast<size_t>(tokens.end() - found) - breaker.size());
  }
  return n;
}

bool has_counts(const Sampling& sampling) {
  return sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0.0f ||
         sampling.frequency_penalty != 0.0f;
}

}  // namespace

bool has_penalties(const Sampling& sampling) {
  return has_counts(sampling) || sampling.dry_multiplier > 0.0f;
}

void apply_penalties(std::span<float> logits, std::span<const int32_t> history, const Sampling& sampling) {
  if (!has_counts(sampling)) return;
  std::unordered_map<int32_t, int32_t> counts;
  for (const int32_t token : last_of(history, sampling.penalty_last_n)) ++counts[token];
  for (const auto& [token, count] : counts) {
    float& logit = logits[static_cast<size_t>(token)];
    logit = logit > 0.0f ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    logit -= sampling.presence_penalty + sampling.frequency_penalty * static_cast<float>(count);
  }
}

void apply_dry(std::span<float> logits, std::span<const int32_t> history, const Sampling& sampling) {
  if (sampling.dry_multiplier <= 0.0f) return;
  const std::span<const int32_t> tokens = last_of(history, sampling.dry_last_n);
  const size_t longest = n_since_breaker(tokens, sampling.dry_breakers);
  const std::vector<size_t> endings = common_endings(tokens);
  std::unordered_map<int32_t, size_t> repeats;  // the longest repetition that each token would continue
  for (size_t i = 0; i + 1 < tokens.size(); ++i) {
    size_t& length = repeats[tokens[i + 1]];
    length = std::max(length, std::min(endings[i], longest));
  }
  for (const auto& [token, length] : repeats) {
    if (length < static_cast<size_t>(sampling.dry_allowed_length)) continue;
    if (is_breaker(token, sampling.dry_breakers)) continue;
    const double exponent = static_cast<double>(length) - sampling.dry_allowed_length;
    const double penalty =
        sampling.dry_multiplier * std::pow(static_cast<double>(sampling.dry_base), exponent);
    logits[static_cast<size_t>(token)] -= static_cast<float>(std::min(penalty, 1e30));
  }
}

}  // namespace millrace
