#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/candidates.h"
#include "engine/penalties.h"
#include "engine/random.h"

namespace millrace {
namespace {

// Which draw of a position is for what.
constexpr uint64_t kTokenDraw = 0, kXtcDraw = 1;

struct Bounds {
  const char* name;
  double value, min, max;
};

int32_t greedy(std::span<const float> logits) {
  size_t best = 0;
  for (size_t i = 1; i < logits.size(); ++i) {
    if (logits[i] > logits[best] || std::isnan(logits[best])) best = i;
  }
  return static_cast<int32_t>(best);
}

double log_sum_exp(std::span<const float> logits) {
  const double max = *std::ranges::max_element(logits);
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  return max + std::log(sum);
}

// The n likeliest tokens with their log-probabilities; `chosen` is filled in after the draw.
TokenLogprobs best_logprobs(std::span<const float> logits, double log_sum, int n) {
  TokenLogprobs out;
  if (n == 0) return out;
  Candidates candidates(logits);
  candidates.keep_top_k(n);
  for (const Candidate& c : candidates.sorted()) {
    out.best.emplace_back(c.token, static_cast<float>(static_cast<double>(c.logit) - log_sum));
  }
  return out;
}

// Mirostat 1 estimates the exponent s of Zipf's law from the likeliest tokens and cuts at the k that gives
// the wanted surprise (Basu et al. 2021, algorithm 1).
int32_t mirostat_k(std::span<const Candidate> likeliest_first, float mu) {
  constexpr size_t kEstimateFrom = 100;
  double sum_tb = 0.0, sum_tt = 0.0;
  for (size_t i = 0; i + 1 < std::min(kEstimateFrom, likeliest_first.size()); ++i) {
    const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    const double b = std::log(likeliest_first[i].probability / likeliest_first[i + 1].probability);
    sum_tb += t * b;
    sum_tt += t * t;
  }
  const double s = sum_tt > 0.0 ? sum_tb / sum_tt : 1.0;
  const double epsilon = s - 1.0;
  const auto n = static_cast<double>(likeliest_first.size());
  const double k = std::pow(epsilon * std::exp2(mu) / (1.0 - std::pow(n, -epsilon)), 1.0 / s);
  return std::isfinite(k) ? static_cast<int32_t>(std::clamp(k, 1.0, n)) : 1;
}

int32_t draw_mirostat(Candidates& candidates, const Sampling& sampling, double u, SamplerState& state) {
  if (state.mirostat_mu < 0.0f) state.mirostat_mu = 2.0f * sampling.mirostat_tau;
  if (sampling.mirostat == 1) {
    candidates.keep_top_k(mirostat_k(candidates.sorted(), state.mirostat_mu));
  } else {
    candidates.keep_surprise_up_to(state.mirostat_mu);
  }
  const Candidate& drawn = candidates.draw(u);
  const auto surprise = static_cast<float>(-std::log2(drawn.probability));
  state.mirostat_mu =
      std::max(0.0f, state.mirostat_mu - sampling.mirostat_eta * (surprise - sampling.mirostat_tau));
  return drawn.token;
}

int32_t draw(std::span<const float> logits, const Sampling& sampling, uint64_t position,
             SamplerState& state) {
  if (sampling.temperature == 0.0f) return greedy(logits);
  Candidates candidates(logits);
  candidates.divide_by_temperature(sampling.temperature);
  const double u = uniform(sampling.seed, position, kTokenDraw);
  if (sampling.mirostat != 0) return draw_mirostat(candidates, sampling, u, state);
  candidates.keep_top_n_sigma(sampling.top_n_sigma);
  candidates.keep_top_k(sampling.top_k);
  candidates.keep_typical(sampling.typical_p);
  candidates.keep_top_p(sampling.top_p);
  candidates.keep_min_p(sampling.min_p);
  if (sampling.xtc_probability > 0.0f &&
      uniform(sampling.seed, position, kXtcDraw) < sampling.xtc_probability) {
    candidates.exclude_top(sampling.xtc_threshold);
  }
  return candidates.draw(u).token;
}

}  // namespace

std::optional<std::string> find_fault(const Sampling& s, int64_t n_vocab) {
  constexpr double kBig = 1e6;
  const Bounds bounds[] = {
      {"repetition_penalty", s.repetition_penalty, 1e-3, kBig},
      {"presence_penalty", s.presence_penalty, -kBig, kBig},
      {"frequency_penalty", s.frequency_penalty, -kBig, kBig},
      {"penalty_last_n", static_cast<double>(s.penalty_last_n), -1, INT32_MAX},
      {"dry_multiplier", s.dry_multiplier, 0, kBig},
      {"dry_base", s.dry_base, 1, kBig},
      {"dry_allowed_length", static_cast<double>(s.dry_allowed_length), 1, INT32_MAX},
      {"dry_last_n", static_cast<double>(s.dry_last_n), -1, INT32_MAX},
      {"temperature", s.temperature, 0, kBig},
      {"top_k", static_cast<double>(s.top_k), 0, INT32_MAX},
      {"top_p", s.top_p, 0, 1},
      {"min_p", s.min_p, 0, 1},
      {"typical_p", s.typical_p, 0, 1},
      {"top_n_sigma", s.top_n_sigma, 0, kBig},
      {"xtc_probability", s.xtc_probability, 0, 1},
      {"xtc_threshold", s.xtc_threshold, 0, 1},
      {"mirostat", static_cast<double>(s.mirostat), 0, 2},
      {"mirostat_tau", s.mirostat_tau, 0, kBig},
      {"mirostat_eta", s.mirostat_eta, 0, kBig},
  };
  for (const auto& [name, value, min, max] : bounds) {
    if (!(value >= min && value <= max))
      return fmt::format("{} is {}, expected a value from {} to {}", name, value, min, max);
  }
  for (const auto& [token, bias] : s.logit_bias) {
    if (token < 0 || token >= n_vocab)
      return fmt::format("logit_bias names token {}, the vocabulary has {}", token, n_vocab);
    if (!(bias < kBig))
      return fmt::format("logit_bias of token {} is {}, expected at most {}", token, bias, kBig);
  }
  return std::nullopt;
}

Sampled sample(std::span<float> logits, std::span<const int32_t> history, const Sampling& sampling,
               int n_logprobs, SamplerState& state) {
  Sampled out;
  std::vector<float> raw;  // as the model gave them, where log-probabilities are wanted
  double log_sum = 0.0;
  if (n_logprobs >= 0) {
    raw.assign(logits.begin(), logits.end());
    log_sum = log_sum_exp(raw);
    out.logprobs = best_logprobs(raw, log_sum, n_logprobs);
  }
  for (const auto& [token, bias] : sampling.logit_bias) logits[static_cast<size_t>(token)] += bias;
  apply_penalties(logits, history, sampling);
  apply_dry(logits, history, sampling);
  out.token = draw(logits, sampling, history.size(), state);
  if (out.logprobs) {
    out.logprobs->chosen =
        static_cast<float>(static_cast<double>(raw[static_cast<size_t>(out.token)]) - log_sum);
  }
  return out;
}

}  // namespace millrace
