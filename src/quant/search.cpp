#include "quant/search.h"

namespace millrace {
namespace {

// Sums of a least-squares fit of x by one scale times integer levels.
struct Fit {
  float xl = 0.0f;  // sum of w * x * l
  float ll = 0.0f;  // sum of w * l * l

  float scale() const { return ll > 0.0f ? xl / ll : 0.0f; }
};

float weight_of(const float* x, const float* weights, int i) {
  return weights != nullptr ? weights[i] : x[i] * x[i];
}

int signed_level(float inverse, float x, int n_max) {
  return clamped(nearest_int(inverse * x), -n_max, n_max - 1);
}

Fit fit_signed(const float* x, int n, int n_max, const float* weights, float inverse) {
  Fit fit;
  for (int i = 0; i < n; ++i) {
    const auto l = static_cast<float>(signed_level(inverse, x[i], n_max));
    const float w = weight_of(x, weights, i);
    fit.xl += w * x[i] * l;
    fit.ll += w * l * l;
  }
  return fit;
}

// One element at a time moves to the level that suits the fit of the others, up to 5 rounds (coordinate
// descent).
template <class Level, class IsBetter>
Fit descend(const float* x, int n, const float* weights, int low, int high, Level* levels, Fit fit,
            IsBetter may_try) {
  for (int round = 0; round < 5; ++round) {
    int n_changed = 0;
    for (int i = 0; i < n; ++i) {
      const float w = weight_of(x, weights, i);
      const auto old = static_cast<float>(levels[i]);
      Fit other{fit.xl - w * x[i] * old, fit.ll - w * old * old};
      if (!may_try(other)) continue;
      const int level = clamped(nearest_int(x[i] * other.ll / other.xl), low, high);
      if (level == levels[i]) continue;
      const auto l = static_cast<float>(level);
      other.xl += w * x[i] * l;
      other.ll += w * l * l;
      if (!(other.ll > 0.0f && other.xl * other.xl * fit.ll > fit.xl * fit.xl * other.ll)) continue;
      levels[i] = static_cast<Level>(level);
      fit = other;
      ++n_changed;
    }
    if (n_changed == 0) break;
  }
  return fit;
}

}  // namespace

float largest(const float* x, int n) {
  float magnitude = 0.0f, value = 0.0f;
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) > magnitude) {
      magnitude = std::fabs(x[i]);
      value = x[i];
    }
  }
  return value;
}

float search_signed(const float* x, int n, int n_max, const float* weights, uint8_t* levels) {
  const float max = largest(x, n);
  std::memset(levels, 0, static_cast<size_t>(n));
  if (std::fabs(max) < kGroupEps) return 0.0f;
  float inverse = static_cast<float>(-n_max) / max;
  const Fit first = fit_signed(x, n, n_max, weights, inverse);
  float scale = first.ll != 0.0f ? first.xl / first.ll : 0.0f;
  float best = scale * first.xl;
  float best_inverse = inverse;
  for (int step = -9; step <= 9; ++step) {
    if (step == 0) continue;
    inverse = -(static_cast<float>(n_max) + 0.1f * static_cast<float>(step)) / max;
    const Fit fit = fit_signed(x, n, n_max, weights, inverse);
    if (fit.ll > 0.0f && fit.xl * fit.xl > best * fit.ll) {
      best_inverse = inverse;
      scale = fit.xl / fit.ll;
      best = scale * fit.xl;
    }
  }
  for (int i = 0; i < n; ++i)
    levels[i] = static_cast<uint8_t>(n_max + signed_level(best_inverse, x[i], n_max));
  return scale;
}

float search_q3(const float* x, int n, int n_max, uint8_t* levels) {
  const float max = largest(x, n);
  std::memset(levels, 0, static_cast<size_t>(n));
  if (std::fabs(max) < kGroupEps) return 0.0f;
  const float inverse = static_cast<float>(-n_max) / max;
  int8_t signed_levels[16];
  for (int i = 0; i < n; ++i) signed_levels[i] = static_cast<int8_t>(signed_level(inverse, x[i], n_max));
  const Fit fit =
      descend(x, n, nullptr, -n_max, n_max - 1, signed_levels, fit_signed(x, n, n_max, nullptr, inverse),
              [](const Fit& other) { return other.xl > 0.0f; });
  for (int i = 0; i < n; ++i) levels[i] = static_cast<uint8_t>(signed_levels[i] + n_max);
  return fit.scale();
}

ScaleMin search_scale_min(const float* x, int n, int n_max, const float* weights, StepRange steps,
                          ErrorMeasure measure, uint8_t* levels) {
  float min = x[0], max = x[0], sum_w = weights[0], sum_x = sum_w * x[0];
  for (int i = 1; i < n; ++i) {
    if (x[i] < min) min = x[i];
    if (x[i] > max) max = x[i];
    sum_w += weights[i];
    sum_x += weights[i] * x[i];
  }
  if (min > 0.0f) min = 0.0f;
  std::memset(levels, 0, static_cast<size_t>(n));
  if (!(max > min)) return {0.0f, -min};

  const auto error_of = [&](float scale, float minimum, const uint8_t* tried) {
    float error = 0.0f;
    for (int i = 0; i < n; ++i) {
      const float diff = scale * static_cast<float>(tried[i]) + minimum - x[i];
      error += weights[i] * (measure == ErrorMeasure::absolute ? std::fabs(diff) : diff * diff);
    }
    return error;
  };
  // From the best minimum found so far: later candidates build on earlier ones.
  const auto fill = [&](float inverse, uint8_t* out) {
    for (int i = 0; i < n; ++i)
      out[i] = static_cast<uint8_t>(clamped(nearest_int(inverse * (x[i] - min)), 0, n_max));
  };

  float inverse = static_cast<float>(n_max) / (max - min);
  float scale = 1.0f / inverse;
  fill(inverse, levels);
  float best_error = error_of(scale, min, levels);
  for (int step = 0; step <= steps.n; ++step) {
    uint8_t tried[32];
    inverse =
        (steps.first + steps.delta * static_cast<float>(step) + static_cast<float>(n_max)) / (max - min);
    fill(inverse, tried);
    float sum_l = 0.0f, sum_l2 = 0.0f, sum_xl = 0.0f;
    for (int i = 0; i < n; ++i) {
      const auto l = static_cast<float>(tried[i]);
      sum_l += weights[i] * l;
      sum_l2 += weights[i] * l * l;
      sum_xl += weights[i] * l * x[i];
    }
    const float determinant = sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0.0f)) continue;
    float this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
    float this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if (this_min > 0.0f) {
      this_min = 0.0f;
      this_scale = sum_xl / sum_l2;
    }
    const float error = error_of(this_scale, this_min, tried);
    if (error < best_error) {
      std::memcpy(levels, tried, static_cast<size_t>(n));
      best_error = error;
      scale = this_scale;
      min = this_min;
    }
  }
  return {scale, -min};
}

float search_positive(const float* x, int n, int n_max, const float* weights, uint8_t* levels) {
  float max = 0.0f;
  for (int i = 0; i < n; ++i) max = x[i] > max ? x[i] : max;
  std::memset(levels, 0, static_cast<size_t>(n));
  if (max < kGroupEps) return 0.0f;
  float inverse = static_cast<float>(n_max) / max;
  float best_error = 0.0f;
  const auto error_of = [&](float candidate) {
    const float scale = 1.0f / candidate;
    float error = 0.0f;
    for (int i = 0; i < n; ++i) {
      const int level = nearest_int(candidate * x[i]);
      const float diff = x[i] - scale * static_cast<float>(level < n_max ? level : n_max);
      error += weights[i] * diff * diff;
    }
    return error;
  };
  best_error = error_of(inverse);
  for (int step = -4; step <= 4; ++step) {
    if (step == 0) continue;
    const float candidate = (0.1f * static_cast<float>(step) + static_cast<float>(n_max)) / max;
    const float error = error_of(candidate);
    if (error < best_error) {
      best_error = error;
      inverse = candidate;
    }
  }
  Fit fit;
  for (int i = 0; i < n; ++i) {
    levels[i] = static_cast<uint8_t>(clamped(nearest_int(inverse * x[i]), 0, n_max));
    const auto l = static_cast<float>(levels[i]);
    fit.xl += weights[i] * x[i] * l;
    fit.ll += weights[i] * l * l;
  }
  fit = descend(x, n, weights, 0, n_max, levels, fit,
                [](const Fit& other) { return other.xl > 0.0f && other.ll > 0.0f; });
  return fit.scale();
}

}  // namespace millrace
