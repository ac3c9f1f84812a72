// Searches for the scale (and minimum) of a small group of elements that lose least, shared by the encoders.
// They visit the same candidates in the same order, with the same float operations, as ggml's quantisers, so
// that the blocks come out bit for bit the same (MIT licence; the algorithms are by I. Kawrakow).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "quant/half.h"

namespace millrace {

// Groups whose largest magnitude is below this are zero.
inline constexpr float kGroupEps = 1e-15f;

// The nearest integer, ties to even, for |value| < 2^22; some integer for anything else.
inline int nearest_int(float value) {
  return static_cast<int>(std::bit_cast<uint32_t>(value + 12582912.0f) & 0x007fffff) - 0x00400000;
}

inline int clamped(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

// `value` towards zero, within [0, high]; 0 for NaN.
inline int truncated(float value, int high) {
  return value >= static_cast<float>(high) ? high : value > 0.0f ? static_cast<int>(value) : 0;
}

inline float rounded_f16(float value) { return float_of_f16(f16_of_float(value)); }

// The element of the largest magnitude; the first of equals.
float largest(const float* x, int n);

// x ~ scale * (levels - n_max), levels in [0, 2 n_max). Minimises the error weighted by `weights`, or by x^2
// where that is nullptr. Returns the scale.
float search_signed(const float* x, int n, int n_max, const float* weights, uint8_t* levels);

// The same model for Q3_K without importance: coordinate descent from one start.
float search_q3(const float* x, int n, int n_max, uint8_t* levels);

// x ~ scale * level - minimum, levels in [0, n_max], minimum >= 0.
struct ScaleMin {
  float scale;
  float minimum;
};
struct StepRange {
  float first, delta;  // candidates for n_max in the inverse scale: n_max + first + i * delta, i in [0, n]
  int n;
};
enum class ErrorMeasure { squared, absolute };
ScaleMin search_scale_min(const float* x, int n, int n_max, const float* weights, StepRange steps,
                          ErrorMeasure measure, uint8_t* levels);

// x >= 0; x ~ scale * levels, levels in [0, n_max]: for scales of scales. A negative x, which a group with one
// weighted element can get, takes level 0; ggml wraps it round to 255 and spoils the bits beside it.
float search_positive(const float* x, int n, int n_max, const float* weights, uint8_t* levels);

}  // namespace millrace
