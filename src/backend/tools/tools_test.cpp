#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cases/op_cases.h"
#include "backend/op_error.h"
#include "backend/tools/checking_backend.h"
#include "backend/tools/counting_backend.h"
#include "backend/tools/importance_backend.h"
#include "backend/tools/tracing_backend.h"
#include "tensor/arena.h"

namespace millrace {
namespace {

Linear linear(Arena& arena, Dtype dtype) {
  Linear op{.x = arena.take(Dtype::f32, {3, 256})};
  op.products[0] = {.weight = arena.take(dtype, {10, 256}), .out = arena.take(Dtype::f32, {3, 10})};
  return op;
}

TEST(OpCost, CountsWeightsAsTheyAreStored) {
  Arena arena;
  EXPECT_EQ(cost_of(linear(arena, Dtype::q4_k), Elements::unknown),
            (OpCost{.read_bytes = 3 * 1024 + 10 * 144, .written_bytes = 120, .flops = 2 * 3 * 10 * 256}));
}

TEST(OpCost, CountsInPlaceOperandsTwice) {
  Arena arena;
  const Tensor x = arena.take(Dtype::f32, {4, 8});
  const Tensor y = arena.take(Dtype::f32, {4, 8});
  EXPECT_EQ(cost_of(Add{.x = x, .y = y}, Elements::unknown),
            (OpCost{.read_bytes = 256, .written_bytes = 128}));
}

TEST(OpCost, CountsRowsOfTablesThatAreLookedUp) {
  Arena arena;
  const Embed op{.tokens = arena.take(Dtype::i32, {3}),
                 .table = arena.take(Dtype::f16, {1000, 16}),
                 .out = arena.take(Dtype::f32, {3, 16})};
  EXPECT_EQ(cost_of(op, Elements::unknown), (OpCost{.read_bytes = 12 + 96, .written_bytes = 192}));
}

TEST(OpCost, CountsExpertsThatAreUsed) {
  Arena arena;
  int32_t experts[] = {4, 1, 4, 2, 1, 4};
  const MoeDown op{.x = arena.take(Dtype::f32, {3, 2, 8}),
                   .experts = Tensor(experts, Dtype::i32, {3, 2}),
                   .weights = arena.take(Dtype::f32, {3, 2}),
                   .down = arena.take(Dtype::f32, {100, 5, 8}),
                   .out = arena.take(Dtype::f32, {3, 5})};
  const OpCost three{.read_bytes = 192 + 24 + 24 + 3 * 160, .written_bytes = 60, .flops = 2 * 6 * 5 * 8};
  EXPECT_EQ(cost_of(op, Elements::readable), three);
  OpCost six = three;
  six.read_bytes += 3 * 160;
  EXPECT_EQ(cost_of(op, Elements::unknown), six);
}

// Two sequences: one row at position 9, and three rows at positions 4 to 6.
struct AttentionCost {
  int32_t positions[4] = {9, 4, 5, 6}, row_begin[3] = {0, 1, 4};
  Arena arena;
  PagedAttention op{.batch = {.tokens = arena.take(Dtype::i32, {4}),
                              .positions = Tensor(positions, Dtype::i32, {4}),
                              .seq_of_row = arena.take(Dtype::i32, {4}),
                              .row_begin = Tensor(row_begin, Dtype::i32, {3}),
                              .page_tables = arena.take(Dtype::i32, {2, 5}),
                              .rope_tables = arena.take(Dtype::i32, {2})},
                    .q = arena.take(Dtype::f32, {4, 2, 8}),
                    .k_pages = arena.take(Dtype::f16, {7, 1, 4, 8}),
                    .v_pages = arena.take(Dtype::f16, {7, 1, 4, 8}),
                    .out = arena.take(Dtype::f32, {4, 2, 8})};
};

TEST(OpCost, CountsVisiblePositions) {
  AttentionCost all;
  // 10 and 7 positions of 2 * 8 * 2 bytes are read; 10 + 5 + 6 + 7 pairs of row and position.
  EXPECT_EQ(cost_of(all.op, Elements::readable),
            (OpCost{.read_bytes = 256 + 17 * 32, .written_bytes = 256, .flops = 2 * 28 * 2 * 16}));
  // At most 20 positions each.
  EXPECT_EQ(cost_of(all.op, Elements::unknown),
            (OpCost{.read_bytes = 256 + 40 * 32, .written_bytes = 256, .flops = 2 * 80 * 2 * 16}));
  all.op.window = 3;  // 3 of the first sequence; of the second those from 2 to 6
  EXPECT_EQ(cost_of(all.op, Elements::readable),
            (OpCost{.read_bytes = 256 + 8 * 32, .written_bytes = 256, .flops = 2 * 12 * 2 * 16}));
  all.op.window = 0;
  all.op.chunk = 4;  // 8 and 9 of the first sequence; 4 to 6 of the second
  EXPECT_EQ(cost_of(all.op, Elements::readable),
            (OpCost{.read_bytes = 256 + 5 * 32, .written_bytes = 256, .flops = 2 * 8 * 2 * 16}));
}

TEST(OpCost, OfUnknownElementsIsNeverLess) {
  for (const OpCase& line : op_cases()) {
    const CaseOp made = line.make();
    const OpCost known = cost_of(made.op, Elements::readable);
    const OpCost most = cost_of(made.op, Elements::unknown);
    EXPECT_GE(most.read_bytes, known.read_bytes) << line.name;
    EXPECT_GE(most.written_bytes, known.written_bytes) << line.name;
    EXPECT_GE(most.flops, known.flops) << line.name;
  }
}

TEST(CountingBackend, PlansWithoutMemory) {
  Arena arena;  // offsets from nullptr: reading any of them would crash
  CountingBackend counting;
  counting.run(linear(arena, Dtype::q4_k));
  counting.run(linear(arena, Dtype::f16));
  counting.run(Add{.x = arena.take(Dtype::f32, {4, 8}), .y = arena.take(Dtype::f32, {4, 8})});
  EXPECT_EQ(counting.table().of("linear").n_ops, 2);
  EXPECT_EQ(counting.table().of("linear").cost.read_bytes, 2 * 3 * 1024 + 10 * 144 + 10 * 512);
  EXPECT_EQ(counting.table().total().n_ops, 3);
  EXPECT_EQ(counting.table().total().cost.written_bytes, 120 + 120 + 128);
}

TEST(TracingBackend, TimesEachOpAndComputesIt) {
  float x[] = {1, 2}, y[] = {10, 20};
  const auto reference = make_reference_backend();
  TracingBackend tracing(*reference);
  for (int i = 0; i < 2; ++i)
    tracing.run(Add{.x = Tensor(x, Dtype::f32, {1, 2}), .y = Tensor(y, Dtype::f32, {1, 2})});
  EXPECT_EQ(x[1], 42);
  const OpTotals& adds = tracing.table().of("add");
  EXPECT_EQ(adds.n_ops, 2);
  EXPECT_GT(adds.seconds, 0);
  EXPECT_DOUBLE_EQ(adds.gb_per_second(), 48 / 1e9 / adds.seconds);
  EXPECT_EQ(tracing.table().json().at("add").at("n_ops").as_int(), 2);
  EXPECT_EQ(tracing.table().json().find("linear"), nullptr);
  EXPECT_EQ(tracing.table().json().at("total").at("read_bytes").as_int(), 32);
  const std::string text = tracing.table().text();
  EXPECT_NE(text.find("\nadd "), std::string::npos) << text;
  EXPECT_NE(text.find("\ntotal "), std::string::npos) << text;
}

// The reference, but for one op: then one bit of one written operand is wrong.
class FaultyBackend final : public Backend {
 public:
  FaultyBackend(int64_t op_index, std::string_view operand) : faulty_op_(op_index), operand_(operand) {}
  std::string_view name() const override { return "faulty"; }
  void run(const Op& op) override {
    reference_->run(op);
    Op copy = op;
    for (const Operand& operand : operands_of(copy)) {
      if (n_ops_ == faulty_op_ && operand.name == operand_)
        operand.tensor->data[operand.tensor->n_bytes() - 2] ^= std::byte{0x40};
    }
    ++n_ops_;
  }

 private:
  std::unique_ptr<Backend> reference_ = make_reference_backend();
  int64_t faulty_op_;
  std::string_view operand_;
  int64_t n_ops_ = 0;
};

TEST(CheckingBackend, NamesTheFirstOpThatDiffers) {
  float x[] = {1, 2}, y[] = {10, 20}, out[2], weight[] = {1, 1};
  const auto reference = make_reference_backend();
  for (const std::string_view operand : {"x", "out"}) {
    FaultyBackend faulty(2, operand);
    CheckingBackend checking(faulty, *reference);
    const Norm norm{.x = Tensor(x, Dtype::f32, {1, 2}),
                    .add = Tensor(y, Dtype::f32, {1, 2}),
                    .weight = Tensor(weight, Dtype::f32, {2}),
                    .out = Tensor(out, Dtype::f32, {1, 2})};
    for (int i = 0; i < 2; ++i) checking.run(norm);
    EXPECT_FALSE(checking.first_difference());
    for (int i = 0; i < 2; ++i) checking.run(norm);
    ASSERT_TRUE(checking.first_difference());
    EXPECT_EQ(checking.first_difference()->op_index, 2);
    EXPECT_EQ(checking.first_difference()->output, operand);
    EXPECT_NE(checking.first_difference()->text().find("norm x (1, 2) F32, add (1, 2) F32"),
              std::string::npos);
    EXPECT_EQ(checking.n_ops(), 4);
  }
}

TEST(CheckingBackend, LeavesTheResultsAlone) {
  const auto reference = make_reference_backend();
  CheckingBackend checking(*reference, *reference);
  const std::vector<OpCase> lines = op_cases();
  for (size_t l = 0; l < lines.size(); l += 5) {
    const OpCase& line = lines[l];
    CaseOp checked = line.make();
    CaseOp alone = line.make();
    checking.run(checked.op);
    reference->run(alone.op);
    const std::vector<Operand> a = operands_of(checked.op);
    const std::vector<Operand> b = operands_of(alone.op);
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(
          std::memcmp(a[i].tensor->data, b[i].tensor->data, static_cast<size_t>(a[i].tensor->n_bytes())), 0)
          << line.name << ", " << a[i].name;
    }
  }
  EXPECT_FALSE(checking.first_difference()) << checking.first_difference()->text();
}

TEST(OpError, SeesWhatDiffers) {
  float a[] = {3, 4, NAN}, b[] = {3, 4, NAN}, c[] = {3, 4.05f, NAN}, d[] = {3, 4, 0};
  const auto error = [](float* actual, float* expected) {
    return normalised_error(Tensor(actual, Dtype::f32, {3}), Tensor(expected, Dtype::f32, {3}));
  };
  EXPECT_EQ(error(a, b), 0);
  EXPECT_NEAR(error(c, a), 0.01, 1e-6);
  EXPECT_EQ(error(d, a), std::numeric_limits<double>::infinity());
  EXPECT_EQ(error(a, d), std::numeric_limits<double>::infinity());
  int32_t i[] = {1, 2, 3}, j[] = {1, 2, 4};
  EXPECT_DOUBLE_EQ(normalised_error(Tensor(i, Dtype::i32, {3}), Tensor(j, Dtype::i32, {3})), 1 / 3.0);
}

// Two of the three products are views of one fused weight: its columns are counted once.
TEST(Importance, SumsTheSquaresOfWhatAWeightSees) {
  float x[] = {1, -2, 3, 0.5f}, fused[4 * 2] = {}, other[2] = {}, out[3][2 * 2];
  Linear op{.x = Tensor(x, Dtype::f32, {2, 2}), .n_products = 3};
  const Tensor whole(fused, Dtype::f32, {4, 2});
  op.products[0] = {.weight = whole.slice(0, 2), .bias = {}, .out = Tensor(out[0], Dtype::f32, {2, 2})};
  op.products[1] = {.weight = whole.slice(2, 4), .bias = {}, .out = Tensor(out[1], Dtype::f32, {2, 2})};
  op.products[2] = {
      .weight = Tensor(other, Dtype::f32, {1, 2}), .bias = {}, .out = Tensor(out[2], Dtype::f32, {2, 1})};
  const auto reference = make_reference_backend();
  ImportanceBackend backend(*reference, {{"fused", whole}, {"unused", Tensor(x, Dtype::f32, {2, 2})}});
  backend.run(op);
  backend.run(op);
  const auto sums = backend.sums();
  ASSERT_EQ(sums.size(), 1u);
  EXPECT_EQ(sums.at("fused").counts, (std::vector<int64_t>{4}));
  EXPECT_EQ(sums.at("fused").squares, (std::vector<double>{2 * (1 + 9), 2 * (4 + 0.25)}));
}

TEST(Importance, CountsEachExpertBesideItsRows) {
  float x[] = {1, 2, 3, 4}, mid[] = {1, 2, 3, 4, 5, 6, 7, 8}, gate[3 * 2 * 2] = {}, up[3 * 2 * 2] = {};
  float down[3 * 2 * 2] = {}, weights[4] = {}, out[2 * 2];
  int32_t experts[] = {2, 0, 2, 1};
  const Tensor chosen(experts, Dtype::i32, {2, 2});
  const MoeGated gated{.x = Tensor(x, Dtype::f32, {2, 2}),
                       .experts = chosen,
                       .gate = Tensor(gate, Dtype::f32, {3, 2, 2}),
                       .up = Tensor(up, Dtype::f32, {3, 2, 2}),
                       .out = Tensor(mid, Dtype::f32, {2, 2, 2})};
  const MoeDown downward{.x = Tensor(mid, Dtype::f32, {2, 2, 2}),
                         .experts = chosen,
                         .weights = Tensor(weights, Dtype::f32, {2, 2}),
                         .down = Tensor(down, Dtype::f32, {3, 2, 2}),
                         .out = Tensor(out, Dtype::f32, {2, 2})};
  const auto reference = make_reference_backend();
  ImportanceBackend backend(*reference, {{"gate", gated.gate}, {"down", downward.down}});
  backend.run(downward);  // before `gated` writes its input
  backend.run(gated);
  const auto sums = backend.sums();
  EXPECT_EQ(sums.at("gate").counts, (std::vector<int64_t>{1, 1, 2}));
  EXPECT_EQ(sums.at("gate").squares, (std::vector<double>{1, 4, 9, 16, 1 + 9, 4 + 16}));
  EXPECT_EQ(sums.at("down").counts, (std::vector<int64_t>{1, 1, 2}));
  EXPECT_EQ(sums.at("down").squares, (std::vector<double>{9, 16, 49, 64, 1 + 25, 4 + 36}));
}

// Heads pass a matrix each, and what they only carry passes none; experts may weigh their input.
TEST(Importance, KnowsWhatPartOfARowPasses) {
  float x[] = {1, 2, 9, 3, 4, 9}, heads[2 * 1 * 2] = {}, out[2 * 2], mid[1];
  const HeadLinear op{.x = Tensor(x, Dtype::f32, {1, 2, 3}),
                      .weight = Tensor(heads, Dtype::f32, {2, 1, 2}),
                      .out = Tensor(out, Dtype::f32, {1, 2, 2})};
  float gate[2 * 1 * 3] = {}, up[2 * 1 * 3] = {}, weights[] = {0.5f};
  int32_t experts[] = {1};
  const MoeGated gated{.x = Tensor(x, Dtype::f32, {1, 3}),
                       .experts = Tensor(experts, Dtype::i32, {1, 1}),
                       .weights = Tensor(weights, Dtype::f32, {1, 1}),
                       .gate = Tensor(gate, Dtype::f32, {2, 1, 3}),
                       .up = Tensor(up, Dtype::f32, {2, 1, 3}),
                       .out = Tensor(mid, Dtype::f32, {1, 1, 1})};
  const auto reference = make_reference_backend();
  ImportanceBackend backend(*reference, {{"heads", op.weight}, {"gate", gated.gate}});
  backend.run(op);
  backend.run(gated);
  EXPECT_EQ(backend.sums().at("heads").squares, (std::vector<double>{1, 4, 9, 16}));
  EXPECT_EQ(backend.sums().at("gate").squares, (std::vector<double>{0, 0, 0, 0.25, 1, 81.0 / 4}));
}

}  // namespace
}  // namespace millrace
