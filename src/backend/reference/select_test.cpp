// The oracle against what one can work out by hand: the indexer, and entries of compressed keys.
#include <gtest/gtest.h>

#include <cmath>

#include "backend/reference/by_hand.h"
#include "quant/half.h"

namespace millrace {
namespace {

using namespace testing;

// One index head over the keys 3, -1, 2, 5, 1 of the positions 0 to 4.
TEST(Reference, SelectsWhatTheIndexerScoresHighest) {
  OneSequence sequence(3, 2, 3);
  Floats keys{3, -1, 2, 5, 1}, k_pages(6), q{1, 1}, weights{1, -1};
  for (size_t position = 0; position < keys.size(); ++position)
    k_pages[2 * static_cast<size_t>(sequence.pages[position / 2]) + position % 2] = keys[position];
  Ints selected(6);
  SelectPositions op{.batch = sequence.batch(),
                     .q = view(q, {2, 1, 1}),
                     .weights = view(weights, {2, 1}),
                     .k_pages = view(k_pages, {3, 1, 2, 1}),
                     .selected = view(selected, {2, 3})};
  compute(op);
  EXPECT_EQ(selected, (Ints{0, 2, 3, 1, 2, 4}));  // position 4 weighs by -1, and a negative product as 0
  Ints all(12);
  op.selected = view(all, {2, 6});
  compute(op);
  EXPECT_EQ(all, (Ints{0, 1, 2, 3, -1, -1, 0, 1, 2, 3, 4, -1}));
}

// Entries of two positions, of which a row sees those of whole runs: of 8 and 3 at position 4; at position 5
// one more. What follows the last whole run is always there.
TEST(Reference, ExpandsSelectedEntries) {
  OneSequence sequence(4, 2, 3);
  Floats keys(3), q{1, 1}, weights{1, 1};
  for (size_t entry = 0; entry < keys.size(); ++entry)
    keys[static_cast<size_t>(sequence.pages[entry])] = Floats{3, 8, 5}[entry];
  Ints selected(6);
  SelectPositions op{.batch = sequence.batch(),
                     .q = view(q, {2, 1, 1}),
                     .weights = view(weights, {2, 1}),
                     .k_pages = view(keys, {3, 1, 1, 1}),
                     .selected = view(selected, {2, 3}),
                     .entry_stride = 2,
                     .page_size = 2,
                     .expands = true};
  compute(op);
  EXPECT_EQ(selected, (Ints{2, 3, 4, 2, 3, -1}));
  Ints more(10);
  op.selected = view(more, {2, 5});
  compute(op);
  EXPECT_EQ(more, (Ints{0, 1, 2, 3, 4, 2, 3, 4, 5, -1}));
}

// Runs of two positions in pages of two: entry w is in page w of the sequence.
struct CompressCase {
  CompressCase() {
    op = {.batch = sequence.batch(),
          .kv = view(kv, {4, 1}),
          .gate = view(gate, {4, 1}),
          .bias = view(bias, {2, 1}),
          .norm = view(norm, {1}),
          .row_pages = view(row_pages, {2, 1, 2, 2}),
          .entry_pages = view(entry_pages, {2, 1, 1, 1}),
          .rope = {.pairing = RopePairing::adjacent},
          .norm_eps = 0};
  }
  OneSequence sequence{0, 4, 2};  // positions 0 and 1 in page 1, 2 and 3 in page 0
  Floats kv{1, 3, -2, -6}, gate{0, 0, 0, std::log(3.0f)}, bias{0, std::log(3.0f)}, norm{2};
  Floats row_pages = Floats(8), entry_pages = Floats(2);
  CompressKv op;
};

TEST(Reference, CompressesRunsOfPositions) {
  CompressCase one;
  one.op.norm_eps = 0.25f;
  compute(one.op);
  EXPECT_EQ(one.row_pages, (Floats{-2, 0, -6, std::log(3.0f), 1, 0, 3, 0}));
  const float first = (1 + 3 * 3) / 4.0f, second = (-2 - 9 * 6) / 10.0f;
  expect_near(one.entry_pages, {2 * second / std::sqrt(second * second + 0.25f),
                                2 * first / std::sqrt(first * first + 0.25f)});
}

TEST(Reference, CompressesToMeansWithoutANorm) {
  CompressCase one;
  one.op.norm = {};
  compute(one.op);
  expect_near(one.entry_pages, {(-2 - 9 * 6) / 10.0f, (1 + 3 * 3) / 4.0f});
}

// Rows (first half, second half): entry 1 mixes the first halves of rows 0 and 1 with the second ones of 2
// and 3.
TEST(Reference, CompressesOverlappingRuns) {
  CompressCase two;
  Floats kv{8, 1, 4, 3, 100, 2, 200, 6}, gate(8), bias(4), row_pages(16);
  two.norm = {1};
  two.op.kv = view(kv, {4, 2});
  two.op.gate = view(gate, {4, 2});
  two.op.bias = view(bias, {2, 2});
  two.op.row_pages = view(row_pages, {2, 1, 2, 4});
  two.op.norm_eps = 75;  // of 5: 1 / sqrt(25 + 75)
  compute(two.op);
  expect_near(two.entry_pages, {0.5f, 2 / std::sqrt(79.0f)});
}

}  // namespace
}  // namespace millrace
