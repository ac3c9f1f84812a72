// The oracle against what one can work out by hand: what is drawn by logits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/reference/by_hand.h"
#include "backend/token_weights.h"

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

Drawn draw(Floats logits, double uniform, float temperature = 1.0f) {
  Floats top{*std::ranges::max_element(logits)}, temperatures{temperature};
  Ints uniforms(2), tokens(1), sums(2);
  write_halves(uniform, uniforms.data());
  compute(DrawTokens{.logits = view(logits, {1, std::ssize(logits)}),
                     .top = view(top, {1, 1}),
                     .temperatures = view(temperatures, {1}),
                     .uniforms = view(uniforms, {1, 2}),
                     .tokens = view(tokens, {1}),
                     .sums = view(sums, {1, 2})});
  return {tokens[0], double_of_halves(sums.data())};
}

// Weights of 1/2, 1, 1/4 and, at twice the temperature, their roots.
TEST(Reference, DrawsByWeights) {
  const float half = std::log(2.0f);
  const Floats logits{5 - half, 5, 5 - 2 * half};
  EXPECT_NEAR(draw(logits, 0.0).sum, 1.75, 1e-6);
  EXPECT_EQ(draw(logits, 0.28).token, 0);
  EXPECT_EQ(draw(logits, 0.29).token, 1);
  EXPECT_EQ(draw(logits, 0.85).token, 1);
  EXPECT_EQ(draw(logits, 0.86).token, 2);
  EXPECT_NEAR(draw(logits, 0.0, 2.0f).sum, 1.5 + std::sqrt(0.5), 1e-6);
}

TEST(Reference, DrawsNothingWithoutTemperatureOrLogits) {
  EXPECT_EQ(draw({1, 2}, 0.5, 0.0f).token, -1);
  EXPECT_EQ(draw({-kInfinity, -kInfinity}, 0.5).token, -1);
  EXPECT_EQ(draw({-kInfinity, kInfinity}, 0.5).token, -1);
  EXPECT_EQ(draw({-kInfinity, kInfinity}, 0.5).sum, 0.0);
}

// 3 blocks, the last one short: all weights are 1.
TEST(Reference, DrawsFromEveryBlock) {
  const Floats logits(2 * kWeightBlock + 10, 0.5f);
  const auto n = static_cast<double>(logits.size());
  EXPECT_EQ(draw(logits, 0.0).sum, n);
  for (const int32_t token : {0, 1023, 1024, 2047, 2048, 2057})
    EXPECT_EQ(draw(logits, (token + 0.5) / n).token, token);
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
