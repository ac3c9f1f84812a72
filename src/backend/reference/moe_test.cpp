// The oracle against what one can work out by hand: routes and experts.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/reference/by_hand.h"

namespace millrace {
namespace {

using namespace testing;

// Four experts whose logits for x = 1 are the weights themselves.
struct RouteCase {
  Floats x{1}, weight{0, std::log(3.0f), std::log(2.0f), std::log(3.0f)}, bias{5, 0, 0, 0},
      weights = Floats(2);
  Ints experts = Ints(2);
  Route op{.x = view(x, {1, 1}),
           .weight = view(weight, {4, 1}),
           .experts = view(experts, {1, 2}),
           .weights = view(weights, {1, 2})};
};

TEST(Reference, RoutesToTheLargestAndBreaksTiesByIndex) {
  RouteCase softmax;
  softmax.op.renormalise = false;
  compute(softmax.op);
  EXPECT_EQ(softmax.experts, (Ints{1, 3}));
  expect_near(softmax.weights, {3 / 9.0f, 3 / 9.0f});
  softmax.op.renormalise = true;
  softmax.op.scale = 3;
  compute(softmax.op);
  expect_near(softmax.weights, {1.5f, 1.5f});
  Floats expert_scale{9, 2, 9, 10};  // of experts, not of choices
  softmax.op.expert_scale = view(expert_scale, {4});
  compute(softmax.op);
  expect_near(softmax.weights, {3, 15});
}

TEST(Reference, RoutesByTheToken) {
  RouteCase hash;
  Ints tokens{1}, table{0, 1, 2, 0};
  hash.op.tokens = view(tokens, {1});
  hash.op.table = view(table, {2, 2});
  compute(hash.op);
  EXPECT_EQ(hash.experts, (Ints{2, 0}));
  expect_near(hash.weights, {2 / 3.0f, 1 / 3.0f});
}

TEST(Reference, BiasChoosesButDoesNotWeigh) {
  RouteCase sigmoid;
  sigmoid.op.score = RouteScore::sigmoid;
  sigmoid.op.select_bias = view(sigmoid.bias, {4});
  sigmoid.op.renormalise = false;
  compute(sigmoid.op);
  EXPECT_EQ(sigmoid.experts, (Ints{0, 1}));
  expect_near(sigmoid.weights, {0.5f, 0.75f});
}

TEST(Reference, ScoresBySquareRootOfSoftplus) {
  RouteCase softplus;
  softplus.op.score = RouteScore::sqrt_softplus;
  softplus.op.sum_eps = 0.5f;
  Floats bias{std::log(std::exp(4.0f) - 1), 0, std::log(std::exp(9.0f) - 1) - std::log(2.0f), 0};
  softplus.op.bias = view(bias, {4});
  compute(softplus.op);  // softplus of the two largest logits: 9 and 4
  EXPECT_EQ(softplus.experts, (Ints{2, 0}));
  expect_near(softplus.weights, {3 / 5.5f, 2 / 5.5f});
}

// Keys by group: {5, 0}, {3, 3}, {4, -9}.
TEST(Reference, LeavesOutTheWeakerGroups) {
  Floats x{1}, weight{5, 0, 3, 3, 4, -9}, weights(2);
  Ints experts(2);
  Route op{.x = view(x, {1, 1}),
           .weight = view(weight, {6, 1}),
           .experts = view(experts, {1, 2}),
           .weights = view(weights, {1, 2}),
           .n_groups = 3,
           .n_groups_used = 2};
  compute(op);  // largest keys 5, 3, 4: the first and the last group stay
  EXPECT_EQ(experts, (Ints{0, 4}));
  op.group_score = GroupScore::sum_of_two;
  compute(op);  // sums 5, 6, -5: the last group is out
  EXPECT_EQ(experts, (Ints{0, 2}));
  const float e = std::exp(2.0f);
  expect_near(weights, {e / (e + 1), 1 / (e + 1)});
}

TEST(Reference, ExpertsMayWeighTheirInput) {
  Floats x{2}, gate{10}, up{3}, weights{0.5f}, out(1);
  Ints experts{0};
  compute(MoeGated{.x = view(x, {1, 1}),
                   .experts = view(experts, {1, 1}),
                   .weights = view(weights, {1, 1}),
                   .gate = view(gate, {1, 1, 1}),
                   .up = view(up, {1, 1, 1}),
                   .out = view(out, {1, 1, 1})});
  EXPECT_NEAR(out[0], 30, 2e-3);  // silu(10) * 3

  Floats hidden{1, 2}, down{3}, sums(1);
  Ints chosen{0, 0};
  compute(MoeDown{.x = view(hidden, {1, 2, 1}),
                  .experts = view(chosen, {1, 2}),
                  .down = view(down, {1, 1, 1}),
                  .out = view(sums, {1, 1})});
  EXPECT_EQ(sums[0], 9);
}

TEST(Reference, ExpertsAddBiasesAndCutWhatExceedsTheLimit) {
  Floats x{1}, gate{1, 9}, up{-9, 1}, gate_bias{0, -1}, up_bias{1, 2}, out(2);
  Ints experts{0, 1};
  compute(MoeGated{.x = view(x, {1, 1}),
                   .experts = view(experts, {1, 2}),
                   .gate = view(gate, {2, 1, 1}),
                   .up = view(up, {2, 1, 1}),
                   .gate_bias = view(gate_bias, {2, 1}),
                   .up_bias = view(up_bias, {2, 1}),
                   .out = view(out, {1, 2, 1}),
                   .activation = Activation::quick_gelu,
                   .limit = 7,
                   .up_offset = 1});
  // gate 1 and up max(-8, -7); gate min(8, 7) and up 3
  expect_near(out, {-6 / (1 + std::exp(-1.702f)), 7 * 4 / (1 + std::exp(-1.702f * 7))});

  Floats hidden{1, 1}, down{2, 3}, bias{10, 20}, weights{2, 0.5f}, sums(1);
  compute(MoeDown{.x = view(hidden, {1, 2, 1}),
                  .experts = view(experts, {1, 2}),
                  .weights = view(weights, {1, 2}),
                  .down = view(down, {2, 1, 1}),
                  .bias = view(bias, {2, 1}),
                  .out = view(sums, {1, 1})});
  EXPECT_EQ(sums[0], 2 * 12 + 0.5f * 23);
}

TEST(Reference, ExpertsComputeTheirRows) {
  Floats x{1, 2}, gate{1, 10, 100}, up{1, 2, 3}, out(4);
  Ints experts{2, 0, 1, 1};
  compute(MoeGated{.x = view(x, {2, 1}),
                   .experts = view(experts, {2, 2}),
                   .gate = view(gate, {3, 1, 1}),
                   .up = view(up, {3, 1, 1}),
                   .out = view(out, {2, 2, 1})});
  expect_near(out, {300, 0.7310586f, 80, 80});
  Floats fused{1, 1, 10, 2, 100, 3};  // gate before up, expert by expert
  compute(MoeGated{.x = view(x, {2, 1}),
                   .experts = view(experts, {2, 2}),
                   .gate = view(fused, {3, 2, 1}),
                   .out = view(out, {2, 2, 1})});
  expect_near(out, {300, 0.7310586f, 80, 80});

  Floats down{1, -1, 2, -2, 3, -3}, weights{0.5f, 2, 1, 1}, sums(4);
  Floats hidden{10, 20, 30, 40};
  compute(MoeDown{.x = view(hidden, {2, 2, 1}),
                  .experts = view(experts, {2, 2}),
                  .weights = view(weights, {2, 2}),
                  .down = view(down, {3, 2, 1}),
                  .out = view(sums, {2, 2})});
  EXPECT_EQ(sums, (Floats{55, -55, 140, -140}));
}

}  // namespace
}  // namespace millrace
