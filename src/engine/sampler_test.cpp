// Every sampler against its formula, written down again here the slow way: full sorts in double precision.
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>

#include "backend/backend.h"
#include "backend/token_weights.h"
#include "engine/candidates.h"
#include "engine/penalties.h"
#include "engine/random.h"

namespace millrace {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Choice {
  int32_t token;
  double p;
};
using Distribution = std::vector<Choice>;  // likeliest first

std::vector<float> random_logits(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(1.0f, 3.0f);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = random() % 10 == 0 ? -kInf : normal(random);
  logits[random() % n] = 2.0f;  // at least one is there
  return logits;
}

float max_of(const std::vector<float>& logits) { return *std::ranges::max_element(logits); }

void normalise(Distribution& d) {
  double sum = 0.0;
  for (const Choice& c : d) sum += c.p;
  for (Choice& c : d) c.p /= sum;
}

Distribution softmax(const std::vector<float>& logits, double temperature) {
  Distribution d;
  const double max = max_of(logits);
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > -kInf)
      d.push_back({static_cast<int32_t>(i), std::exp((static_cast<double>(logits[i]) - max) / temperature)});
  }
  std::ranges::stable_sort(d, [](const Choice& a, const Choice& b) { return a.p > b.p; });
  normalise(d);
  return d;
}

void keep_mass(Distribution& d, double p) {
  double sum = 0.0;
  size_t n = 0;
  while (n < d.size() && (n == 0 || sum < p)) sum += d[n++].p;
  d.resize(n);
}

void typical(Distribution& d, double p) {
  double entropy = 0.0;
  for (const Choice& c : d) entropy -= c.p > 0.0 ? c.p * std::log(c.p) : 0.0;
  std::ranges::stable_sort(d, [&](const Choice& a, const Choice& b) {
    return std::fabs(-std::log(a.p) - entropy) < std::fabs(-std::log(b.p) - entropy);
  });
  keep_mass(d, p);
  std::ranges::sort(
      d, [](const Choice& a, const Choice& b) { return a.p > b.p || (a.p == b.p && a.token < b.token); });
}

void n_sigma(Distribution& d, const std::vector<float>& logits, double n) {
  double sum = 0.0, squares = 0.0, count = 0.0;
  for (const float logit : logits) {
    if (logit == -kInf) continue;
    sum += logit;
    count += 1.0;
  }
  for (const float logit : logits) {
    if (logit > -kInf) squares += (logit - sum / count) * (logit - sum / count);
  }
  const double least = max_of(logits) - n * std::sqrt(squares / count);
  const Choice best = d[0];
  std::erase_if(d, [&](const Choice& c) { return logits[static_cast<size_t>(c.token)] < least; });
  if (d.empty()) d = {best};
}

Distribution excluded(Distribution d, double threshold) {
  size_t n_above = 0;
  while (n_above < d.size() && d[n_above].p >= threshold) ++n_above;
  if (n_above >= 2) d.erase(d.begin(), d.begin() + static_cast<ptrdiff_t>(n_above) - 1);
  normalise(d);
  return d;
}

// What Sampling promises, in the order of its members.
std::map<int32_t, double> expected(const std::vector<float>& logits, const Sampling& s) {
  Distribution d = softmax(logits, s.temperature);
  if (s.top_k > 0 && d.size() > static_cast<size_t>(s.top_k)) d.resize(static_cast<size_t>(s.top_k));
  normalise(d);
  if (s.top_p < 1.0f) keep_mass(d, s.top_p);
  normalise(d);
  std::erase_if(d, [best = d[0].p, &s](const Choice& c) { return c.p < s.min_p * best; });
  normalise(d);
  if (s.typical_p < 1.0f) typical(d, s.typical_p);
  normalise(d);
  if (s.top_n_sigma > 0.0f) n_sigma(d, logits, s.top_n_sigma);
  normalise(d);
  std::map<int32_t, double> out;
  for (const Choice& c : d) out[c.token] += (1.0 - s.xtc_probability) * c.p;
  for (const Choice& c : excluded(d, s.xtc_threshold)) out[c.token] += s.xtc_probability * c.p;
  return out;
}

Sampled draw(std::vector<float> logits, const Sampling& sampling, size_t position = 1) {
  SamplerState state;
  const std::vector<int32_t> history(position, 0);
  return sample(logits, history, sampling, -1, state);
}

void expect_same(std::span<const Candidate> found, double sum, Distribution wanted, const std::string& what) {
  ASSERT_EQ(found.size(), wanted.size()) << what;
  std::vector<Candidate> sorted(found.begin(), found.end());
  std::ranges::sort(sorted, {}, &Candidate::token);
  std::ranges::sort(wanted, {}, &Choice::token);
  normalise(wanted);
  for (size_t i = 0; i < sorted.size(); ++i) {
    ASSERT_EQ(sorted[i].token, wanted[i].token) << what;
    ASSERT_NEAR(sorted[i].weight / sum, wanted[i].p, 1e-6 * wanted[i].p + 1e-12) << what;
  }
}

struct Case {
  const char* name;
  Sampling sampling;
  std::function<void(Candidates&)> cut;
  std::function<void(Distribution&)> oracle;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const float p : {0.0f, 0.1f, 0.5f, 0.9f, 0.999f}) {
    all.push_back({"top_p",
                   {.temperature = 0.7f, .top_p = p},
                   [](Candidates&) {},
                   [p](Distribution& d) { keep_mass(d, p); }});
    all.push_back({"typical",
                   {.typical_p = p},
                   [p](Candidates& c) { c.keep_typical(p); },
                   [p](Distribution& d) { typical(d, p); }});
    all.push_back({"min_p",
                   {.temperature = 2.0f, .min_p = p},
                   [](Candidates&) {},
                   [p](Distribution& d) {
                     std::erase_if(d, [best = d[0].p, p](const Choice& c) { return c.p < p * best; });
                   }});
    all.push_back({"exclude_top",
                   {},
                   [p](Candidates& c) { c.exclude_top(p / 20); },
                   [p](Distribution& d) { d = excluded(d, p / 20); }});
    all.push_back({"surprise",
                   {},
                   [p](Candidates& c) { c.keep_surprise_up_to(10 * p); },
                   [p](Distribution& d) {
                     const Choice best = d[0];
                     std::erase_if(d, [p](const Choice& c) { return -std::log2(c.p) > 10 * p; });
                     if (d.empty()) d = {best};
                   }});
  }
  for (const int32_t k : {1, 2, 40, 1000}) {
    all.push_back({"top_k",
                   {.temperature = 1.3f, .top_k = k},
                   [](Candidates&) {},
                   [k](Distribution& d) { d.resize(std::min(d.size(), static_cast<size_t>(k))); }});
    all.push_back({"likeliest",
                   {},
                   [k](Candidates& c) { c.keep_likeliest(static_cast<size_t>(k)); },
                   [k](Distribution& d) { d.resize(std::min(d.size(), static_cast<size_t>(k))); }});
  }
  return all;
}

TEST(Candidates, EveryTruncationIsItsFormula) {
  for (const Case& c : cases()) {
    for (const size_t n : {1u, 3u, 300u, 5000u}) {
      const std::vector<float> logits = random_logits(n, static_cast<uint32_t>(n) + 17);
      Candidates candidates(logits, max_of(logits), c.sampling);
      Distribution wanted = softmax(logits, c.sampling.temperature);
      c.cut(candidates);
      c.oracle(wanted);
      // All weights, where what cannot matter was left out at once.
      expect_same(candidates.list(), candidates.sum(), wanted,
                  std::string(c.name) + " of " + std::to_string(n));
    }
  }
}

// What the oracle of the ops tells of a row.
struct Told {
  Told(std::vector<float>& logits, const ShortlistWish& wish)
      : tokens(static_cast<size_t>(wish.n_top)), top(tokens.size()) {
    const auto view = [](auto& values, Dtype dtype, std::initializer_list<int64_t> dims) {
      return Tensor(values.data(), dtype, dims);
    };
    const auto backend = make_reference_backend();
    const Tensor row = view(logits, Dtype::f32, {1, std::ssize(logits)});
    const Tensor values = view(top, Dtype::f32, {1, wish.n_top});
    backend->run(
        TopLogits{.logits = row, .tokens = view(tokens, Dtype::i32, {1, wish.n_top}), .top = values});
    std::vector<float> temperature{wish.temperature};
    std::array<float, 3> truncation = numbers_of(wish.truncation);
    std::vector<int32_t> uniform(2), drawn(1), sum(2);
    write_halves(wish.uniform, uniform.data());
    backend->run(DrawTokens{.logits = row,
                            .top_tokens = view(tokens, Dtype::i32, {1, wish.n_top}),
                            .top = values,
                            .temperatures = view(temperature, Dtype::f32, {1}),
                            .truncations = view(truncation, Dtype::f32, {1, 3}),
                            .uniforms = view(uniform, Dtype::i32, {1, 2}),
                            .tokens = view(drawn, Dtype::i32, {1}),
                            .sums = view(sum, Dtype::i32, {1, 2})});
    list = {.tokens = tokens, .logits = top, .drawn = drawn[0], .sum = double_of_halves(sum.data())};
  }

  std::vector<int32_t> tokens;
  std::vector<float> top;
  Shortlist list;
};

struct Counts {
  int n_draws = 0, n_told = 0;
};

// Draws at many positions from the row and from what is told of it.
Counts expect_same_draws(std::vector<float> logits, Sampling sampling) {
  Counts counts;
  const auto n_vocab = std::ssize(logits);
  for (size_t position = 1; position <= 20; ++position) {
    sampling.seed = position;
    const ShortlistWish wish = wish_of(sampling, n_vocab, position);
    ++counts.n_draws;
    if (wish.n_top == 0) continue;
    const Told told(logits, wish);
    const std::optional<Sampled> found = sample(told.list, n_vocab, sampling, position);
    if (!found) continue;
    ++counts.n_told;
    const Sampled wanted = draw(logits, sampling, position);
    EXPECT_EQ(found->token, wanted.token) << position;
    EXPECT_EQ(found->fault, wanted.fault);
  }
  return counts;
}

// Peaked as those of a model, or flat, and many of them equal; or so close that some are equal once they are
// divided by a temperature of 10.
std::vector<std::vector<float>> rows_of_logits() {
  std::vector<std::vector<float>> rows;
  for (const size_t n : {3u, 128u, 129u, 5000u}) {
    for (const float width : {0.01f, 1.0f, 5.0f}) {
      rows.push_back(random_logits(n, static_cast<uint32_t>(n)));
      for (float& logit : rows.back()) logit *= width;
      rows.push_back(rows.back());
      for (float& logit : rows.back()) logit = std::round(logit * 8) / 8;
    }
    rows.emplace_back(n);
    for (size_t i = 1; i < n; ++i) rows.back()[i] = -7.9f + static_cast<float>(i * 7 % 16) * 0x1p-21f;
  }
  return rows;
}

TEST(Shortlist, ADrawIsThatOfTheRow) {
  const Sampling plain{};
  std::map<std::string, Sampling> all{{"plain", plain}};
  all["greedy"].temperature = 0.0f;
  all["cold"].temperature = 1e-3f;
  all["hot"].temperature = 1e5f;
  all["top_k"].top_k = 40;
  all["most top_k"].top_k = static_cast<int32_t>(kShortlist);
  all["top_p"].top_p = 0.9f;
  all["least top_p"].top_p = 0.0f;
  all["min_p"].min_p = 0.05f;
  all["warm top_k"] = {.temperature = 10.0f, .top_k = 100};
  all["warm top_k, top_p"] = {.temperature = 10.0f, .top_k = 100, .top_p = 0.7f};
  all["warm top_p"] = {.temperature = 10.0f, .top_p = 0.3f};
  all["warm min_p"] = {.temperature = 10.0f, .min_p = 0.3f};
  all["all"] = {.temperature = 0.7f, .top_k = 50, .top_p = 0.95f, .min_p = 0.02f, .typical_p = 0.9f};
  all["both"] = {.temperature = 0.7f, .top_p = 0.95f, .min_p = 0.02f};
  all["xtc"] = {.top_p = 0.8f, .xtc_probability = 0.5f};
  all["top_k, xtc"] = {.top_k = 2, .xtc_probability = 0.5f, .xtc_threshold = 0.05f};
  all["warm min_p, typical_p"] = {.temperature = 10.0f, .min_p = 0.3f, .typical_p = 0.8f};
  for (const auto& [name, sampling] : all) {
    SCOPED_TRACE(name);
    Counts sum;
    for (const std::vector<float>& logits : rows_of_logits()) {
      const auto [n_draws, n_told] = expect_same_draws(logits, sampling);
      sum.n_draws += n_draws;
      sum.n_told += n_told;
    }
    EXPECT_GT(sum.n_told, sum.n_draws / 3);
    const bool is_always_told =
        name == "plain" || name == "greedy" || name == "cold" || name == "hot" || sampling.top_k > 0;
    if (is_always_told) {
      EXPECT_EQ(sum.n_told, sum.n_draws);
    }
  }
}

TEST(Shortlist, FaultsAreThoseOfTheRow) {
  for (const float temperature : {0.0f, 1.0f}) {
    const Sampling sampling{.temperature = temperature};
    for (const auto& logits : {std::vector{1.0f, kNan, 2.0f}, {-kNan, 1.0f}, {kInf, 1.0f}, {-kInf, -kInf}})
      EXPECT_EQ(expect_same_draws(logits, sampling).n_told, 20);
  }
}

TEST(Shortlist, WhatDependsOnMoreReadsTheRow) {
  const auto reads = [](const Sampling& sampling) { return wish_of(sampling, 1000, 1).n_top == 0; };
  EXPECT_FALSE(reads({}));
  EXPECT_FALSE(reads({.temperature = 0.0f, .top_k = 500, .mirostat = 2}));
  EXPECT_TRUE(reads({.logit_bias = {{1, 2.0f}}}));
  EXPECT_TRUE(reads({.presence_penalty = 1.0f}));
  EXPECT_TRUE(reads({.dry_multiplier = 1.0f}));
  EXPECT_TRUE(reads({.top_k = static_cast<int32_t>(kShortlist) + 1}));
  EXPECT_FALSE(reads({.top_k = 1000}));
  EXPECT_TRUE(reads({.typical_p = 0.5f}));
  EXPECT_TRUE(reads({.top_n_sigma = 1.0f}));
  EXPECT_TRUE(reads({.xtc_probability = 0.5f}));
  EXPECT_TRUE(reads({.mirostat = 1}));
}

// A device that is asked for no temperature neither draws nor adds up.
TEST(Shortlist, WhatTheProgramDrawsIsNotDrawnBefore) {
  const auto wish = [](const Sampling& sampling) { return wish_of(sampling, 1000, 1); };
  for (const Sampling& sampling : {Sampling{.top_k = 20, .top_p = 0.9f, .typical_p = 0.9f},
                                   Sampling{.min_p = 0.1f, .xtc_probability = 0.5f}}) {
    EXPECT_GT(wish(sampling).n_top, 0);
    EXPECT_EQ(wish(sampling).temperature, 0.0f);
    EXPECT_FALSE(wish(sampling).is_draw);
  }
  const ShortlistWish with_sum = wish({.temperature = 0.7f, .top_p = 0.9f, .typical_p = 0.9f});
  EXPECT_EQ(with_sum.temperature, 0.7f) << "top_p is of the weights of all";
  EXPECT_FALSE(with_sum.is_draw);
}

TEST(Candidates, TiesGoToTheLowerToken) {
  const std::vector<float> logits(5000, 1.5f);
  Candidates candidates(logits, 1.5f, {.top_k = 3});
  for (int32_t i = 0; i < 3; ++i) EXPECT_EQ(candidates.list()[static_cast<size_t>(i)].token, i);
  Candidates all(logits, 1.5f, {.top_p = 0.00099f});
  ASSERT_EQ(all.list().size(), 5u);
  EXPECT_EQ(all.list()[4].token, 4);
}

TEST(Candidates, WeightsAreExponentials) {
  std::vector<float> logits;
  for (int i = 0; i <= 86000; ++i) logits.push_back(static_cast<float>(-i) * 1e-3f);
  const Candidates candidates(logits, 0.0f, {});
  ASSERT_EQ(candidates.list().size(), logits.size());
  for (const Candidate& c : candidates.list()) {
    const double wanted = std::exp(static_cast<double>(c.logit));
    ASSERT_NEAR(c.weight, wanted, wanted * 3e-7) << c.logit;
  }
  EXPECT_TRUE(Candidates(std::vector<float>{0.0f, -88.0f, -1e30f, -kInf}, 0.0f, {}).list().size() == 1);
}

// Draws a sampling of random parameters many times; the counts must fit the promised probabilities.
void expect_draws(const std::vector<float>& logits, Sampling sampling) {
  constexpr int kDraws = 3000;
  const std::map<int32_t, double> wanted = expected(logits, sampling);
  std::map<int32_t, int> counts;
  for (int i = 0; i < kDraws; ++i) {
    sampling.seed = static_cast<uint64_t>(i / 2);
    ++counts[draw(logits, sampling, 1 + static_cast<size_t>(i % 2)).token];
  }
  double chi_square = 0.0;
  for (const auto& [token, count] : counts) ASSERT_TRUE(wanted.contains(token)) << "token " << token;
  for (const auto& [token, p] : wanted) {
    const double mean = kDraws * p;
    if (mean > 5.0) chi_square += (counts[token] - mean) * (counts[token] - mean) / mean;
  }
  const auto freedom = static_cast<double>(wanted.size());
  EXPECT_LT(chi_square, freedom + 5.0 * std::sqrt(2.0 * freedom) + 5.0);
}

TEST(Sampler, DrawsWhatItPromises) {
  std::mt19937 random(11);
  const auto pick = [&](std::initializer_list<float> values) {
    return *(values.begin() + random() % values.size());
  };
  for (int i = 0; i < 60; ++i) {
    SCOPED_TRACE(i);
    expect_draws(random_logits(12, static_cast<uint32_t>(i)),
                 {.temperature = pick({0.5f, 1.0f, 2.5f}),
                  .top_k = static_cast<int32_t>(random() % 3 == 0 ? random() % 12 : 0),
                  .top_p = pick({1.0f, 1.0f, 0.9f, 0.6f}),
                  .min_p = pick({0.0f, 0.0f, 0.05f, 0.3f}),
                  .typical_p = pick({1.0f, 1.0f, 0.8f}),
                  .top_n_sigma = pick({0.0f, 0.0f, 1.0f}),
                  .xtc_probability = pick({0.0f, 0.0f, 0.4f, 1.0f}),
                  .xtc_threshold = pick({0.05f, 0.2f})});
  }
}

TEST(Sampler, GreedyTakesTheLowestOfTheBest) {
  EXPECT_EQ(draw({1, 7, 7, 3}, {.temperature = 0}).token, 1);
  EXPECT_EQ(draw({-kInf, -5, -kInf}, {.temperature = 0}).token, 1);
}

TEST(Sampler, TinyTemperaturesAreGreedy) {
  for (const float temperature : {1e-3f, 1e-20f, 1e-38f, 1e-45f}) {
    EXPECT_EQ(draw({50, 60, 70, 69}, {.temperature = temperature}).token, 2) << temperature;
    EXPECT_EQ(draw({50, 60, 70, 69}, {.temperature = temperature, .top_k = 2, .typical_p = 0.5f}).token, 2);
    EXPECT_EQ(draw({50, 60, 70, 69}, {.temperature = temperature, .top_n_sigma = 1}).token, 2);
    EXPECT_EQ(draw({50, 60, 70, 69}, {.temperature = temperature, .mirostat = 2}).token, 2);
  }
}

TEST(Sampler, WhatCannotBeDrawnIsAFault) {
  const Sampling forbids_all{.logit_bias = {{0, -kInf}, {1, -kInf}}};
  EXPECT_NE(draw({1, 2}, forbids_all).fault.find("logit_bias"), std::string::npos);
  for (const float temperature : {0.0f, 1.0f}) {
    for (const float bad : {kNan, kInf}) {
      for (const size_t at : {0u, 1u, 2u}) {
        std::vector<float> logits{1, 2, 3};
        logits[at] = bad;
        EXPECT_NE(draw(logits, {.temperature = temperature}).fault.find("NaN"), std::string::npos);
        SamplerState state;
        EXPECT_FALSE(sample(logits, {}, {.temperature = temperature}, 2, state).fault.empty());
      }
    }
    EXPECT_NE(draw({-kInf, -kInf}, {.temperature = temperature}).fault, "");
  }
}

TEST(Sampler, AForbiddenTokenIsNeverDrawn) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    EXPECT_EQ(draw({9, 1, 9}, {.logit_bias = {{0, -kInf}, {2, -kInf}}, .temperature = 3, .seed = seed}).token,
              1);
  }
}

// Where the surprise goes in the long run is what mirostat is for.
TEST(Sampler, MirostatHoldsTheSurprise) {
  for (const int version : {1, 2}) {
    for (const float tau : {3.5f, 5.0f}) {
      SamplerState state;
      std::vector<int32_t> history{0};
      double surprise = 0.0;
      constexpr int kSteps = 1500;
      for (int i = 0; i < kSteps; ++i) {
        std::vector<float> logits = random_logits(2000, static_cast<uint32_t>(i));
        const Distribution d = softmax(logits, 1.0);
        const Sampling sampling{.mirostat = version, .mirostat_tau = tau, .seed = 3};
        const int32_t token = sample(logits, history, sampling, -1, state).token;
        surprise -= std::log2(std::ranges::find(d, token, &Choice::token)->p) / kSteps;
        history.push_back(token);
      }
      EXPECT_NEAR(surprise, tau, 0.1) << "mirostat " << version;
    }
  }
}

TEST(Sampler, LogprobsAreTheModelsOwn) {
  std::vector<float> logits = random_logits(500, 5);
  const Distribution d = softmax(logits, 1.0);
  SamplerState state;
  const Sampling sampling{.logit_bias = {{3, 100.0f}}, .temperature = 0.2f, .top_k = 2};
  const double wanted = std::log(std::ranges::find(d, 3, &Choice::token)->p);
  const Sampled sampled = sample(logits, std::vector<int32_t>{1}, sampling, 4, state);
  EXPECT_EQ(sampled.token, 3);
  ASSERT_TRUE(sampled.logprobs);
  EXPECT_NEAR(sampled.logprobs->chosen, wanted, 1e-5);
  ASSERT_EQ(sampled.logprobs->best.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(sampled.logprobs->best[i].first, d[i].token);
    EXPECT_NEAR(sampled.logprobs->best[i].second, std::log(d[i].p), 1e-5);
  }
}

TEST(Sampler, LogprobsOfTheWholeVocabularyAreSorted) {
  std::vector<float> logits{1, 3, 2};
  SamplerState state;
  const Sampled all = sample(logits, std::vector<int32_t>{1}, {}, 3, state);
  EXPECT_EQ(all.logprobs->best.size(), 3u);
  EXPECT_EQ(all.logprobs->best[0].first, 1);
  EXPECT_EQ(all.logprobs->best[2].first, 0);
  logits = {1, 3, 2};
  EXPECT_TRUE(sample(logits, std::vector<int32_t>{1}, {}, 0, state).logprobs->best.empty());
}

TEST(Random, IsUniformAndWithoutMemory) {
  std::vector<int> bins(64, 0);
  double sum = 0.0, product = 0.0;
  constexpr int kDraws = 64000;
  for (uint64_t i = 0; i < kDraws; ++i) {
    const double u = uniform(i / 1000, i % 1000, 0), next = uniform(i / 1000, i % 1000 + 1, 0);
    ++bins[static_cast<size_t>(u * 64)];
    sum += u;
    product += (u - 0.5) * (next - 0.5);
  }
  double chi_square = 0.0;
  for (const int n : bins) chi_square += (n - 1000.0) * (n - 1000.0) / 1000.0;
  EXPECT_LT(chi_square, 130.0);  // 63 degrees of freedom: one in a million
  EXPECT_NEAR(sum / kDraws, 0.5, 0.006);
  EXPECT_NEAR(product / kDraws, 0.0, 0.002);
  EXPECT_EQ(uniform(1, 2, 0), uniform(1, 2, 0));
  EXPECT_NE(uniform(1, 2, 0), uniform(1, 2, 1));
}

TEST(Penalties, AreTheirFormulas) {
  std::mt19937 random(2);
  for (const int32_t last_n : {-1, 0, 5, 1000}) {
    const Sampling s{.repetition_penalty = 1.4f,
                     .presence_penalty = 0.3f,
                     .frequency_penalty = -0.2f,
                     .penalty_last_n = last_n};
    std::vector<float> logits = random_logits(20, 9), found = logits;
    std::vector<int32_t> history(40);
    for (int32_t& token : history) token = static_cast<int32_t>(random() % 20);
    apply_penalties(found, history, s);
    const size_t n = last_n < 0 ? history.size() : std::min(history.size(), static_cast<size_t>(last_n));
    for (int32_t token = 0; token < 20; ++token) {
      float wanted = logits[static_cast<size_t>(token)];
      const auto count =
          static_cast<float>(std::count(history.end() - static_cast<ptrdiff_t>(n), history.end(), token));
      if (count > 0) wanted = (wanted > 0 ? wanted / 1.4f : wanted * 1.4f) - (0.3f + -0.2f * count);
      EXPECT_EQ(found[static_cast<size_t>(token)], wanted) << token;
    }
  }
}

// For each earlier place the longest repetition that ends before it, found by comparing backwards.
std::map<int32_t, size_t> naive_repeats(const std::vector<int32_t>& h,
                                        const std::vector<std::vector<int32_t>>& breakers) {
  size_t longest = h.size();
  for (const auto& breaker : breakers) {
    for (size_t end = breaker.size(); end <= h.size(); ++end) {
      if (std::equal(breaker.begin(), breaker.end(),
                     h.begin() + static_cast<ptrdiff_t>(end - breaker.size())))
        longest = std::min(longest, h.size() - end);
    }
  }
  std::map<int32_t, size_t> repeats;
  for (size_t next = 1; next < h.size(); ++next) {
    size_t length = 0;
    while (length < longest && length < next && h[next - 1 - length] == h[h.size() - 1 - length]) ++length;
    repeats[h[next]] = std::max(repeats[h[next]], length);
  }
  return repeats;
}

TEST(Dry, IsItsFormula) {
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    Sampling s{.dry_multiplier = 0.8f,
               .dry_base = 1.75f,
               .dry_allowed_length = 1 + static_cast<int32_t>(random() % 3)};
    if (round % 3 == 0) s.dry_breakers = {{2}, {0, 1}};
    std::vector<int32_t> history(random() % 40);
    for (int32_t& token : history) token = static_cast<int32_t>(random() % 3);
    std::vector<float> logits(3, 5.0f);
    apply_dry(logits, history, s);
    std::map<int32_t, size_t> repeats = naive_repeats(history, s.dry_breakers);
    for (int32_t token = 0; token < 3; ++token) {
      const int length = static_cast<int>(repeats[token]);
      const bool is_free = length < s.dry_allowed_length || (round % 3 == 0 && token == 2);
      const double penalty = is_free ? 0.0 : 0.8f * std::pow(1.75, length - s.dry_allowed_length);
      EXPECT_NEAR(logits[static_cast<size_t>(token)], 5.0 - penalty, 1e-5 * (1.0 + penalty))
          << "round " << round;
    }
  }
}

TEST(Dry, ALongRepetitionIsNoInfinity) {
  std::vector<float> logits{1.0f, 2.0f};
  apply_dry(logits, std::vector<int32_t>(5000, 0), {.dry_multiplier = 1e6f, .dry_base = 1e6f});
  EXPECT_TRUE(std::isfinite(logits[0]));
  EXPECT_EQ(logits[1], 2.0f);
}

TEST(FindFault, NamesTheField) {
  const std::pair<const char*, std::function<void(Sampling&, float)>> fields[] = {
      {"repetition_penalty", [](Sampling& s, float v) { s.repetition_penalty = v; }},
      {"presence_penalty", [](Sampling& s, float v) { s.presence_penalty = v; }},
      {"frequency_penalty", [](Sampling& s, float v) { s.frequency_penalty = v; }},
      {"dry_multiplier", [](Sampling& s, float v) { s.dry_multiplier = v; }},
      {"dry_base", [](Sampling& s, float v) { s.dry_base = v; }},
      {"temperature", [](Sampling& s, float v) { s.temperature = v; }},
      {"top_p", [](Sampling& s, float v) { s.top_p = v; }},
      {"min_p", [](Sampling& s, float v) { s.min_p = v; }},
      {"typical_p", [](Sampling& s, float v) { s.typical_p = v; }},
      {"top_n_sigma", [](Sampling& s, float v) { s.top_n_sigma = v; }},
      {"xtc_probability", [](Sampling& s, float v) { s.xtc_probability = v; }},
      {"xtc_threshold", [](Sampling& s, float v) { s.xtc_threshold = v; }},
      {"mirostat_tau", [](Sampling& s, float v) { s.mirostat_tau = v; }},
      {"mirostat_eta", [](Sampling& s, float v) { s.mirostat_eta = v; }},
      {"logit_bias",
       [](Sampling& s, float v) {
         s.logit_bias = {{1, v}};
       }},
  };
  for (const auto& [name, set] : fields) {
    for (const float bad : {kNan, kInf, 1e30f}) {
      Sampling sampling;
      set(sampling, bad);
      const std::optional<std::string> fault = find_fault(sampling, 10);
      ASSERT_TRUE(fault) << name << " = " << bad;
      EXPECT_NE(fault->find(name), std::string::npos) << *fault;
    }
  }
}

TEST(FindFault, KnowsTheBounds) {
  const auto is_refused = [](const Sampling& s) { return find_fault(s, 10).has_value(); };
  EXPECT_FALSE(is_refused({}));
  EXPECT_FALSE(is_refused({.logit_bias = {{9, -kInf}}, .temperature = 0.0f, .top_p = 0.0f}));
  EXPECT_TRUE(is_refused({.logit_bias = {{10, 1.0f}}}));
  EXPECT_TRUE(is_refused({.logit_bias = {{-1, 1.0f}}}));
  EXPECT_TRUE(is_refused({.logit_bias = std::vector<std::pair<int32_t, float>>(11, {1, 1.0f})}));
  EXPECT_TRUE(is_refused({.repetition_penalty = 0.0f}));
  EXPECT_TRUE(is_refused({.penalty_last_n = -2}));
  EXPECT_TRUE(is_refused({.dry_base = 0.5f}));
  EXPECT_TRUE(is_refused({.dry_allowed_length = 0}));
  EXPECT_TRUE(is_refused({.dry_last_n = -2}));
  EXPECT_TRUE(is_refused({.dry_breakers = {{}}}));
  EXPECT_TRUE(is_refused({.dry_breakers = {std::vector<int32_t>(33, 1)}}));
  EXPECT_TRUE(is_refused({.dry_breakers = std::vector<std::vector<int32_t>>(65, {1})}));
  EXPECT_TRUE(is_refused({.temperature = -0.1f}));
  EXPECT_TRUE(is_refused({.top_k = -1}));
  EXPECT_TRUE(is_refused({.top_p = 1.1f}));
  EXPECT_TRUE(is_refused({.min_p = -0.1f}));
  EXPECT_TRUE(is_refused({.mirostat = 3}));
  EXPECT_TRUE(is_refused({.mirostat = -1}));
}

}  // namespace
}  // namespace millrace
