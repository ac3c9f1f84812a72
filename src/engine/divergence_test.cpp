#include "engine/divergence.h"

#include <gtest/gtest.h>

#include <cmath>

namespace millrace {
namespace {

std::vector<float> logs(std::vector<double> probabilities) {
  std::vector<float> out;
  for (const double p : probabilities) out.push_back(static_cast<float>(std::log(p)));
  return out;
}

TEST(LogSoftmax, AddsUpToOne) {
  const float logits[] = {1000.0f, 1000.0f, 1000.0f - std::log(2.0f)};
  float out[3];
  log_softmax(logits, out);
  EXPECT_NEAR(std::exp(out[0]), 0.4, 1e-4);
  EXPECT_NEAR(std::exp(out[2]), 0.2, 1e-4);
}

TEST(Divergence, OfTwoPositions) {
  DivergenceMeter meter;
  meter.add(logs({0.5, 0.5}), logs({0.25, 0.75}), 0);
  meter.add(logs({0.1, 0.9}), logs({0.1, 0.9}), 1);
  const Divergence found = meter.result();
  const double kl = 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0);
  EXPECT_EQ(found.n_positions, 2);
  EXPECT_NEAR(found.mean, kl / 2, 1e-6);
  EXPECT_NEAR(found.median, kl / 2, 1e-6);
  EXPECT_NEAR(found.p99, 0.99 * kl, 1e-6);
  EXPECT_NEAR(found.max, kl, 1e-6);
  EXPECT_NEAR(found.mean_stderr, kl / 2, 1e-6);
  EXPECT_DOUBLE_EQ(found.same_top, 0.5);
  EXPECT_NEAR(found.rms_delta_p, 0.25 / std::sqrt(2.0), 1e-6);
  EXPECT_NEAR(found.base_perplexity, 1 / std::sqrt(0.5 * 0.9), 1e-5);
  EXPECT_NEAR(found.perplexity, 1 / std::sqrt(0.25 * 0.9), 1e-5);
  EXPECT_NEAR(found.perplexity_ratio, std::sqrt(2.0), 1e-5);
}

TEST(Divergence, LeavesOutWhatTheBaseAllButExcludes) {
  DivergenceMeter meter;
  meter.add(std::vector<float>{0.0f, -17.0f}, std::vector<float>{0.0f, -1000.0f}, 0);
  EXPECT_DOUBLE_EQ(meter.result().mean, 0.0);
}

}  // namespace
}  // namespace millrace
