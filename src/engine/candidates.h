// The tokens that may still be drawn, as the truncations leave them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

struct Candidate {
  int32_t token;
  float logit;
  double probability;  // among the candidates there were at the last normalise()
};

// Every truncation keeps at least one candidate. Ties are broken by the lower token.
class Candidates {
 public:
  explicit Candidates(std::span<const float> logits);

  void divide_by_temperature(float temperature);
  void keep_top_k(int32_t k);
  // The fewest most likely ones whose probabilities sum to p (Holtzman et al. 2020).
  void keep_top_p(float p);
  // Those at least `share` as likely as the most likely one (Nguyen et al. 2024).
  void keep_min_p(float share);
  // The fewest whose surprise is nearest to the entropy and whose probabilities sum to p (Meister et al.
  // 2023).
  void keep_typical(float p);
  // Logits of at least max - n * (their standard deviation) (Tang et al. 2024).
  void keep_top_n_sigma(float n);
  // All above the threshold but the least likely of them leave ("exclude top choices").
  void exclude_top(float threshold);
  // Those whose surprise in bits is at most mu, mirostat 2 (Basu et al. 2021).
  void keep_surprise_up_to(float mu);

  // The candidate at `u` in [0, 1) of the cumulated probabilities.
  const Candidate& draw(double u);
  int64_t size() const { return static_cast<int64_t>(all_.size()); }
  // Sorted by probability, normalised.
  std::span<const Candidate> sorted();

 private:
  void normalise();
  // Puts the n most likely first, in order.
  void sort_first(size_t n);

  std::vector<Candidate> all_;
  size_t n_sorted_ = 0;  // that many at the front are the most likely ones, in order
};

}  // namespace millrace
