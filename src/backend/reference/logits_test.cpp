// The oracle against what one can work out by hand: what is drawn by logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/reference/by_hand.h"
#include "backend/token_truncation.h"

namespace millrace {
namespace {

using namespace testing;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(Reference, FindsTheLargestLogits) {
  Floats logits{1, 3, 2, 3, 0, -kInfinity, -1, NAN, 5, 1, kInfinity, 0}, top(4);
  Ints tokens(4);
  compute(
      TopLogits{.logits = view(logits, {2, 6}), .tokens = view(tokens, {2, 2}), .top = view(top, {2, 2})});
  EXPECT_EQ(tokens, (Ints{1, 3, -1, -1}));
  EXPECT_EQ(top, (Floats{3, 3, kInfinity, kInfinity}));
}

struct Drawn {
  int32_t token;
  double sum;
};

struct Draw {
  double uniform;
  float temperature = 1.0f;
  Truncation truncation{};
  int64_t n_top = 1;
};

Drawn draw(Floats logits, const Draw& draw) {
  Floats top(static_cast<size_t>(draw.n_top)), temperatures{draw.temperature}, truncations(3);
  Ints top_tokens(top.size()), uniforms(2), tokens(1), sums(2);
  compute(TopLogits{.logits = view(logits, {1, std::ssize(logits)}),
                    .tokens = view(top_tokens, {1, draw.n_top}),
                    .top = view(top, {1, draw.n_top})});
  write_halves(draw.uniform, uniforms.data());
  std::ranges::copy(numbers_of(draw.truncation), truncations.begin());
  compute(DrawTokens{.logits = view(logits, {1, std::ssize(logits)}),
                     .top_tokens = view(top_tokens, {1, draw.n_top}),
                     .top = view(top, {1, draw.n_top}),
                     .temperatures = view(temperatures, {1}),
                     .truncations = view(truncations, {1, 3}),
                     .uniforms = view(uniforms, {1, 2}),
                     .tokens = view(tokens, {1}),
                     .sums = view(sums, {1, 2})});
  return {tokens[0], double_of_halves(sums.data())};
}

// Weights of 1/2, 1, 1/4 and, at twice the temperature, their roots.
TEST(Reference, DrawsByWeights) {
  const float half = std::log(2.0f);
  const Floats logits{5 - half, 5, 5 - 2 * half};
  EXPECT_NEAR(draw(logits, {0.0}).sum, 1.75, 1e-6);
  EXPECT_EQ(draw(logits, {0.28}).token, 0);
  EXPECT_EQ(draw(logits, {0.29}).token, 1);
  EXPECT_EQ(draw(logits, {0.85}).token, 1);
  EXPECT_EQ(draw(logits, {0.86}).token, 2);
  EXPECT_NEAR(draw(logits, {0.0, 2.0f}).sum, 1.5 + std::sqrt(0.5), 1e-6);
}

TEST(Reference, DrawsNothingWithoutTemperatureOrLogits) {
  EXPECT_EQ(draw({1, 2}, {0.5, 0.0f}).token, -1);
  EXPECT_EQ(draw({-kInfinity, -kInfinity}, {0.5}).token, -1);
  EXPECT_EQ(draw({-kInfinity, kInfinity}, {0.5}).token, -1);
  EXPECT_EQ(draw({-kInfinity, kInfinity}, {0.5}).sum, 0.0);
}

// Weights of 1/4, 1, 1/2, 1/8, 1/16 by their tokens.
TEST(Reference, DrawsFromWhatTruncationsKeep) {
  const float half = std::log(2.0f);
  const Floats logits{-2 * half, 0, -half, -3 * half, -4 * half};
  const auto token = [&](const Truncation& truncation, double uniform, int64_t n_top = 4) {
    return draw(logits, {.uniform = uniform, .truncation = truncation, .n_top = n_top}).token;
  };
  // By rank: 1, 2 and 0 have 7/4.
  EXPECT_EQ(token({.top_k = 3}, 0.57), 1);
  EXPECT_EQ(token({.top_k = 3}, 0.58), 2);
  EXPECT_EQ(token({.top_k = 3}, 0.99), 0);
  EXPECT_EQ(token({.top_k = 3}, 0.5, 2), -1);
  EXPECT_EQ(token({.top_k = 3, .top_p = 0.8f}, 0.99), 2);
  EXPECT_EQ(token({.top_k = 3, .min_p = 0.3f}, 0.99), 2);
  // All have 31/16, of which 1 and 2 are 0.774, with 0 0.903.
  EXPECT_EQ(token({.top_p = 0.77f}, 0.99), 2);
  EXPECT_EQ(token({.top_p = 0.78f}, 0.99), 0);
  EXPECT_EQ(token({.top_p = 0.99f}, 0.0), -1);
  EXPECT_EQ(token({.top_p = 0.99f}, 0.99, 5), 4);
  EXPECT_EQ(token({.top_p = 0.95f, .min_p = 0.3f}, 0.99), 2);
  // By token: 0, 1 and 2.
  EXPECT_EQ(token({.min_p = 0.2f}, 0.14), 0);
  EXPECT_EQ(token({.min_p = 0.2f}, 0.15), 1);
  EXPECT_EQ(token({.min_p = 0.2f}, 0.72), 2);
  EXPECT_EQ(token({.min_p = 0.1f}, 0.5), -1);
  const auto sum = [&](const Truncation& truncation) {
    return draw(logits, {.uniform = 0.5, .truncation = truncation, .n_top = 3}).sum;
  };
  EXPECT_NEAR(sum({.top_p = 0.5f}), 31.0 / 16.0, 1e-6);
  EXPECT_EQ(sum({.top_k = 2, .top_p = 0.5f}), 0.0);
  EXPECT_EQ(sum({.min_p = 0.5f}), 0.0);
}

// 3 blocks, the last one short: all weights are 1.
TEST(Reference, DrawsFromEveryBlock) {
  const Floats logits(2 * kWeightBlock + 10, 0.5f);
  const auto n = static_cast<double>(logits.size());
  EXPECT_EQ(draw(logits, {0.0}).sum, n);
  for (const int32_t token : {0, 1023, 1024, 2047, 2048, 2057})
    EXPECT_EQ(draw(logits, {(token + 0.5) / n}).token, token);
}

TEST(Reference, FeedsWhatWasDrawn) {
  Ints top{5, 6, 7, 8, -1, -1}, drawn{9, -1, -1}, tokens{4, ~0, ~1, ~2, ~0}, likeliest = tokens;
  compute(FeedTokens{.top = view(top, {3, 2}), .drawn = view(drawn, {3}), .tokens = view(tokens, {5})});
  EXPECT_EQ(tokens, (Ints{4, 9, 7, 0, 9}));
  compute(FeedTokens{.top = view(top, {3, 2}), .drawn = {}, .tokens = view(likeliest, {5})});
  EXPECT_EQ(likeliest, (Ints{4, 5, 7, 0, 5}));
}

}  // namespace
}  // namespace millrace
