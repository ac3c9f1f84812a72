// What is drawn by logits. Weights and the order of their sums are those of token_weights.h: another order
// would now and then draw another token.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "backend/feed_tokens.h"
#include "backend/reference/compute.h"
#include "backend/token_truncation.h"

namespace millrace::reference {

void compute(const TopLogits& op) {
  const int64_t n_vocab = op.logits.dim(1), n_top = op.top.dim(1);
  for (int64_t r = 0; r < op.logits.dim(0); ++r) {
    const float* logits = op.logits.f32() + r * n_vocab;
    int32_t* tokens = op.tokens.i32() + r * n_top;
    float* top = op.top.f32() + r * n_top;
    if (std::any_of(logits, logits + n_vocab, [](float logit) { return !(logit < INFINITY); })) {
      std::fill_n(tokens, n_top, -1);
      std::fill_n(top, n_top, INFINITY);
      continue;
    }
    std::vector<int32_t> order(static_cast<size_t>(n_vocab));
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::ranges::greater(), [&](int32_t token) { return logits[token]; });
    for (int64_t i = 0; i < n_top; ++i) {
      tokens[i] = order[static_cast<size_t>(i)];
      top[i] = logits[tokens[i]];
    }
  }
}

namespace {

struct Drawn {
  int32_t token = -1;
  double sum = 0.0;
};

Drawn draw_of_all(const float* logits, int64_t n_vocab, float max, float temperature, double uniform) {
  std::vector<float> weights(static_cast<size_t>(n_vocab));
  for (int64_t i = 0; i < n_vocab; ++i)
    weights[static_cast<size_t>(i)] = weight_of((logits[i] - max) / temperature);
  std::vector<double> sums;
  for (int64_t begin = 0; begin < n_vocab; begin += kWeightBlock) {
    double& sum = sums.emplace_back(0.0);
    for (int64_t lane = 0; lane < kWeightLanes; ++lane) {
      double of_lane = 0.0;
      for (int64_t i = begin + lane; i < std::min(n_vocab, begin + kWeightBlock); i += kWeightLanes)
        of_lane += static_cast<double>(weights[static_cast<size_t>(i)]);
      sum += of_lane;
    }
  }
  const double sum = std::accumulate(sums.begin(), sums.end(), 0.0);
  const DrawEnd block = draw_end(sums.data(), std::ssize(sums), 0.0, uniform * sum);
  const int64_t begin = block.item * kWeightBlock;
  const DrawEnd token =
      draw_end(weights.data() + begin, std::min(kWeightBlock, n_vocab - begin), block.before, uniform * sum);
  return {static_cast<int32_t>(begin + token.item), sum};
}

Drawn draw_row(const DrawTokens& op, int64_t row) {
  const int64_t n_vocab = op.logits.dim(1), n_top = op.top.dim(1);
  TopOfRow top{.tokens = op.top_tokens.i32() + row * n_top,
               .logits = op.top.f32() + row * n_top,
               .n = n_top,
               .n_vocab = n_vocab,
               .temperature = op.temperatures.f32()[row],
               .sum = 0.0};
  if (top.temperature <= 0.0f || !std::isfinite(top.logits[0])) return {};
  const Truncation truncation = truncation_of(op.truncations.f32() + 3 * row);
  const double uniform = double_of_halves(op.uniforms.i32() + 2 * row);
  const Drawn of_all =
      draw_of_all(op.logits.f32() + row * n_vocab, n_vocab, top.logits[0], top.temperature, uniform);
  if (truncation.keeps_all()) return of_all;
  if (truncation.needs_sum()) top.sum = of_all.sum;
  std::vector<Candidate> candidates(static_cast<size_t>(n_top));
  const Kept kept = truncated(top, truncation, candidates.data());
  return {token_drawn_of(candidates.data(), kept, uniform), top.sum};
}

}  // namespace

void compute(const DrawTokens& op) {
  for (int64_t r = 0; r < op.logits.dim(0); ++r) {
    const Drawn drawn = draw_row(op, r);
    op.tokens.i32()[r] = drawn.token;
    write_halves(drawn.sum, op.sums.i32() + 2 * r);
  }
}

void compute(const FeedTokens& op) { feed_tokens(op); }

}  // namespace millrace::reference
