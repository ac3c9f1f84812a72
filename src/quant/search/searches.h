// The searches that the encoders spend their time in, as a table of functions per instruction set. Plain data
// only: this header is read by a file compiled for AVX2, and an inline function that the linker took from
// there would crash an older machine.
#pragma once

#include <cstdint>

namespace millrace {

// Groups whose largest magnitude is below this are zero.
inline constexpr float kGroupEps = 1e-15f;

inline constexpr int kMaxGroupSize = 32;

struct GroupSpan {
  const float* x;        // (n_groups, size)
  const float* weights;  // (n_groups, size), or nullptr where an element weighs x^2
  int n_groups;
  int size;  // at most kMaxGroupSize
};

// x ~ scale * level - minimum, minimum >= 0.
struct ScaleMin {
  float scale, minimum;
};
enum class ErrorMeasure { squared, absolute };
struct ScaleMinSteps {
  float first, delta;  // candidates for n_max in the inverse scale: n_max + first + i * delta, i in [0, n]
  int n;
  ErrorMeasure measure;
};

// Each finds the scale of every group that loses least: n_groups scales, (n_groups, size) levels.
struct Searches {
  // x ~ scale * (level - n_max), levels in [0, 2 n_max).
  void (*signed_levels)(const GroupSpan& groups, int n_max, float* scales, uint8_t* levels);
  // The same model, by coordinate descent from one start; weights must be nullptr.
  void (*descent)(const GroupSpan& groups, int n_max, float* scales, uint8_t* levels);
  // Levels in [0, n_max]; weights must be given.
  void (*scale_min)(const GroupSpan& groups, int n_max, const ScaleMinSteps& steps, ScaleMin* found,
                    uint8_t* levels);
  // x ~ scale * one of the values of IQ4. No levels.
  void (*iq4)(const GroupSpan& groups, float* scales);
};

const Searches& plain_searches();
const Searches& avx2_searches();  // on x86-64 only

}  // namespace millrace
