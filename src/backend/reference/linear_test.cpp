// The oracle against what one can work out by hand: products and gates.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/reference/by_hand.h"

namespace millrace {
namespace {

using namespace testing;

TEST(Reference, EmbedsAndScales) {
  Floats table{1, 2, 3, 4, 5, 6}, out(4);
  Ints tokens{2, 0};
  compute(
      Embed{.tokens = view(tokens, {2}), .table = view(table, {3, 2}), .out = view(out, {2, 2}), .scale = 2});
  EXPECT_EQ(out, (Floats{10, 12, 2, 4}));
}

TEST(Reference, LinearAddsBiasThenScalesThenCaps) {
  Floats x{1, 2, 3, -1, 0, 1}, first{1, 0, 0, 1, 1, 1}, second{0, 0, 10}, bias{0.5f, -1}, out(4), other(2);
  Linear op{.x = view(x, {2, 3}), .n_products = 2, .scale = 2};
  op.products[0] = {.weight = view(first, {2, 3}), .bias = view(bias, {2}), .out = view(out, {2, 2})};
  op.products[1] = {.weight = view(second, {1, 3}), .out = view(other, {2, 1})};
  compute(op);
  EXPECT_EQ(out, (Floats{3, 10, -1, -2}));
  EXPECT_EQ(other, (Floats{60, 20}));
  op.softcap = 5;
  compute(op);
  EXPECT_FLOAT_EQ(out[1], 5 * std::tanh(10.0f / 5));
}

TEST(Reference, LinearDecodesEveryFormat) {
  const Format& format = format_of(Dtype::q8_0);
  Floats row(32), x(32, 1), out(1);
  std::iota(row.begin(), row.end(), -10.0f);
  std::vector<std::byte> block(static_cast<size_t>(format.block_bytes));
  format.encode(row.data(), block.data(), 32, {});
  Linear op{.x = view(x, {1, 32})};
  op.products[0] = {.weight = {block.data(), Dtype::q8_0, {1, 32}}, .out = view(out, {1, 1})};
  compute(op);
  EXPECT_NEAR(out[0], 176, 1);  // the sum of -10 to 21
}

TEST(Reference, MultipliesEachHeadByItsOwnWeightAndCarriesTheRest) {
  Floats x{1, 2, 5, 3, 4, 6}, weight{1, 10, 100, 1000}, out(4);
  compute(
      HeadLinear{.x = view(x, {1, 2, 3}), .weight = view(weight, {2, 1, 2}), .out = view(out, {1, 2, 2})});
  EXPECT_EQ(out, (Floats{21, 5, 4300, 6}));
}

TEST(Reference, MultipliesOneHeadByTheWeightsOfAll) {
  Floats x{1, 2, 5, 7, 3, 4, 6, 8}, weight{1, 10, 100, 1000}, out(8);
  compute(
      HeadLinear{.x = view(x, {2, 1, 4}), .weight = view(weight, {2, 1, 2}), .out = view(out, {2, 2, 2})});
  EXPECT_EQ(out,
            (Floats{21, 5, 2100, 5, 43, 6, 4300, 6}));  // of each x its first two pass, the third is carried
}

TEST(Reference, GatesBySiluAndByGelu) {
  Floats x{2}, gate{1}, up{3}, gate_bias{-1}, up_bias{1}, out(1);
  LinearGated op{.x = view(x, {1, 1}),
                 .gate = view(gate, {1, 1}),
                 .up = view(up, {1, 1}),
                 .gate_bias = view(gate_bias, {1}),
                 .up_bias = view(up_bias, {1}),
                 .out = view(out, {1, 1})};
  compute(op);
  EXPECT_FLOAT_EQ(out[0], 7 * 0.7310586f);  // silu(1) = sigmoid(1)
  op.activation = Activation::gelu_tanh;
  compute(op);
  EXPECT_FLOAT_EQ(out[0], 7 * 0.8411920f);  // gelu(1), tanh form
  op.limit = 0.5f;
  compute(op);
  EXPECT_FLOAT_EQ(out[0],
                  0.5f * 0.3457140f);  // gelu(0.5), times 0.5
}

TEST(Reference, ActivatesAfterTheBiasAndBeforeTheScale) {
  Floats x{2}, weight{1}, bias{-1}, out(1);
  Linear op{.x = view(x, {1, 1}), .scale = 10};
  op.products[0] = {.weight = view(weight, {1, 1}), .bias = view(bias, {1}), .out = view(out, {1, 1})};
  const auto activated = [&](Activation activation) {
    op.activation = activation;
    compute(op);
    return out[0];
  };
  EXPECT_FLOAT_EQ(activated(Activation::none), 10);
  EXPECT_FLOAT_EQ(activated(Activation::silu), 7.310586f);
  EXPECT_FLOAT_EQ(activated(Activation::sigmoid), 7.310586f);
  EXPECT_FLOAT_EQ(activated(Activation::gelu_tanh), 8.411920f);
  EXPECT_FLOAT_EQ(activated(Activation::gelu_erf), 8.413447f);  // 10 times the normal distribution at 1
}

TEST(Reference, EmbedsSomeColumns) {
  Floats table{1, 2, 3, 4, 5, 6}, out(2);
  Ints tokens{1};
  compute(Embed{.tokens = view(tokens, {1}),
                .table = view(table, {2, 3}),
                .out = view(out, {1, 2}),
                .first_col = 1,
                .scale = 10});
  EXPECT_EQ(out, (Floats{50, 60}));
  tokens[0] = 2;  // beyond the table
  compute(Embed{.tokens = view(tokens, {1}),
                .table = view(table, {2, 3}),
                .out = view(out, {1, 2}),
                .has_fallback = true});
  EXPECT_EQ(out, (Floats{1, 2}));
}

}  // namespace
}  // namespace millrace
