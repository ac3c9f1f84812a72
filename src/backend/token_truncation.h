// What top_k, top_p and min_p leave of a row of logits, as far as its largest ones tell. Plain operations in
// one order, like those of token_weights.h: a token is the same wherever it is drawn.
#pragma once

#include <algorithm>
#include <array>
#include <limits>

#include "backend/token_weights.h"

namespace millrace {

struct Candidate {
  int32_t token;
  float logit;   // (logit - the largest of all) / temperature, at most 0
  float weight;  // exp(logit); divided by the sum of all it is the probability
};

constexpr bool is_likelier(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// In this order: the top_k likeliest tokens (Fan et al. 2018), of those the fewest likeliest ones whose
// probabilities sum to top_p (Holtzman et al. 2020), of those the ones at least min_p times as likely as the
// likeliest one (Nguyen et al. 2024).
struct Truncation {
  int32_t top_k = 0;  // below n_vocab; 0: all
  float top_p = 1.0f, min_p = 0.0f;

  constexpr bool keeps_all() const { return top_k == 0 && top_p >= 1.0f && min_p <= 0.0f; }
  // Of the weights of all tokens.
  constexpr bool needs_sum() const { return top_k == 0 && (top_p < 1.0f || min_p <= 0.0f); }
  // All tokens with a probability below (1 - p) / n have less than 1 - p together: top_p does not reach them.
  constexpr float least_weight(double sum, int64_t n_vocab) const {
    const double by_top_p = (1.0 - static_cast<double>(top_p)) / static_cast<double>(n_vocab) * sum;
    const auto by_min_p = static_cast<double>(min_p);
    return static_cast<float>((by_top_p > by_min_p ? by_top_p : by_min_p) * 0.999);  // rounding
  }
  // The order in which candidates are added up, which without top_p the top_k likeliest have already.
  constexpr bool has_order() const { return top_k > 0 && top_p >= 1.0f; }
  constexpr bool is_before(const Candidate& a, const Candidate& b) const {
    return top_p < 1.0f ? is_likelier(a, b) : a.token < b.token;
  }
};

// In tensors.
constexpr std::array<float, 3> numbers_of(const Truncation& truncation) {
  return {static_cast<float>(truncation.top_k), truncation.top_p, truncation.min_p};
}
constexpr Truncation truncation_of(const float* numbers) {
  return {static_cast<int32_t>(numbers[0]), numbers[1], numbers[2]};
}

// The largest logits of a row.
struct TopOfRow {
  const int32_t* tokens;  // (n), as TopLogits gives them
  const float* logits;
  int64_t n, n_vocab;
  float temperature;  // above 0
  double sum;         // of the weights of all tokens, where it is needed

  // Those that a truncation leaves at most; 0 where it wants more than there are.
  constexpr int64_t n_candidates(const Truncation& truncation) const {
    return truncation.top_k == 0 ? n : truncation.top_k <= n ? truncation.top_k : 0;
  }
  constexpr Candidate candidate(int64_t i) const {
    const float logit = (logits[i] - logits[0]) / temperature;
    return {tokens[i], logit, weight_of(logit)};
  }
};

// What is left: the first n candidates. 0 where more of the row would have to be known.
struct Kept {
  int64_t n = 0;
  double sum = 0.0;  // of their weights
};

// Truncates top.n_candidates() of them, in order.
constexpr Kept truncate(Candidate* candidates, const TopOfRow& top, const Truncation& truncation) {
  const bool is_of_k = truncation.top_k > 0;
  const int64_t n = top.n_candidates(truncation);
  if (n == 0) return {};
  double sum = is_of_k ? 0.0 : top.sum;
  for (int64_t i = 0; is_of_k && i < n; ++i) sum += static_cast<double>(candidates[i].weight);
  const float least = is_of_k ? 0.0f : truncation.least_weight(sum, top.n_vocab);
  // Whoever is not among the largest is no likelier than their last, whose weight may be off by an ulp.
  const Candidate last = top.candidate(n - 1);
  const bool has_all = is_of_k || n == top.n_vocab || last.weight == 0.0f || last.weight < 0.999f * least;
  const double wanted = truncation.top_p < 1.0f ? static_cast<double>(truncation.top_p) * sum
                                                : std::numeric_limits<double>::infinity();
  Kept kept;
  double mass = 0.0;
  float logit = 0.0f;
  for (int64_t i = 0; i < n; ++i) {
    const Candidate each = candidates[i];
    if (each.weight <= 0.0f || each.weight < least) continue;
    mass += static_cast<double>(each.weight);
    logit = each.logit;
    if (each.weight >= truncation.min_p) {  // the likeliest weighs 1
      candidates[kept.n++] = each;
      kept.sum += static_cast<double>(each.weight);
    }
    if (mass >= wanted) break;
  }
  return has_all || (mass >= wanted && logit > last.logit) ? kept : Kept{};
}

// All of that in the program; `candidates` has room for top.n.
inline Kept truncated(const TopOfRow& top, const Truncation& truncation, Candidate* candidates) {
  const int64_t n = top.n_candidates(truncation);
  for (int64_t i = 0; i < n; ++i) candidates[i] = top.candidate(i);
  const auto is_before = [&](const Candidate& a, const Candidate& b) { return truncation.is_before(a, b); };
  if (!truncation.has_order()) std::sort(candidates, candidates + n, is_before);
  return truncate(candidates, top, truncation);
}

// Which of n candidates is at `u` in [0, 1) of their cumulated probabilities.
constexpr int64_t drawn_of(const Candidate* candidates, const Kept& kept, double u) {
  const double target = u * kept.sum;
  double sum = 0.0;
  for (int64_t i = 0; i < kept.n; ++i) {
    sum += static_cast<double>(candidates[i].weight);
    if (target < sum) return i;
  }
  return kept.n - 1;  // the weights were added up in another order to a little more
}
// Its token; -1 where none is left.
constexpr int32_t token_drawn_of(const Candidate* candidates, const Kept& kept, double u) {
  return kept.n > 0 ? candidates[drawn_of(candidates, kept, u)].token : -1;
}

}  // namespace millrace
