// The oracle against what one can work out by hand: what is done to rows.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/reference/by_hand.h"

namespace millrace {
namespace {

using namespace testing;

TEST(Reference, GatesElements) {
  Floats gate{0, 2, -1}, x{3, 4, 5}, out(3);
  Gate op{.gate = view(gate, {1, 3}), .x = view(x, {1, 3}), .out = view(out, {1, 3})};
  op.activation = Activation::none;
  compute(op);
  EXPECT_EQ(out, (Floats{0, 8, -5}));
  op.activation = Activation::sigmoid;
  compute(op);
  EXPECT_FLOAT_EQ(out[0], 1.5f);
}

TEST(Reference, GatesByOneRowForAll) {
  Floats gate{2, 3}, x{1, 1, 10, 100}, out(4);
  compute(Gate{.gate = view(gate, {2}),
               .x = view(x, {2, 2}),
               .out = view(out, {2, 2}),
               .activation = Activation::none});
  EXPECT_EQ(out, (Floats{2, 3, 20, 300}));
}

TEST(Reference, CutsGatesBelowMeanAndDeviations) {
  Floats gate{1, 3, 1, 3}, x{10, 10, 10, 10}, out(4);  // mean 2, deviation 1
  Gate op{.gate = view(gate, {1, 4}), .x = view(x, {1, 4}), .out = view(out, {1, 4})};
  op.activation = Activation::none;
  op.cutoff = 0.5f;
  compute(op);
  EXPECT_EQ(out, (Floats{0, 5, 0, 5}));
  op.cutoff = -2;
  compute(op);
  EXPECT_EQ(out, (Floats{10, 30, 10, 30}));
}

TEST(Reference, AddsScaled) {
  Floats x{1, 2}, y{10, 20};
  compute(Add{.x = view(x, {1, 2}), .y = view(y, {1, 2}), .x_scale = 3, .y_scale = -0.5f});
  EXPECT_EQ(x, (Floats{-2, -4}));
}

TEST(Reference, MatchesMagnitudes) {
  Floats x{3, 4, 0, 0}, like{6, 8, 1, 1}, out(4);
  compute(MatchRms{.x = view(x, {2, 2}), .like = view(like, {2, 2}), .out = view(out, {2, 2})});
  EXPECT_EQ(out, (Floats{6, 8, 0, 0}));
  x = {1e-4f, 0, 0, 0};  // of less than the least mean square
  compute(MatchRms{.x = view(x, {2, 2}), .like = view(like, {2, 2}), .out = view(out, {2, 2})});
  EXPECT_FLOAT_EQ(out[0], 1e-4f * std::sqrt(50.0f / 1e-5f));
}

TEST(Reference, MixesStreams) {
  Floats a{1, 2}, b{10, 20}, weights{0, 1, 2, 3}, out_a(2), out_b(2);  // of two rows: 0 1, and 2 3
  MixStreams op{.weights = view(weights, {2, 2}), .n_streams = 2, .n_inputs = 1, .offset = 1};
  op.x[0] = view(a, {2, 1});
  op.x[1] = op.y[0] = view(b, {2, 1});
  op.out[0] = view(out_a, {2, 1});
  op.out[1] = view(out_b, {2, 1});
  compute(op);
  EXPECT_EQ(out_a, (Floats{1 + 1 * 10, 2 + 3 * 20}));
  EXPECT_EQ(out_b, (Floats{10 + 2 * 10, 20 + 4 * 20}));

  Floats square{1, 2, 3, 4};
  op.n_inputs = 2;
  op.offset = 0;
  op.weights = view(square, {1, 4});
  op.y[0] = op.x[0] = view(a, {1, 1});
  op.y[1] = op.x[1] = view(b, {1, 1});
  op.out[0] = view(out_a, {1, 1});
  op.out[1] = view(out_b, {1, 1});
  compute(op);
  EXPECT_EQ(out_a[0], 1 + 1 * 1 + 2 * 10);
  EXPECT_EQ(out_b[0], 10 + 3 * 1 + 4 * 10);
}

TEST(Reference, NormsRowsByTheirMeanAndDeviation) {
  Floats x{1, 3, 10, 30}, weight{1, 2}, bias{5, -1}, out(4);
  Norm op{.x = view(x, {2, 2}),
          .weight = view(weight, {2}),
          .bias = view(bias, {2}),
          .out = view(out, {2, 2}),
          .kind = NormKind::layer,
          .eps = 0.0f};
  compute(op);
  EXPECT_EQ(out, (Floats{4, 1, 4, 1}));  // (-1, 1) * weight + bias, whatever the size
  op.weight = op.bias = {};
  op.eps = 3;
  compute(op);
  EXPECT_FLOAT_EQ(out[0], -0.5f);  // the deviations -1, 1: variance 1
  op.kind = NormKind::rms;
  compute(op);
  EXPECT_FLOAT_EQ(out[1], 3 / std::sqrt(8.0f));  // mean(1, 9) + 3
}

TEST(Reference, NormsHeadsByTheirOwnWeights) {
  Floats x{3, 4, 3, 4, 6, 8, 0, 1}, weight{1, 1, 0, 2}, out(8);
  compute(Norm{
      .x = view(x, {2, 2, 2}), .weight = view(weight, {2, 2}), .out = view(out, {2, 2, 2}), .eps = 0.0f});
  const float rms = std::sqrt(12.5f);
  const Floats expected{3 / rms, 4 / rms, 0, 8 / rms, 3 / rms, 4 / rms, 0, 2 * std::sqrt(2.0f)};
  for (size_t i = 0; i < out.size(); ++i) EXPECT_FLOAT_EQ(out[i], expected[i]) << i;
}

TEST(Reference, ScalesWhatItAddsBeforeTheNorm) {
  Floats x{1, 2}, add{4, 4}, weight{1, 1}, out(2);
  compute(Norm{.x = view(x, {1, 2}),
               .add = view(add, {1, 2}),
               .weight = view(weight, {2}),
               .out = view(out, {1, 2}),
               .eps = 0.0f,
               .add_scale = 0.5f});
  EXPECT_EQ(x, (Floats{3, 4}));
  EXPECT_FLOAT_EQ(out[0], 3 / std::sqrt(12.5f));
}

TEST(Reference, NormsRowsAfterAddingToThem) {
  Floats x{1, 2, 3, 0}, add{2, 2, -3, 0}, weight{1, 2}, out(4);
  compute(Norm{.x = view(x, {2, 2}),
               .add = view(add, {2, 2}),
               .weight = view(weight, {2}),
               .out = view(out, {2, 2}),
               .eps = 0.5f});
  EXPECT_EQ(x, (Floats{3, 4, 0, 0}));
  EXPECT_FLOAT_EQ(out[0], 3 / std::sqrt(13.0f));  // mean(9, 16) + 0.5
  EXPECT_FLOAT_EQ(out[1], 8 / std::sqrt(13.0f));
  EXPECT_EQ(out[2], 0);
}

TEST(Reference, GathersRows) {
  Floats x{1, 2, 3, 4}, out(6);
  Ints rows{1, 1, 0};
  compute(GatherRows{.x = view(x, {2, 2}), .rows = view(rows, {3}), .out = view(out, {3, 2})});
  EXPECT_EQ(out, (Floats{3, 4, 3, 4, 1, 2}));
}

TEST(Reference, MeansOfRows) {
  Floats x{1, 2, 3, 4, 8, 0}, out(4);
  Ints begin{0, 1}, end{3, 2};
  compute(MeanRows{
      .x = view(x, {3, 2}), .begin = view(begin, {2}), .end = view(end, {2}), .out = view(out, {2, 2})});
  EXPECT_EQ(out, (Floats{4, 2, 3, 4}));
}

TEST(ReferenceDeathTest, NamesTheOperandOfAnotherShape) {
  Floats x{1, 2}, weight{1}, out(2);
  const Norm op{.x = view(x, {1, 2}), .weight = view(weight, {1}), .out = view(out, {1, 2})};
  EXPECT_DEATH(compute(op), "operand weight should have the shape \\(2\\).*norm x \\(1, 2\\) F32");
}

TEST(Reference, SplitsRows) {
  Floats x{1, 2, 3, 4, 5, 6}, first(2), second(4);
  compute(Split{.x = view(x, {2, 3}), .first = view(first, {2, 1}), .second = view(second, {2, 2})});
  EXPECT_EQ(first, (Floats{1, 4}));
  EXPECT_EQ(second, (Floats{2, 3, 5, 6}));
}

}  // namespace
}  // namespace millrace
