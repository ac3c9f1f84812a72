// Formats as llama.cpp's tool chose them for models of these shapes, read out of the files that it wrote.
#include "checkpoint/mixture.h"

#include <gtest/gtest.h>

#include "checkpoint/listed_checkpoint.h"

namespace millrace {
namespace {

// Of each kind of tensor: a format, or for each layer a digit ("6" is Q6_K) or a dot (the base of the
// mixture).
struct Expected {
  std::string_view mixture, token_embd, output, attn_q, attn_k, attn_v, attn_output, ffn_up, ffn_down;
};

// 16 layers, 8 query heads on 2.
constexpr Expected kSixteenLayers[] = {
    {"Q4_0", "Q4_0", "Q6_K", "Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q4_0", "Q4_0"},
    {"Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"},
    {"Q2_K", "Q2_K", "Q6_K", "Q2_K", "Q2_K", "Q4_K", "Q3_K", "Q2_K", "Q3_K"},
    {"Q3_K_S", "Q3_K", "Q6_K", "Q3_K", "Q3_K", "Q3_K", "Q3_K", "Q3_K", "Q3_K"},
    {"Q3_K_M", "Q3_K", "Q6_K", "Q3_K", "Q3_K", "5544444444444444", "Q4_K", "Q3_K", "5444444444444444"},
    {"Q3_K_L", "Q3_K", "Q6_K", "Q3_K", "Q3_K", "Q5_K", "Q5_K", "Q3_K", "Q5_K"},
    {"Q4_K_S", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "5555............", "Q4_K", "Q4_K", "55.............."},
    {"Q4_K_M", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "66..6..6..6..666", "Q4_K", "Q4_K", "66..6..6..6..666"},
    {"Q5_K_S", "Q5_K", "Q6_K", "Q5_K", "Q5_K", "Q5_K", "Q5_K", "Q5_K", "Q5_K"},
    {"Q5_K_M", "Q5_K", "Q6_K", "Q5_K", "Q5_K", "66..6..6..6..666", "Q5_K", "Q5_K", "66..6..6..6..666"},
    {"Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K", "Q6_K"},
    {"IQ4_NL", "IQ4_NL", "Q6_K", "IQ4_NL", "IQ4_NL", "Q5_K", "IQ4_NL", "IQ4_NL", "55.............."},
    {"IQ4_XS", "IQ4_XS", "Q6_K", "IQ4_XS", "IQ4_XS", "Q5_K", "IQ4_XS", "IQ4_XS", "55.............."},
    {"MXFP4_MOE", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0"},
};

// 9 layers, no output.weight, 8 query heads on 8.
constexpr Expected kTied[] = {
    {"Q2_K", "Q6_K", "-", "Q2_K", "Q2_K", "Q3_K", "Q3_K", "Q2_K", "Q3_K"},
    {"Q3_K_M", "Q6_K", "-", "Q3_K", "Q3_K", "554444444", "Q4_K", "Q3_K", "Q4_K"},
    {"Q4_K_S", "Q6_K", "-", "Q4_K", "Q4_K", "5555.....", "Q4_K", "Q4_K", "5........"},
    {"Q5_K_M", "Q6_K", "-", "Q5_K", "Q5_K", "6..6..666", "Q5_K", "Q5_K", "6..6..666"},
    {"IQ4_XS", "Q6_K", "-", "IQ4_XS", "IQ4_XS", "IQ4_XS", "IQ4_XS", "IQ4_XS", "5........"},
};

// 2 layers of 8 experts, 8 query heads on 2.
constexpr Expected kEightExperts[] = {
    {"Q2_K", "Q2_K", "Q6_K", "Q2_K", "Q8_0", "Q8_0", "Q5_K", "Q2_K", "Q3_K"},
    {"Q3_K_S", "Q3_K", "Q6_K", "Q3_K", "Q8_0", "Q8_0", "Q5_K", "Q3_K", "Q3_K"},
    {"Q3_K_L", "Q3_K", "Q6_K", "Q3_K", "Q8_0", "Q8_0", "Q3_K", "Q3_K", "Q5_K"},
    {"Q4_K_M", "Q4_K", "Q6_K", "Q4_K", "Q8_0", "Q8_0", "Q5_K", "Q4_K", ".6"},
    {"IQ4_XS", "IQ4_XS", "Q6_K", "IQ4_XS", "Q8_0", "Q8_0", "Q5_K", "IQ4_XS", "IQ4_XS"},
    {"MXFP4_MOE", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "Q8_0", "MXFP4", "MXFP4"},
};

class FakeCheckpoint final : public ListedCheckpoint {
 public:
  struct Shape {
    int64_t n_layers, n_kv_heads, n_experts;
    bool is_tied;
  };

  explicit FakeCheckpoint(const Shape& shape, int64_t n_cols = 256) : ListedCheckpoint(list(shape, n_cols)) {
    metadata_.add("general.architecture", std::string_view("llama"));
    metadata_.add("llama.block_count", shape.n_layers);
    metadata_.add("llama.attention.head_count", int64_t{8});
    metadata_.add("llama.attention.head_count_kv", shape.n_kv_heads);
    if (shape.n_experts > 0) metadata_.add("llama.expert_count", shape.n_experts);
  }

  const Metadata& metadata() const override { return metadata_; }

 private:
  static std::vector<NamedTensor> list(const Shape& shape, int64_t n_cols) {
    std::vector<NamedTensor> all;
    const auto add = [&](std::string name, int n_dims = 2) {
      Tensor tensor(nullptr, Dtype::f16, {n_cols});
      if (n_dims == 2) tensor = Tensor(nullptr, Dtype::f16, {8, n_cols});
      if (n_dims == 3) tensor = Tensor(nullptr, Dtype::f16, {8, 8, n_cols});
      all.push_back({std::move(name), tensor});
    };
    add("token_embd.weight");
    if (!shape.is_tied) add("output.weight");
    add("blk.0.attn_norm.weight", 1);
    // The order of a file is not that of the layers.
    for (int64_t i = shape.n_layers - 1; i >= 0; --i) {
      for (const char* part : {"ffn_down", "ffn_up"})
        add(fmt::format("blk.{}.{}{}.weight", i, part, shape.n_experts > 0 ? "_exps" : ""),
            shape.n_experts > 0 ? 3 : 2);
      for (const char* part : {"attn_v", "attn_q", "attn_output", "attn_k", "ffn_gate_inp"})
        add(fmt::format("blk.{}.{}.weight", i, part));
    }
    return all;
  }

  Metadata metadata_;
};

std::map<std::string, FormatChoice> choices_of(const FakeCheckpoint& checkpoint,
                                               const MixtureOptions& options) {
  const std::vector<FormatChoice> choices = choose_formats(checkpoint, options);
  std::map<std::string, FormatChoice> by_name;
  for (size_t i = 0; i < choices.size(); ++i) by_name[checkpoint.tensors()[i].name] = choices[i];
  return by_name;
}

Dtype dtype_at(std::string_view text, int64_t layer, const Mixture& mixture) {
  if (const auto dtype = dtype_of_name(text)) return *dtype;
  const char letter = text.at(static_cast<size_t>(layer));
  return letter == '.' ? mixture.base : dtype_of_name(fmt::format("Q{}_K", letter)).value();
}

void expect_formats(const FakeCheckpoint::Shape& shape, std::span<const Expected> table) {
  const FakeCheckpoint checkpoint(shape);
  for (const Expected& expected : table) {
    const Mixture* mixture = find_mixture(expected.mixture);
    ASSERT_NE(mixture, nullptr);
    const auto choices = choices_of(checkpoint, {.mixture = mixture});
    const auto expect = [&](const std::string& name, std::string_view text, int64_t layer) {
      EXPECT_EQ(choices.at(name).dtype, dtype_at(text, layer, *mixture)) << expected.mixture << " " << name;
      EXPECT_FALSE(choices.at(name).wanted.has_value());
    };
    expect("token_embd.weight", expected.token_embd, 0);
    if (!shape.is_tied) expect("output.weight", expected.output, 0);
    for (int64_t i = 0; i < shape.n_layers; ++i) {
      const std::string layer = fmt::format("blk.{}.", i),
                        end = shape.n_experts > 0 ? "_exps.weight" : ".weight";
      expect(layer + "attn_q.weight", expected.attn_q, i);
      expect(layer + "attn_k.weight", expected.attn_k, i);
      expect(layer + "attn_v.weight", expected.attn_v, i);
      expect(layer + "attn_output.weight", expected.attn_output, i);
      expect(layer + "ffn_up" + end, expected.ffn_up, i);
      expect(layer + "ffn_down" + end, expected.ffn_down, i);
      EXPECT_EQ(choices.at(layer + "ffn_gate_inp.weight").dtype, Dtype::f16);
    }
    EXPECT_EQ(choices.at("blk.0.attn_norm.weight").dtype, Dtype::f16);
  }
}

TEST(Mixture, SixteenLayers) { expect_formats({16, 2, 0, false}, kSixteenLayers); }
TEST(Mixture, Tied) { expect_formats({9, 8, 0, true}, kTied); }
TEST(Mixture, EightExperts) { expect_formats({2, 2, 8, false}, kEightExperts); }

TEST(Mixture, Names) {
  EXPECT_EQ(find_mixture("q4_k"), find_mixture("Q4_K_M"));
  EXPECT_EQ(find_mixture("Q4_K_M")->file_type, 15);
  EXPECT_EQ(find_mixture("Q2_K")->file_type, 10);
  EXPECT_EQ(find_mixture("Q9"), nullptr);
}

TEST(Mixture, Replacements) {
  const FakeCheckpoint checkpoint({1, 8, 0, false}, 96);
  const auto up = [&](const char* name) {
    return choices_of(checkpoint, {.mixture = find_mixture(name)}).at("blk.0.ffn_up.weight");
  };
  EXPECT_EQ(up("Q4_K_M").dtype, Dtype::q5_0);
  EXPECT_EQ(up("Q4_K_M").wanted, Dtype::q4_k);
  EXPECT_EQ(up("Q5_K_S").dtype, Dtype::q5_1);
  EXPECT_EQ(up("Q6_K").dtype, Dtype::q8_0);
  EXPECT_EQ(up("Q2_K").dtype, Dtype::q4_0);
  EXPECT_EQ(up("IQ4_XS").dtype, Dtype::iq4_nl);
  EXPECT_EQ(up("Q8_0").wanted, std::nullopt);
  const FakeCheckpoint odd({1, 8, 0, false}, 40);
  EXPECT_EQ(choices_of(odd, {.mixture = find_mixture("Q6_K")}).at("blk.0.ffn_up.weight").dtype, Dtype::f16);
}

TEST(Mixture, Choices) {
  const FakeCheckpoint checkpoint({2, 8, 0, false});
  MixtureOptions options{
      .mixture = find_mixture("Q4_0"), .output = Dtype::q8_0, .token_embedding = Dtype::q5_0};
  options.by_name.emplace_back("blk\\.1\\.attn", Dtype::q6_k);
  options.by_name.emplace_back("attn_q", Dtype::q5_1);
  auto choices = choices_of(checkpoint, options);
  EXPECT_EQ(choices.at("output.weight").dtype, Dtype::q8_0);
  EXPECT_EQ(choices.at("token_embd.weight").dtype, Dtype::q5_0);
  EXPECT_EQ(choices.at("blk.0.attn_q.weight").dtype, Dtype::q5_1);
  EXPECT_EQ(choices.at("blk.1.attn_q.weight").dtype, Dtype::q6_k);
  EXPECT_EQ(choices.at("blk.0.ffn_up.weight").dtype, Dtype::q4_0);
  choices = choices_of(checkpoint, {.mixture = find_mixture("Q4_K_M"), .is_pure = true});
  EXPECT_EQ(choices.at("output.weight").dtype, Dtype::q4_k);
  EXPECT_EQ(choices.at("blk.0.attn_v.weight").dtype, Dtype::q4_k);
}

// Rules of an architecture: what it keeps, it keeps whatever is asked; another format yields to what is asked
// by name.
TEST(Mixture, RulesOfAnArchitecture) {
  const FakeCheckpoint checkpoint({2, 8, 0, false});
  constexpr WeightRule kRules[] = {{"attn_k."}, {"attn_q.", Dtype::q8_0}};
  MixtureOptions options{.mixture = find_mixture("Q4_K_M"), .weight_rules = kRules};
  options.by_name.emplace_back("blk\\.1\\.", Dtype::q6_k);
  auto choices = choices_of(checkpoint, options);
  EXPECT_EQ(choices.at("blk.0.attn_q.weight").dtype, Dtype::q8_0);
  EXPECT_EQ(choices.at("blk.1.attn_q.weight").dtype, Dtype::q6_k);
  EXPECT_EQ(choices.at("blk.1.attn_k.weight").dtype, Dtype::f16);
  EXPECT_EQ(choices.at("blk.0.attn_output.weight").dtype, Dtype::q4_k);
  options = {.mixture = find_mixture("BF16"), .weight_rules = kRules};
  choices = choices_of(checkpoint, options);
  EXPECT_EQ(choices.at("blk.0.attn_k.weight").dtype, Dtype::f16);
  EXPECT_EQ(choices.at("blk.0.attn_q.weight").dtype, Dtype::bf16);
}

TEST(Mixture, SharedValuesOfEightyLayers) {
  const FakeCheckpoint checkpoint({80, 2, 0, false});
  const auto value_of = [&](bool is_shared) {
    return choices_of(checkpoint,
                      {.mixture = find_mixture("Q4_K_S"), .shares_values_at_80_layers = is_shared})
        .at("blk.9.attn_v.weight")
        .dtype;
  };
  EXPECT_EQ(value_of(true), Dtype::q5_k);
  EXPECT_EQ(value_of(false), Dtype::q4_k);
}

// With an importance matrix Q4_0 gives the first eighth of ffn_down a minimum too.
TEST(Mixture, Importance) {
  const FakeCheckpoint checkpoint({8, 8, 0, false});
  const auto choices = choices_of(checkpoint, {.mixture = find_mixture("Q4_0"), .has_importance = true});
  EXPECT_EQ(choices.at("blk.0.ffn_down.weight").dtype, Dtype::q4_1);
  EXPECT_EQ(choices.at("blk.1.ffn_down.weight").dtype, Dtype::q4_0);
}

}  // namespace
}  // namespace millrace
