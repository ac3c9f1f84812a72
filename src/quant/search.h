// What the encoders share: rounding, and the searches of search/, in the fastest variant this machine runs.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "quant/half.h"
#include "quant/search/searches.h"

namespace millrace {

// The nearest integer, ties to even, for |value| < 2^22; some integer for anything else.
inline int nearest_int(float value) {
  return static_cast<int>(std::bit_cast<uint32_t>(value + 12582912.0f) & 0x007fffff) - 0x00400000;
}

inline int clamped(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

// `value` towards zero, within [0, high]; 0 for NaN.
inline int truncated(float value, int high) {
  const float positive = value > 0.0f ? value : 0.0f;
  const auto limit = static_cast<float>(high);
  return static_cast<int>(positive < limit ? positive : limit);
}

inline float rounded_f16(float value) { return float_of_f16(f16_of_float(value)); }

// The element of the largest magnitude, the first of equals; NaN counts as nothing.
float largest(const float* x, int n);

const Searches& searches();

// Of every search for a scale and a minimum that has an importance.
inline constexpr ScaleMinSteps kWeightedSteps{-0.9f, 0.05f, 36, ErrorMeasure::squared};

// x ~ scale * levels, levels in [0, n_max]: for scales of scales. A negative x, which a group with few
// weighted elements can get, takes level 0; ggml lets it wrap round to 255, which spoils the scales beside
// it.
float search_positive(const float* x, int n, int n_max, const float* weights, uint8_t* levels);

// weights = importance * sqrt(sigma2 + x^2).
void weigh(const float* x, const float* importance, float sigma2, int n, float* weights);

// In the order of the elements, as ggml sums.
float sum_of_squares(const float* x, int64_t n);

}  // namespace millrace
