// The variants for different instruction sets must agree to the last bit, whatever the number of groups.
#include "quant/search/searches.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace millrace {
namespace {

constexpr int kGroups = 19;  // no multiple of any number of lanes
constexpr uint8_t kUntouched = 0xee;

struct Found {
  std::vector<float> scales = std::vector<float>(2 * kGroups);
  std::vector<uint8_t> levels = std::vector<uint8_t>(kGroups * kMaxGroupSize, kUntouched);
  bool operator==(const Found& other) const {
    return std::memcmp(scales.data(), other.scales.data(), scales.size() * sizeof(float)) == 0 &&
           levels == other.levels;
  }
};

// Groups of very different size, one of them zero, one flat, one with a single weighted element.
struct Input {
  std::vector<float> x = std::vector<float>(kGroups * kMaxGroupSize);
  std::vector<float> weights = x;

  Input() {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = std::ldexp(normal(random), static_cast<int>(i) / kMaxGroupSize * 3 - 30);
      weights[i] = std::fabs(normal(random));
    }
    std::fill_n(x.begin() + 4 * kMaxGroupSize, kMaxGroupSize, 0.0f);
    std::fill_n(x.begin() + 5 * kMaxGroupSize, kMaxGroupSize, -0.5f);
    std::fill_n(weights.begin() + 6 * kMaxGroupSize + 1, kMaxGroupSize - 1, 0.0f);
  }
};

enum class Kind { signed_weighted, signed_plain, descent, scale_min_absolute, scale_min_squared, iq4 };
constexpr Kind kKinds[] = {Kind::signed_weighted,    Kind::signed_plain,      Kind::descent,
                           Kind::scale_min_absolute, Kind::scale_min_squared, Kind::iq4};

bool has_minima(Kind kind) { return kind == Kind::scale_min_absolute || kind == Kind::scale_min_squared; }

Found found_by(Kind kind, const Searches& searches, const Input& input, int n_groups, int size) {
  const GroupSpan weighted{input.x.data(), input.weights.data(), n_groups, size};
  const GroupSpan plain{input.x.data(), nullptr, n_groups, size};
  const auto measure = kind == Kind::scale_min_absolute ? ErrorMeasure::absolute : ErrorMeasure::squared;
  ScaleMin scale_mins[kGroups] = {};
  Found found;
  float* scales = found.scales.data();
  uint8_t* levels = found.levels.data();
  if (kind == Kind::signed_weighted) searches.signed_levels(weighted, 32, scales, levels);
  if (kind == Kind::signed_plain) searches.signed_levels(plain, 8, scales, levels);
  if (kind == Kind::descent) searches.descent(plain, 4, scales, levels);
  if (kind == Kind::iq4) searches.iq4(weighted, scales);
  if (has_minima(kind)) {
    searches.scale_min(weighted, 15, {-0.5f, 0.1f, 15, measure}, scale_mins, levels);
    std::memcpy(scales, scale_mins, sizeof scale_mins);
  }
  return found;
}

TEST(Searches, EveryInstructionSetFindsTheSame) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "this machine has no AVX2 to compare with";
  const Input input;
  for (const Kind kind : kKinds) {
    for (const int size : {16, 32}) {
      EXPECT_EQ(found_by(kind, plain_searches(), input, kGroups, size),
                found_by(kind, avx2_searches(), input, kGroups, size))
          << "search " << static_cast<int>(kind) << " in groups of " << size;
    }
  }
#else
  GTEST_SKIP() << "there is one variant only on this architecture";
#endif
}

TEST(Searches, GroupsDoNotSeeEachOther) {
  const Input input;
  for (const Kind kind : kKinds) {
    const Found all = found_by(kind, plain_searches(), input, kGroups, 32);
    for (int n = 1; n < kGroups; ++n) {
      const Found some = found_by(kind, plain_searches(), input, n, 32);
      const size_t n_floats = static_cast<size_t>(n) * (has_minima(kind) ? 2 : 1);
      EXPECT_EQ(std::memcmp(all.scales.data(), some.scales.data(), n_floats * sizeof(float)), 0);
      EXPECT_TRUE(std::equal(some.levels.begin(), some.levels.begin() + 32 * n, all.levels.begin()));
      EXPECT_TRUE(std::all_of(some.levels.begin() + 32 * n, some.levels.end(),
                              [](uint8_t level) { return level == kUntouched; }));
      EXPECT_TRUE(std::all_of(some.scales.begin() + static_cast<long>(n_floats), some.scales.end(),
                              [](float scale) { return scale == 0.0f; }));
    }
  }
}

}  // namespace
}  // namespace millrace
