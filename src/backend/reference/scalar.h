// The arithmetic the reference's ops share, in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "backend/ops.h"

namespace millrace::reference {

// Eight partial sums, element i in sum i mod 8, joined in order: fixed by the length alone, and four times as
// fast as one sum.
inline double dot(const float* a, const float* b, int64_t n) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += double{a[i + lane]} * double{b[i + lane]};
  }
  for (int lane = 0; i < n; ++i, ++lane) sums[lane] += double{a[i]} * double{b[i]};
  double sum = 0;
  for (const double part : sums) sum += part;
  return sum;
}

inline double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf:
      return 0.5 * x * std::erfc(-x / std::numbers::sqrt2);
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
  }
  return x;
}

// softcap * tanh(y / softcap), or y itself when softcap is 0.
inline double soft_capped(double y, float softcap) {
  return softcap > 0 ? softcap * std::tanh(y / double{softcap}) : y;
}

// 1 / sqrt(mean(x^2) + eps)
inline double inverse_rms(const float* x, int64_t n, float eps) {
  return 1 / std::sqrt(dot(x, x, n) / static_cast<double>(n) + double{eps});
}

// softmax(scores, and the sink where there is one), in place.
inline void softmax(std::span<double> scores, const float* sink = nullptr) {
  double max = std::ranges::max(scores);
  if (sink != nullptr) max = std::max(max, double{*sink});
  double sum = sink != nullptr ? std::exp(double{*sink} - max) : 0;
  for (double& score : scores) sum += score = std::exp(score - max);
  for (double& score : scores) score /= sum;
}

// Row `i` of `weight`, seen as (n_rows, n_cols), decoded to `out`.
inline void decode_row(const Tensor& weight, int64_t i, std::span<float> out) {
  format_of(weight.dtype).decode(weight.row(i), out.data(), static_cast<int64_t>(out.size()));
}

}  // namespace millrace::reference
