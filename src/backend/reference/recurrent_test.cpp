// The oracle against what one can work out by hand: convolutions and the delta rule.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/reference/by_hand.h"
#include "quant/half.h"

namespace millrace {
namespace {

using namespace testing;

TEST(Reference, ConvolvesOverTimeFromAState) {
  const auto silu = [](double x) { return static_cast<float>(x / (1 + std::exp(-x))); };
  OneSequence sequence(5, 2, 4);
  Ints from{1}, to{0};
  Batch batch = sequence.batch();
  batch.state_from = view(from, {1});
  batch.state_to = view(to, {1});
  Floats x{1, 2}, weight{100, 10, 1}, state{0, 0, 3, 4}, out(2);
  const CausalConv op{.batch = batch,
                      .x = view(x, {2, 1}),
                      .weight = view(weight, {1, 3}),
                      .state = view(state, {2, 2, 1}),
                      .out = view(out, {2, 1})};
  compute(op);
  EXPECT_EQ(out, (Floats{silu(341), silu(412)}));
  EXPECT_EQ(state, (Floats{1, 2, 3, 4}));  // where it came from is as it was
  from[0] = -1;
  compute(op);
  EXPECT_EQ(out, (Floats{silu(1), silu(12)}));
}

// One head of one key dimension, whose unit vector is 1, and two of values.
struct OneRule {
  OneRule() : sequence(0, 2, 1) {
    batch = sequence.batch();
    batch.state_from = view(from, {1});
    batch.state_to = view(to, {1});
  }
  GatedDeltaRule op() {
    return {.batch = batch,
            .q = view(q, {2, 1, 1}),
            .k = view(k, {2, 1, 1}),
            .v = view(v, {2, 1, 2}),
            .beta = view(beta, {2, 1}),
            .decay = view(decay, {2, 1, 1}),
            .decay_bias = view(decay_bias, {1, 1}),
            .rate = view(rate, {1}),
            .state = view(state, {2, 1, 1, 2}),
            .out = view(out, {2, 1, 2})};
  }
  OneSequence sequence;
  Batch batch;
  Ints from{1}, to{0};
  Floats q{1e6f, -1e6f}, k{1e6f, 1e6f}, v{3, 4, 1, 1}, beta{0, 1000}, decay{-1, -1}, decay_bias{1}, rate{-1};
  Floats state{0, 0, 2, 8}, out = Floats(4);
};

TEST(Reference, DeltaRuleDecaysCorrectsAndReads) {
  OneRule rule;
  compute(rule.op());
  // softplus(0) = ln 2 halves the state: 1 and 4; half of 3 - 1 and 4 - 4 is added; then all of 1 - 1, 1 - 2.
  EXPECT_NEAR(rule.out[0], 2, 1e-6);
  EXPECT_NEAR(rule.out[1], 4, 1e-6);
  EXPECT_NEAR(rule.out[2], -1, 1e-6);
  EXPECT_NEAR(rule.out[3], -1, 1e-6);
  EXPECT_NEAR(rule.state[0], 1, 1e-6);
  EXPECT_EQ(rule.state[3], 8);
  rule.from[0] = -1;
  compute(rule.op());
  EXPECT_NEAR(rule.out[1], 2, 1e-6);
}

TEST(Reference, DeltaRuleDecaysAboveAFloor) {
  OneRule rule;
  rule.beta = {-1000, -1000};
  GatedDeltaRule op = rule.op();
  op.floor = -2;
  rule.rate[0] = -std::log(3.0f);
  rule.decay_bias[0] = 2;
  compute(op);
  EXPECT_NEAR(rule.out[0], 2 * std::exp(-1.5), 1e-6);  // sigmoid(ln 3) = 3 / 4
}

TEST(Reference, DeltaRuleOfKeyDimensionsAndHeads) {
  OneSequence sequence(0, 1, 1);
  Ints slot{0};
  Batch batch = sequence.batch();
  batch.state_from = batch.state_to = view(slot, {1});
  Floats q{0, 0}, k{1, 1}, v{0, 0, 0, 0}, beta(4, -1000), bias(4), rate(4, -1);
  // Of four value heads of one dimension over two key heads, each with a state of its own.
  Floats decay(4, 1000), state{1, 1, 1, 1}, out(4);
  q = {1, -1};
  GatedDeltaRule op{.batch = batch,
                    .q = view(q, {1, 2, 1}),
                    .k = view(k, {1, 2, 1}),
                    .v = view(v, {1, 4, 1}),
                    .beta = view(beta, {1, 4}),
                    .decay = view(decay, {1, 4, 1}),
                    .decay_bias = view(bias, {4, 1}),
                    .rate = view(rate, {4}),
                    .state = view(state, {1, 4, 1, 1}),
                    .out = view(out, {1, 4, 1})};
  const auto signs = [&] {
    state = {1, 1, 1, 1};
    decay.assign(4, -1000);  // no decay
    compute(op);
    return std::vector<bool>{out[0] > 0, out[1] > 0, out[2] > 0, out[3] > 0};
  };
  EXPECT_EQ(signs(), (std::vector<bool>{true, true, false, false}));
  op.key_heads = KeyHeads::tiled;
  EXPECT_EQ(signs(), (std::vector<bool>{true, false, true, false}));

  // One head of two key dimensions, of which the first forgets.
  Floats decays{1000, -1000}, two{1, 1, 1, 1}, one_out(1), one_v{0}, one_beta{-1000};
  compute(GatedDeltaRule{.batch = batch,
                         .q = view(two, {1, 1, 2}),
                         .k = view(two, {1, 1, 2}),
                         .v = view(one_v, {1, 1, 1}),
                         .beta = view(one_beta, {1, 1}),
                         .decay = view(decays, {1, 1, 2}),
                         .decay_bias = view(bias, {1, 2}),
                         .rate = view(rate, {1}),
                         .state = view(state, {1, 1, 2, 1}),
                         .out = view(one_out, {1, 1, 1})});
  EXPECT_NEAR(one_out[0], 0.5, 1e-6);  // 1 / sqrt(2) for the unit vector, 1 / sqrt(2) for the two dimensions
}

}  // namespace
}  // namespace millrace
