// The oracle against what one can work out by hand. Everything else is tested against the oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "backend/backend.h"
#include "quant/half.h"

namespace millrace {
namespace {

using Floats = std::vector<float>;
using Ints = std::vector<int32_t>;

Tensor view(Floats& values, std::initializer_list<int64_t> dims) { return {values.data(), Dtype::f32, dims}; }
Tensor view(Ints& values, std::initializer_list<int64_t> dims) { return {values.data(), Dtype::i32, dims}; }

void compute(const Op& op) { make_reference_backend()->run(op); }

// One sequence whose rows are the positions [n_past, n_past + n_rows), in pages of 2 positions: page p of the
// sequence is page n_pages - 1 - p of the cache.
struct OneSequence {
  OneSequence(int32_t n_past, int32_t n_rows, int32_t n_pages)
      : positions(static_cast<size_t>(n_rows)), zeros(positions.size()), row_begin{0, n_rows} {
    std::iota(positions.begin(), positions.end(), n_past);
    for (int32_t page = n_pages; page-- > 0;) pages.push_back(page);
  }
  Batch batch() {
    const int64_t n_rows = static_cast<int64_t>(positions.size());
    return {.tokens = view(zeros, {n_rows}),
            .positions = view(positions, {n_rows}),
            .seq_of_row = view(zeros, {n_rows}),
            .row_begin = view(row_begin, {2}),
            .page_tables = view(pages, {1, static_cast<int64_t>(pages.size())}),
            .rope_tables = view(rope_table, {1}),
            .logit_rows = view(rope_table, {0})};
  }
  Ints positions, zeros, row_begin, pages, rope_table{0};
};

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

// q of position 1 and k, v of one head, rotated by quarter turns (inv_freq pi / 2) and stored.
struct RopeCase {
  explicit RopeCase(RopePairing pairing) {
    op.batch = sequence.batch();
    op.q = view(q, {1, 1, 6});
    op.k = view(k, {1, 1, 6});
    op.v = view(v, {1, 1, 2});
    op.rope = {.inv_freq = view(inv_freq, {1, 2}), .pairing = pairing};
    op.k_pages = view(k_pages, {2, 1, 2, 6});
    op.v_pages = view(v_pages, {2, 1, 2, 2});
  }
  OneSequence sequence{1, 1, 2};
  Floats q{1, 2, 3, 4, 5, 6}, k{1, 0, 0, 0, 7, 8}, v{9, 10};
  Floats inv_freq{1.5707964f, 0}, k_pages = Floats(24), v_pages = Floats(8);
  RopeStoreKv op;
};

void expect_near(const Floats& actual, const Floats& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-5f) << "element " << i;
}

TEST(Reference, RotatesPairsAndStoresKeys) {
  RopeCase split(RopePairing::half_split);  // pairs (0, 2) and (1, 3); 4 and 5 stay
  compute(split.op);
  expect_near(split.q, {-3, 2, 1, 4, 5, 6});
  expect_near(split.k, {0, 0, 1, 0, 7, 8});
  // Position 1 is slot 1 of page 1.
  EXPECT_EQ(Floats(split.k_pages.begin() + 18, split.k_pages.end()), split.k);
  EXPECT_EQ(split.v_pages, (Floats{0, 0, 0, 0, 0, 0, 9, 10}));
  EXPECT_TRUE(std::all_of(split.k_pages.begin(), split.k_pages.begin() + 18, [](float x) { return x == 0; }));

  RopeCase adjacent(RopePairing::adjacent);  // pairs (0, 1) and (2, 3)
  compute(adjacent.op);
  expect_near(adjacent.q, {-2, 1, 3, 4, 5, 6});
  expect_near(adjacent.k, {0, 1, 0, 0, 7, 8});
}

TEST(Reference, ScalesRotationsAndQueries) {
  RopeCase magnified(RopePairing::adjacent);
  magnified.op.rope.magnitude[0] = 2;
  compute(magnified.op);
  expect_near(magnified.q, {-4, 2, 6, 8, 5, 6});

  RopeCase scaled(RopePairing::adjacent);
  scaled.op.rope.inv_freq = {};
  scaled.op.q_scale_beta = 0.5f;
  scaled.op.q_scale_length = 2;
  scaled.op.q_scale_offset = 3;  // floor((1 + 3) / 2) = 2
  compute(scaled.op);
  EXPECT_FLOAT_EQ(scaled.q[0], 1 + 0.5f * std::log(3.0f));
  EXPECT_EQ(scaled.k[0], 1);

  RopeCase normed(RopePairing::adjacent);
  Floats weight{1, 1, 1, 1, 1, 2};
  normed.op.q_norm = view(weight, {6});
  normed.op.norm_eps = 0;
  compute(normed.op);
  const float rms = std::sqrt(91.0f / 6);
  expect_near(normed.q, {-2 / rms, 1 / rms, 3 / rms, 4 / rms, 5 / rms, 12 / rms});
  expect_near(normed.k, {0, 1, 0, 0, 7, 8});
}

TEST(Reference, NormsTheFirstAndRotatesTheLastDimensions) {
  RopeCase latent(RopePairing::adjacent);  // pairs (2, 3) and (4, 5)
  Floats weight{1, 3};
  latent.op.k_norm = view(weight, {2});
  latent.op.norm_eps = 0;
  latent.op.rope_begin = 2;
  latent.op.v = {};
  latent.op.v_pages = {};
  latent.k = {1, 1, 1, 0, 7, 8};
  compute(latent.op);
  expect_near(latent.q, {1, 2, -4, 3, 5, 6});
  expect_near(latent.k, {1, 3, 0, 1, 7, 8});
}

TEST(Reference, RotatesQueriesAlone) {
  RopeCase alone(RopePairing::adjacent);
  alone.op.k = alone.op.v = alone.op.k_pages = alone.op.v_pages = {};
  compute(alone.op);
  expect_near(alone.q, {-2, 1, 3, 4, 5, 6});
}

// An angle of 3 million radians must not lose its fraction.
TEST(Reference, RotatesFarPositionsExactly) {
  RopeCase far(RopePairing::adjacent);
  far.inv_freq = {1, 0};
  far.sequence.positions[0] = 3000001;
  far.sequence.pages.assign(1500001, 0);
  far.op.batch = far.sequence.batch();
  compute(far.op);
  EXPECT_FLOAT_EQ(far.q[0], static_cast<float>(std::cos(3000001.0) - 2 * std::sin(3000001.0)));
}

TEST(Reference, RoundsKeysWhenItStoresThem) {
  RopeCase half(RopePairing::adjacent);
  half.op.rope.inv_freq = {};
  half.k[0] = 1.0005f;
  std::vector<uint16_t> k_pages(24), v_pages(8);
  half.op.k_pages = Tensor(k_pages.data(), Dtype::f16, {2, 1, 2, 6});
  half.op.v_pages = Tensor(v_pages.data(), Dtype::f16, {2, 1, 2, 2});
  compute(half.op);
  EXPECT_EQ(half.k[0], 1.0005f);
  EXPECT_EQ(k_pages[18], f16_of_float(1.0005f));
  EXPECT_EQ(v_pages[7], f16_of_float(10));
}

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

TEST(Reference, AttendsToSelectedPositionsAlone) {
  MeanCase mean;
  Ints selected{0, 3, -1, 1, 2, 4};
  mean.op.selected = view(selected, {2, 3});
  compute(mean.op);
  expect_near(mean.out, {1.5f, 7 / 3.0f});
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

TEST(Reference, RotatesInPlaceWithoutPages) {
  RopeCase bare(RopePairing::adjacent);
  bare.op.v = bare.op.k_pages = bare.op.v_pages = {};
  compute(bare.op);
  expect_near(bare.q, {-2, 1, 3, 4, 5, 6});
  expect_near(bare.k, {0, 1, 0, 0, 7, 8});
  EXPECT_EQ(bare.k_pages, Floats(24));
}

TEST(Reference, MeansOfRows) {
  Floats x{1, 2, 3, 4, 8, 0}, out(4);
  Ints begin{0, 1}, end{3, 2};
  compute(MeanRows{
      .x = view(x, {3, 2}), .begin = view(begin, {2}), .end = view(end, {2}), .out = view(out, {2, 2})});
  EXPECT_EQ(out, (Floats{4, 2, 3, 4}));
}

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
