// How far the predictions of one model are from those of another, position by position.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

// Natural logarithms of the probabilities that `logits` mean. `out` has as many.
void log_softmax(std::span<const float> logits, std::span<float> out);

struct Divergence {
  int64_t n_positions = 0;
  // Of KL(base || other), in nats.
  double mean = 0.0, mean_stderr = 0.0, median = 0.0, p99 = 0.0, max = 0.0;
  double same_top = 0.0;     // share of positions where both find the same token likeliest
  double rms_delta_p = 0.0;  // of the probability of the token that followed
  double base_perplexity = 0.0, perplexity = 0.0;
  double perplexity_ratio = 0.0;  // of the other to the base
};

class DivergenceMeter {
 public:
  // One position: log-probabilities (n_vocab) of both models, and the token that followed. What the base
  // gives less than e^-16 does not count: saved bases do not hold it.
  void add(std::span<const float> base, std::span<const float> other, int32_t followed);
  // Of all positions so far, at least one.
  Divergence result() const;

 private:
  std::vector<double> kl_;
  int64_t n_same_top_ = 0;
  double base_surprise_ = 0.0, surprise_ = 0.0, squared_delta_p_ = 0.0;
};

}  // namespace millrace
