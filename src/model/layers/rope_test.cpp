// The scalings against figures computed apart from this code: transformers 5's formulas, in Python.
#include "model/layers/rope.h"

#include <gtest/gtest.h>

namespace millrace {
namespace {

void expect_near(const auto& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(found[i] / expected[i], 1.0, 1e-6) << i;
}

TEST(Rope, Frequencies) { expect_near(rope_frequencies(8, 10000.0), {1.0, 0.1, 0.01, 0.001}); }

TEST(Rope, Yarn) {
  std::vector<double> frequencies = rope_frequencies(24, 10000.0);
  scale_yarn(frequencies, 10000.0,
             {.factor = 4.0, .original_context = 64.0, .beta_fast = 4.0, .beta_slow = 1.0});
  expect_near(frequencies, {1, 0.464158883, 0.161582602, 0.05, 0.0116039721, 0.00538608673, 0.0025,
                            0.00116039721, 0.000538608673, 0.00025, 0.000116039721, 5.38608673e-05});
  EXPECT_NEAR(yarn_magnitude(4.0, 1.0), 1.138629436, 1e-9);
  EXPECT_EQ(yarn_magnitude(1.0, 1.0), 1.0);
}

// gpt-oss: the ramp goes from dimension 8.0928 to 17.3980, and not from 8 to 18.
TEST(Rope, YarnBetweenPairs) {
  std::vector<double> frequencies = rope_frequencies(64, 150000.0);
  scale_yarn(frequencies, 150000.0,
             {.factor = 32.0, .original_context = 4096.0, .beta_fast = 32.0, .is_rounded = false});
  expect_near(std::vector(frequencies.begin() + 7, frequencies.begin() + 11),
              {0.0737445682, 0.0508132748, 0.0317056962, 0.0193350011});
}

TEST(Rope, YarnWithOneBeta) {
  std::vector<double> frequencies = rope_frequencies(16, 50000.0);
  scale_yarn(frequencies, 50000.0,
             {.factor = 32.0, .original_context = 4096.0, .beta_fast = 1.0, .beta_slow = 1.0});
  expect_near(frequencies, {1, 0.258600136, 0.0668740305, 0.0172936334, 0.00447213595, 3.61404677e-05,
                            9.34592988e-06, 2.41685874e-06});
}

TEST(Rope, Llama3) {
  const std::vector<double> frequencies = rope_frequencies(16, 500000.0);
  expect_near(
      llama3_divisors(
          frequencies,
          {.factor = 8.0, .low_freq_factor = 1.0, .high_freq_factor = 4.0, .original_context = 8192.0}),
      {1, 1, 1, 1, 2.69452969, 8, 8, 8});
  // Llama 4 Scout: no middle.
  EXPECT_EQ(
      llama3_divisors(
          {frequencies.data(), 1},
          {.factor = 16.0, .low_freq_factor = 1.0, .high_freq_factor = 1.0, .original_context = 8192.0}),
      std::vector<float>{1.0f});
}

TEST(Rope, Longrope) {
  EXPECT_NEAR(longrope_magnitude(131072.0, 4096.0), 1.19023807142, 1e-9);
  EXPECT_EQ(longrope_magnitude(4096.0, 4096.0), 1.0);
}

TEST(Rope, TwoTables) {
  RopeTable table({1.0, 0.5}, 1.25, RopePairing::adjacent);
  table.add_second({0.25, 0.125}, 1.5);
  const Rope rope = table.view();
  EXPECT_EQ(rope.inv_freq.dim(0), 2);
  EXPECT_EQ(rope.inv_freq.at(1).f32()[0], 0.25f);
  EXPECT_EQ(rope.magnitude[0], 1.25f);
  EXPECT_EQ(rope.magnitude[1], 1.5f);
  EXPECT_FALSE(RopeTable().view().inv_freq);
}

}  // namespace
}  // namespace millrace
