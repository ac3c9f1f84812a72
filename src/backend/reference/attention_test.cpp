// The oracle against what one can work out by hand: attention.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/reference/by_hand.h"

namespace millrace {
namespace {

using namespace testing;

// Keys are zero, so that every visible position weighs the same: out is the mean of the visible values, which
// are 0, 1, 2, ... by position.
struct MeanCase {
  MeanCase() {
    for (size_t position = 0; position < 6; ++position)
      v_pages[2 * static_cast<size_t>(sequence.pages[position / 2]) + position % 2] =
          static_cast<float>(position);
    op = {.batch = sequence.batch(),
          .q = view(q, {2, 1, 1}),
          .k_pages = view(k_pages, {3, 1, 2, 1}),
          .v_pages = view(v_pages, {3, 1, 2, 1}),
          .out = view(out, {2, 1, 1})};
  }
  OneSequence sequence{3, 2, 3};
  Floats q{1, 1}, k_pages = Floats(6), v_pages = Floats(6), out = Floats(2);
  PagedAttention op;
};

TEST(Reference, AttendsToThePastAndNotBeyondTheWindow) {
  MeanCase mean;
  compute(mean.op);
  expect_near(mean.out, {1.5f, 2});  // positions 0 to 3, and 0 to 4
  mean.op.window = 2;
  compute(mean.op);
  expect_near(mean.out, {2.5f, 3.5f});
  mean.op.window = 1;
  compute(mean.op);
  expect_near(mean.out, {3, 4});
}

TEST(Reference, WeighsByScaledAndCappedScores) {
  MeanCase mean;
  mean.k_pages[2 * static_cast<size_t>(mean.sequence.pages[1]) + 1] = 8;  // position 3
  mean.op.scale = 0.5f;
  compute(mean.op);
  const float e = std::exp(4.0f);
  EXPECT_FLOAT_EQ(mean.out[0], (3 + 3 * e) / (3 + e));
  mean.op.softcap = 2;
  compute(mean.op);
  const float capped = std::exp(2 * std::tanh(2.0f));
  EXPECT_FLOAT_EQ(mean.out[0], (3 + 3 * capped) / (3 + capped));
}

TEST(Reference, FindsTheValuesInTheKeys) {
  OneSequence sequence(0, 2, 1);
  Floats q{0, 0, 0, 1}, k_pages{2, 5, 4, 6}, out(2);  // keys (2, 5) and (4, 6), values 2 and 4
  compute(PagedAttention{.batch = sequence.batch(),
                         .q = view(q, {2, 1, 2}),
                         .k_pages = view(k_pages, {1, 1, 2, 2}),
                         .out = view(out, {2, 1, 1})});
  const float e = std::exp(1.0f);
  expect_near(out, {2, (2 + 4 * e) / (1 + e)});
}

TEST(Reference, AttendsToItsOwnChunk) {
  MeanCase mean;
  mean.op.chunk = 4;
  compute(mean.op);
  expect_near(mean.out, {1.5f, 4});  // positions 0 to 3, and 4 alone
  mean.op.window = 2;
  compute(mean.op);
  expect_near(mean.out, {2.5f, 4});
}

TEST(Reference, SinksTakeTheirShareOfTheSum) {
  MeanCase mean;
  Floats sinks{std::log(2.0f)};
  mean.op.sinks = view(sinks, {1});
  compute(mean.op);
  expect_near(mean.out, {6 / 6.0f, 10 / 7.0f});  // 4 scores of 1 and a sink of 2, then 5 and 2
  sinks[0] = 100;                                // larger than every score
  compute(mean.op);
  expect_near(mean.out, {0, 0});
}

TEST(Reference, SharesKeyValueHeads) {
  OneSequence sequence(0, 1, 1);
  Floats q(4), k_pages(4), v_pages{5, 0, 7, 0}, out(4);
  compute(PagedAttention{.batch = sequence.batch(),
                         .q = view(q, {1, 4, 1}),
                         .k_pages = view(k_pages, {1, 2, 2, 1}),
                         .v_pages = view(v_pages, {1, 2, 2, 1}),
                         .out = view(out, {1, 4, 1})});
  EXPECT_EQ(out, (Floats{5, 5, 7, 7}));
}

TEST(Reference, AttendsToSelectedPositionsAlone) {
  MeanCase mean;
  Ints selected{0, 3, -1, 1, 2, 4};
  mean.op.selected = view(selected, {2, 3});
  compute(mean.op);
  expect_near(mean.out, {1.5f, 7 / 3.0f});
}

TEST(Reference, AttendsToEntriesBesidePositions) {
  MeanCase mean;  // positions 3 and 4; keys are values, and 0: all weigh the same
  Floats entries{30, 10, 20},
      k_pages(6);  // entry w in page w of the sequence, which are stored from the last
  mean.op.k_pages = view(k_pages, {3, 1, 2, 1});
  mean.op.v_pages = {};
  mean.op.window = 2;
  mean.op.scale = 0;
  mean.op.entry_pages = view(entries, {3, 1, 1, 1});
  mean.op.entry_stride = 2;
  compute(mean.op);
  expect_near(mean.out, {7.5f, 7.5f});  // entries 20 and 10, two positions of 0
  Ints selected{1, -1, -1, -1};
  mean.op.selected = view(selected, {2, 2});
  compute(mean.op);
  expect_near(mean.out, {10 / 3.0f, 0});
}

// Two sequences of three and two rows; keys are zero, so that what a row sees weighs the same.
TEST(Reference, AttendsInBothDirectionsWithinASequence) {
  Ints zeros(5), seq_of_row{0, 0, 0, 1, 1}, row_begin{0, 3, 5};
  Floats q(5, 1.0f), k(5), v{1, 2, 6, 10, 20}, out(5);
  BidirectionalAttention op{.batch = {.tokens = view(zeros, {5}),
                                      .positions = view(zeros, {5}),
                                      .seq_of_row = view(seq_of_row, {5}),
                                      .row_begin = view(row_begin, {3}),
                                      .page_tables = view(zeros, {2, 1}),
                                      .rope_tables = view(zeros, {2}),
                                      .logit_rows = view(zeros, {0})},
                            .q = view(q, {5, 1, 1}),
                            .k = view(k, {5, 1, 1}),
                            .v = view(v, {5, 1, 1}),
                            .out = view(out, {5, 1, 1})};
  compute(op);
  expect_near(out, {3, 3, 3, 15, 15});
  op.reach = 1;
  compute(op);
  expect_near(out, {1.5f, 3, 4, 15, 15});
  k[2] = 4;  // the third row, seen by the second and third
  op.scale = 0.5f;
  compute(op);
  const float e = std::exp(2.0f);
  expect_near(out, {1.5f, (1 + 2 + 6 * e) / (2 + e), (2 + 6 * e) / (1 + e), 15, 15});
  op.softcap = 1;
  compute(op);
  const float capped = std::exp(std::tanh(2.0f));
  EXPECT_FLOAT_EQ(out[2], (2 + 6 * capped) / (1 + capped));
}

}  // namespace
}  // namespace millrace
