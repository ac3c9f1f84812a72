#include "quant/search.h"

#include <cstring>

namespace millrace {
namespace {

// Sums of a least-squares fit of x by one scale times integer levels.
struct Fit {
  float xl = 0.0f;  // sum of w * x * l
  float ll = 0.0f;  // sum of w * l * l
};

// Rounds up to n_max by `inverse`, then moves one level at a time to what suits the fit of the others, until
// none moves, at most 5 rounds. Returns the scale.
float descend(const float* x, int n, int n_max, const float* weights, float inverse, uint8_t* levels) {
  Fit fit;
  for (int i = 0; i < n; ++i) {
    levels[i] = static_cast<uint8_t>(clamped(nearest_int(inverse * x[i]), 0, n_max));
    const auto l = static_cast<float>(levels[i]);
    fit.xl += weights[i] * x[i] * l;
    fit.ll += weights[i] * l * l;
  }
  bool has_changed = true;
  for (int round = 0; round < 5 && has_changed; ++round) {
    has_changed = false;
    for (int i = 0; i < n; ++i) {
      const float w = weights[i];
      const auto old = static_cast<float>(levels[i]);
      Fit other{fit.xl - w * x[i] * old, fit.ll - w * old * old};
      if (!(other.xl > 0.0f && other.ll > 0.0f)) continue;
      const int level = clamped(nearest_int(x[i] * other.ll / other.xl), 0, n_max);
      const auto l = static_cast<float>(level);
      other.xl += w * x[i] * l;
      other.ll += w * l * l;
      if (level == levels[i] || !(other.xl * other.xl * fit.ll > fit.xl * fit.xl * other.ll)) continue;
      levels[i] = static_cast<uint8_t>(level);
      fit = other;
      has_changed = true;
    }
  }
  return fit.ll > 0.0f ? fit.xl / fit.ll : 0.0f;
}

float error_of(const float* x, int n, int n_max, const float* weights, float inverse) {
  const float scale = 1.0f / inverse;
  float error = 0.0f;
  for (int i = 0; i < n; ++i) {
    const int level = nearest_int(inverse * x[i]);
    const float diff = x[i] - scale * static_cast<float>(level < n_max ? level : n_max);
    error += weights[i] * diff * diff;
  }
  return error;
}

}  // namespace

const Searches& searches() {
#if defined(__x86_64__)
  static const Searches& fastest = __builtin_cpu_supports("avx2") ? avx2_searches() : plain_searches();
  return fastest;
#else
  return plain_searches();
#endif
}

float largest(const float* x, int n) {
  constexpr int32_t kInfinity = 0x7f800000;
  int32_t most = 0;  // as the bits of a float, whose maximum vectorises
  for (int i = 0; i < n; ++i) {
    const int32_t magnitude = std::bit_cast<int32_t>(x[i]) & 0x7fffffff;
    const int32_t counted = magnitude <= kInfinity ? magnitude : 0;
    most = counted > most ? counted : most;
  }
  if (most == 0) return 0.0f;
  while (std::fabs(*x) != std::bit_cast<float>(most)) ++x;
  return *x;
}

float search_positive(const float* x, int n, int n_max, const float* weights, uint8_t* levels) {
  float max = 0.0f;
  for (int i = 0; i < n; ++i) max = x[i] > max ? x[i] : max;
  if (max < kGroupEps) {
    std::memset(levels, 0, static_cast<size_t>(n));
    return 0.0f;
  }
  float inverse = static_cast<float>(n_max) / max;
  float best_error = error_of(x, n, n_max, weights, inverse);
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const float candidate = (0.1f * static_cast<float>(step) + static_cast<float>(n_max)) / max;
    const float error = error_of(x, n, n_max, weights, candidate);
    if (error < best_error) {
      best_error = error;
      inverse = candidate;
    }
  }
  return descend(x, n, n_max, weights, inverse, levels);
}

void weigh(const float* x, const float* importance, float sigma2, int n, float* weights) {
  for (int i = 0; i < n; ++i) weights[i] = importance[i] * std::sqrt(sigma2 + x[i] * x[i]);
}

float sum_of_squares(const float* x, int64_t n) {
  float sum = 0.0f;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

}  // namespace millrace
