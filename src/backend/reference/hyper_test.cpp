// The oracle against what one can work out by hand: hyper-connections.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/reference/by_hand.h"

namespace millrace {
namespace {

using namespace testing;

TEST(Reference, CollapsesAndExpandsStreams) {
  Floats x{1, 2, 10, 20}, mix{0, 0, 0, std::log(3.0f), 0, 0, 0, 0}, base(8), scale{1, 1, 1};
  Floats out(2), post(2), comb(4);
  compute(HyperCollapse{.x = view(x, {1, 2, 2}),
                        .mix = view(mix, {1, 8}),
                        .base = view(base, {8}),
                        .scale = view(scale, {3}),
                        .out = view(out, {1, 2}),
                        .post = view(post, {1, 2}),
                        .comb = view(comb, {1, 2, 2}),
                        .eps = 0});
  expect_near(out, {5.5f, 11});  // halves
  expect_near(post, {1, 1.5f});
  expect_near(comb, {0.5f, 0.5f, 0.5f, 0.5f});

  Floats branch{100, 200}, mixing{1, 2, 0, 1};  // stream 1 takes twice stream 0
  compute(HyperExpand{.x = view(x, {1, 2, 2}),
                      .branch = view(branch, {1, 2}),
                      .post = view(post, {1, 2}),
                      .comb = view(mixing, {1, 2, 2})});
  expect_near(x, {101, 202, 162, 324});
}

TEST(Reference, CollapsesToTheMeanOfStreams) {
  Floats x{1, 2, 10, 20, 4, 5}, out(2);
  compute(HyperCollapse{.x = view(x, {1, 3, 2}), .out = view(out, {1, 2})});
  expect_near(out, {5, 9});
}

// Sinkhorn's iterations end with the columns.
TEST(Reference, BalancesTheMixOfStreams) {
  Floats x(2), mix{0, 0, 0, 0, 0, 1, 2, 5}, base(8), scale{1, 1, 1}, out(1), post(2), comb(4);
  HyperCollapse op{.x = view(x, {1, 2, 1}),
                   .mix = view(mix, {1, 8}),
                   .base = view(base, {8}),
                   .scale = view(scale, {3}),
                   .out = view(out, {1, 1}),
                   .post = view(post, {1, 2}),
                   .comb = view(comb, {1, 2, 2}),
                   .eps = 0,
                   .n_iterations = 1};
  compute(op);
  const float a = 1 / (1 + std::exp(1.0f)), b = 1 / (1 + std::exp(3.0f));  // first column of the softmax
  expect_near(comb, {a / (a + b), (1 - a) / (2 - a - b), b / (a + b), (1 - b) / (2 - a - b)});
  op.n_iterations = 50;
  compute(op);
  EXPECT_NEAR(comb[0] + comb[1], 1, 1e-5f);
  EXPECT_NEAR(comb[0] + comb[2], 1, 1e-5f);
}

}  // namespace
}  // namespace millrace
