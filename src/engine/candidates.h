// The tokens that may still be drawn, as the truncations leave them.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/request.h"
#include "engine/shortlist.h"

namespace millrace {

// What of it the largest logits of a row may tell.
inline Truncation truncation_of(const Sampling& sampling, int64_t n_vocab) {
  return {.top_k = sampling.top_k < n_vocab ? sampling.top_k : 0,
          .top_p = sampling.top_p,
          .min_p = sampling.min_p};
}

// The sum of exp(logit - max): max + its logarithm turns logits into log-probabilities.
double sum_of_exp(std::span<const float> logits, float max);

// The token at `u` in [0, 1) of the cumulated weights of all, as DrawTokens draws it. `max` is finite.
int32_t draw_from_all(std::span<const float> logits, float max, float temperature, double u);

// Listed by token, or likeliest first: which one depends on the truncations alone. Every truncation keeps at
// least one. Of equally likely tokens the lower one comes first.
class Candidates {
 public:
  // The tokens of `logits`, which are finite or -inf, the largest being `max`, at sampling.temperature (above
  // 0), as truncation_of() leaves them.
  Candidates(std::span<const float> logits, float max, const Sampling& sampling);
  // The same ones in the same order, from a shortlist of those logits; nothing where it does not tell them.
  static std::optional<Candidates> of(const Shortlist& shortlist, int64_t n_vocab, const Sampling& sampling);

  // The fewest whose surprise is nearest to the entropy and whose probabilities sum to p (Meister et al.
  // 2023).
  void keep_typical(float p);
  // Those with a logit of at least `least`.
  void keep_logit_from(double least);
  // All whose probability is at least `threshold` leave, but for the least likely of them ("exclude top
  // choices", p-e-w 2024).
  void exclude_top(float threshold);
  // Those whose surprise is at most `bits`.
  void keep_surprise_up_to(float bits);
  // The n likeliest, likeliest first.
  std::span<const Candidate> keep_likeliest(size_t n);
  // Puts the n likeliest first and returns them. Only before keep_likeliest(): the rest is in no order.
  std::span<const Candidate> sort_likeliest(size_t n);

  // The candidate at `u` in [0, 1) of the cumulated probabilities.
  const Candidate& draw(double u) const;
  std::span<const Candidate> list() const { return list_; }
  double sum() const { return sum_; }

 private:
  Candidates(float max, float temperature) : max_(max), temperature_(temperature) {}

  void weigh_list();
  void keep_top_p(float p);
  void keep_min_p(float share);
  void take_likeliest(std::span<const float> logits, size_t k);
  void take_all(std::span<const float> logits, const Sampling& sampling);
  template <class Predicate>
  void keep_if(Predicate is_kept);
  void add_up();

  float max_;
  float temperature_;
  std::vector<Candidate> list_;
  double sum_ = 0.0;  // of the weights
};

}  // namespace millrace
