// Every body that gives embeddings, on tiny random weights: alone = in a batch, one thread = two, cpu near
// reference; and what the ends make of pools.
#include <gtest/gtest.h>

#include <cmath>

#include "model/families.h"
#include "model/testing/driver.h"
#include "model/testing/tiny_embedding_models.h"

namespace millrace {
namespace {

using testing::Driver;
using testing::Rows;
using testing::tiny_embedding_models;

std::vector<int32_t> random_tokens(size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(n);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % testing::kTinyVocab);
  return tokens;
}

std::vector<float> run_alone(const Model& model, Backend& backend, std::span<const int32_t> tokens,
                             Pooling pooling) {
  Driver driver(model, backend, 1, std::ssize(tokens));
  driver.set_pooling(pooling);
  return driver.run(0, tokens, 0);
}

TEST(EmbeddingFamilies, NeighboursDoNotMatter) {
  const auto backend = make_cpu_backend(1);
  for (const auto& [name, checkpoint] : tiny_embedding_models()) {
    const auto model = load_model(*checkpoint);
    for (const Pooling pooling : {Pooling::none, Pooling::mean, Pooling::cls, Pooling::last}) {
      std::vector<std::vector<int32_t>> texts;
      for (unsigned i = 0; i < 5; ++i) texts.push_back(random_tokens(1 + 11 * i, i));
      Driver driver(*model, *backend, texts.size(), 64, 7);
      driver.set_pooling(pooling);
      std::vector<Rows> step;
      std::vector<float> alone;
      for (size_t i = 0; i < texts.size(); ++i) {
        step.push_back({i, texts[i]});
        const std::vector<float> one = run_alone(*model, *backend, texts[i], pooling);
        alone.insert(alone.end(), one.begin(), one.end());
      }
      EXPECT_EQ(driver.step(step), alone) << name << " pooling " << name_of(pooling);
    }
  }
}

TEST(EmbeddingFamilies, BackendsAgree) {
  const auto reference = make_reference_backend(), one = make_cpu_backend(1), two = make_cpu_backend(2);
  for (const auto& [name, checkpoint] : tiny_embedding_models()) {
    const auto model = load_model(*checkpoint);
    const std::vector<int32_t> tokens = random_tokens(40, 5);
    const std::vector<float> expected = run_alone(*model, *reference, tokens, Pooling::mean);
    const std::vector<float> found = run_alone(*model, *one, tokens, Pooling::mean);
    ASSERT_EQ(std::ssize(found), model->shape().n_embedding) << name;
    for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-4) << name << " " << i;
    EXPECT_EQ(run_alone(*model, *two, tokens, Pooling::mean), found) << name;
  }
}

// The last token changes the first row of an encoder, and of a decoder the last one alone.
TEST(EmbeddingFamilies, EncodersSeeWhatComesAfter) {
  const auto backend = make_reference_backend();
  for (const auto& [name, checkpoint] : tiny_embedding_models()) {
    const auto model = load_model(*checkpoint);
    std::vector<int32_t> tokens = random_tokens(4, 3);
    const std::vector<float> before = run_alone(*model, *backend, tokens, Pooling::cls);
    tokens.back() ^= 1;
    const std::vector<float> after = run_alone(*model, *backend, tokens, Pooling::cls);
    EXPECT_EQ(before == after, model->shape().is_causal) << name;
    EXPECT_EQ(model->shape().kv_layers.empty(), !model->shape().is_causal) << name;
  }
}

TEST(EmbeddingFamilies, PoolsAreMeansAndRowsOfRows) {
  const auto backend = make_reference_backend();
  const auto checkpoint = testing::tiny_modernbert();
  const auto model = load_model(*checkpoint);
  const std::vector<int32_t> tokens = random_tokens(9, 3);
  const auto hidden = static_cast<size_t>(testing::kTinyHidden);
  const std::vector<float> rows = run_alone(*model, *backend, tokens, Pooling::none);
  ASSERT_EQ(rows.size(), 9 * hidden);
  const std::vector<float> first(rows.begin(), rows.begin() + testing::kTinyHidden);
  const std::vector<float> last(rows.end() - testing::kTinyHidden, rows.end());
  EXPECT_EQ(run_alone(*model, *backend, tokens, Pooling::cls), first);
  EXPECT_EQ(run_alone(*model, *backend, tokens, Pooling::last), last);
  const std::vector<float> mean = run_alone(*model, *backend, tokens, Pooling::mean);
  for (size_t i = 0; i < hidden; ++i) {
    double sum = 0.0;
    for (size_t r = 0; r < 9; ++r) sum += rows[r * hidden + i];
    EXPECT_NEAR(mean[i], sum / 9, 1e-6);
  }
}

// Row i of a float32 weight times x.
double product(const Tensor& weight, int64_t i, const std::vector<float>& x) {
  double sum = 0.0;
  for (int64_t j = 0; j < weight.dim(1); ++j)
    sum += double{weight.f32()[i * weight.dim(1) + j]} * x[static_cast<size_t>(j)];
  return sum;
}

TEST(EmbeddingFamilies, ProjectionsFollowThePool) {
  const auto backend = make_reference_backend();
  const std::vector<int32_t> tokens = random_tokens(9, 3);
  const auto checkpoint = testing::tiny_embedding_gemma();
  const auto projected = load_model(*checkpoint);
  EXPECT_EQ(projected->shape().n_embedding, 16);
  const std::vector<float> found = run_alone(*projected, *backend, tokens, Pooling::mean);
  const Tensor inner = *checkpoint->find("dense_2.weight"), outer = *checkpoint->find("dense_3.weight");
  checkpoint->remove("dense_2.weight");
  checkpoint->remove("dense_3.weight");
  const std::vector<float> pooled = run_alone(*load_model(*checkpoint), *backend, tokens, Pooling::mean);
  std::vector<float> middle;
  for (int64_t i = 0; i < inner.dim(0); ++i) middle.push_back(static_cast<float>(product(inner, i, pooled)));
  ASSERT_EQ(found.size(), 16u);
  for (int64_t i = 0; i < 16; ++i)
    EXPECT_NEAR(found[static_cast<size_t>(i)], product(outer, i, middle), 1e-5);
}

TEST(EmbeddingFamilies, TheHeadScoresTheFirstRow) {
  const auto backend = make_reference_backend();
  const std::vector<int32_t> tokens = random_tokens(9, 3);
  const auto checkpoint = testing::tiny_bert();
  const auto model = load_model(*checkpoint);
  ASSERT_EQ(model->shape().n_scores, 2);
  const std::vector<float> first = run_alone(*model, *backend, tokens, Pooling::cls);
  const std::vector<float> scores = run_alone(*model, *backend, tokens, Pooling::rank);
  ASSERT_EQ(scores.size(), 2u);
  const auto bias = [&](const char* name, int64_t i) { return double{checkpoint->find(name)->f32()[i]}; };
  std::vector<float> inner;
  for (int64_t i = 0; i < testing::kTinyHidden; ++i) {
    const double sum = product(*checkpoint->find("cls.weight"), i, first) + bias("cls.bias", i);
    inner.push_back(static_cast<float>(std::tanh(sum)));
  }
  for (int64_t i = 0; i < 2; ++i) {
    const double sum = product(*checkpoint->find("cls.output.weight"), i, inner) + bias("cls.output.bias", i);
    EXPECT_NEAR(scores[static_cast<size_t>(i)], sum, 1e-5);
  }
}

TEST(EmbeddingFamilies, SegmentsAreTold) {
  const auto backend = make_reference_backend();
  const auto checkpoint = testing::tiny_bert();
  const auto model = load_model(*checkpoint);
  const std::vector<int32_t> tokens = random_tokens(6, 3), types{0, 0, 0, 1, 1, 1}, zeros(6);
  const auto with = [&](std::span<const int32_t> segments) {
    Driver driver(*model, *backend, 1, 6);
    const Rows rows{0, tokens, segments};
    return driver.step({&rows, 1});
  };
  EXPECT_EQ(with({}), with(zeros));
  EXPECT_NE(with(types), with(zeros));
}

std::string error_of(const Checkpoint& checkpoint) {
  try {
    load_model(checkpoint);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::bad_model);
    return error.what();
  }
  return "";
}

TEST(EmbeddingFamilies, WhatIsNotImplementedIsRefused) {
  struct Case {
    std::unique_ptr<testing::MemoryCheckpoint> checkpoint;
    std::string key;
    MetaValue value;
  };
  std::vector<Case> cases;
  cases.push_back({testing::tiny_bert(), "bert.attention.causal", true});
  cases.push_back({testing::tiny_bert(), "bert.pooling_type", int64_t{5}});
  cases.push_back({testing::tiny_bert(), "bert.rope.freq_base", 10000.0});
  cases.push_back({testing::tiny_modernbert(), "modern-bert.hidden_activation", std::string_view("silu")});
  cases.push_back({testing::tiny_modernbert(), "modern-bert.rope.scaling.type", std::string_view("yarn")});
  cases.push_back({testing::tiny_embedding_gemma(), "gemma-embedding.attention.causal", true});
  cases.push_back({testing::tiny_llama(), "llama.pooling_type", int64_t{4}});
  cases.push_back({testing::tiny_phi3(), "phi3.pooling_type", int64_t{1}});
  for (Case& bad : cases) {
    bad.checkpoint->set(bad.key, bad.value);
    EXPECT_NE(error_of(*bad.checkpoint), "") << bad.key;
  }
  const auto short_table = testing::tiny_bert();
  short_table->remove("position_embd.weight");
  short_table->add_random("position_embd.weight", {63, testing::kTinyHidden});
  EXPECT_NE(error_of(*short_table).find("position_embd.weight"), std::string::npos);
  for (const char* name : {"token_types.weight", "cls.weight", "cls.output.weight"}) {
    const auto empty = testing::tiny_bert();
    empty->remove(name);
    empty->add_random(name, {0, testing::kTinyHidden});
    EXPECT_NE(error_of(*empty).find(name), std::string::npos) << name;
  }
  const auto headless = testing::tiny_modernbert();
  headless->add_random("cls.output.weight", {1, testing::kTinyHidden});
  EXPECT_NE(error_of(*headless).find("cls.output.weight"), std::string::npos);
}

}  // namespace
}  // namespace millrace
