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

constexpr std::string_view kUnsound = "the model gave logits that are NaN or infinite";
constexpr std::string_view kForbidden = "every token is forbidden by logit_bias or by the grammar";

struct Bounds {
  const char* name;
  double value, min, max;
};

// The likeliest token. None where no choice can be made: a logit is NaN or infinite, or all are forbidden.
struct Peak {
  int32_t token = -1;
  float logit = -INFINITY;
};

Peak peak_of(std::span<const float> logits) {
  Peak peak;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] <= peak.logit) continue;
    if (!(logits[i] < INFINITY)) return {};
    peak = {static_cast<int32_t>(i), logits[i]};
  }
  return peak;
}

// The model's own distribution: the n likeliest tokens, and what turns any logit into a log-probability.
struct OwnDistribution {
  std::vector<float> logits;
  double log_sum;
  TokenLogprobs likeliest;

  float logprob(int32_t token) const {
    return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token)]) - log_sum);
  }
  TokenLogprobs of(int32_t token) && {
    const float chosen = logits[static_cast<size_t>(token)];
    likeliest.chosen = logprob(token);
    likeliest.rank =
        static_cast<int32_t>(1 + std::ranges::count_if(logits, [&](float other) { return other > chosen; }));
    return std::move(likeliest);
  }
};

OwnDistribution own_distribution(std::span<const float> logits, float max, int n) {
  OwnDistribution own{.logits = {logits.begin(), logits.end()},
                      .log_sum = static_cast<double>(max) + std::log(sum_of_exp(logits, max)),
                      .likeliest = {}};
  if (n == 0) return own;
  Candidates candidates(logits, max, {.top_k = n});
  for (const Candidate& c : candidates.sort_likeliest(static_cast<size_t>(n)))
    own.likeliest.best.emplace_back(c.token, own.logprob(c.token));
  return own;
}

// max - n standard deviations of all logits that are not forbidden (Tang et al. 2024), on the scale of
// Candidate.
double least_within_sigmas(std::span<const float> logits, float max, const Sampling& sampling) {
  double sum = 0.0, squares = 0.0, n = 0.0;
  for (const float logit : logits) {
    if (logit == -INFINITY) continue;
    const double below = static_cast<double>(logit) - static_cast<double>(max);
    sum += below;
    squares += below * below;
    n += 1.0;
  }
  const double variance = std::max(0.0, squares / n - sum / n * (sum / n));
  return -static_cast<double>(sampling.top_n_sigma) * std::sqrt(variance) / sampling.temperature;
}

// Mirostat 1 estimates the exponent s of Zipf's law from the likeliest tokens and cuts at the k that gives
// the wanted surprise (Basu et al. 2021, algorithm 1).
size_t mirostat_k(std::span<const Candidate> likeliest_first, size_t n_vocab, float mu) {
  double sum_tb = 0.0, sum_tt = 0.0;
  for (size_t i = 0; i + 1 < likeliest_first.size(); ++i) {
    const double t = std::log(static_cast<double>(i + 2) / static_cast<double>(i + 1));
    const double b =
        static_cast<double>(likeliest_first[i].logit) - static_cast<double>(likeliest_first[i + 1].logit);
    sum_tb += t * b;
    sum_tt += t * t;
  }
  const double s = sum_tt > 0.0 ? sum_tb / sum_tt : 1.0;
  const double epsilon = s - 1.0;
  const auto n = static_cast<double>(n_vocab);
  const double k = std::pow(epsilon * std::exp2(mu) / (1.0 - std::pow(n, -epsilon)), 1.0 / s);
  return std::isfinite(k) ? static_cast<size_t>(std::clamp(std::round(k), 1.0, n)) : 1;
}

// Surprise is of the distribution before the cut, as in the paper.
int32_t draw_mirostat(std::span<const float> logits, float max, const Sampling& sampling, double u,
                      SamplerState& state) {
  constexpr size_t kEstimateFrom = 100;  // as in the authors' code
  Candidates candidates(logits, max, {.temperature = sampling.temperature});
  const double sum = candidates.sum();
  float& mu =
      state.mirostat_mu ? *state.mirostat_mu : state.mirostat_mu.emplace(2.0f * sampling.mirostat_tau);
  if (sampling.mirostat == 1) {
    const size_t k = mirostat_k(candidates.sort_likeliest(kEstimateFrom), logits.size(), mu);
    candidates.keep_likeliest(k);
  } else {
    candidates.keep_surprise_up_to(mu);
  }
  const Candidate& drawn = candidates.draw(u);
  const auto surprise = static_cast<float>(std::log2(sum / drawn.weight));
  mu -= sampling.mirostat_eta * (surprise - sampling.mirostat_tau);
  return drawn.token;
}

// Beyond what a Truncation says.
bool is_truncated_further(const Sampling& sampling) {
  return sampling.typical_p < 1.0f || sampling.top_n_sigma > 0.0f || sampling.xtc_probability > 0.0f;
}

bool keeps_all(const Sampling& sampling, int64_t n_vocab) {
  return truncation_of(sampling, n_vocab).keeps_all() && !is_truncated_further(sampling);
}

// `least`: of the logits, on the scale of Candidate.
int32_t draw(Candidates candidates, std::optional<double> least, const Sampling& sampling, size_t position) {
  candidates.keep_typical(sampling.typical_p);
  if (least) candidates.keep_logit_from(*least);
  if (sampling.xtc_probability > 0.0f &&
      uniform(sampling.seed, position, kXtcDraw) < sampling.xtc_probability) {
    candidates.exclude_top(sampling.xtc_threshold);
  }
  return candidates.draw(uniform(sampling.seed, position, kTokenDraw)).token;
}

int32_t draw(std::span<const float> logits, float max, const Sampling& sampling, size_t position,
             SamplerState& state) {
  const double u = uniform(sampling.seed, position, kTokenDraw);
  if (sampling.mirostat != 0) return draw_mirostat(logits, max, sampling, u, state);
  if (keeps_all(sampling, std::ssize(logits))) return draw_from_all(logits, max, sampling.temperature, u);
  std::optional<double> least;
  if (sampling.top_n_sigma > 0.0f) least = least_within_sigmas(logits, max, sampling);
  return draw(Candidates(logits, max, sampling), least, sampling, position);
}

void forbid_all_but(std::span<float> logits, std::span<const uint64_t> allowed) {
  for (size_t begin = 0; begin < logits.size(); begin += 64) {
    const uint64_t bits = begin / 64 < allowed.size() ? allowed[begin / 64] : 0;
    if (bits == ~uint64_t{0}) continue;
    const size_t n = std::min<size_t>(64, logits.size() - begin);
    for (size_t i = 0; i < n; ++i)
      if ((bits >> i & 1) == 0) logits[begin + i] = -INFINITY;
  }
}

std::string fault_of_breakers(const std::vector<std::vector<int32_t>>& breakers) {
  // Each is searched for at every token of the answer.
  constexpr size_t kMaxBreakers = 64, kMaxLength = 32;
  if (breakers.size() > kMaxBreakers)
    return fmt::format("dry_breakers has {} sequences, expected at most {}", breakers.size(), kMaxBreakers);
  for (const std::vector<int32_t>& breaker : breakers) {
    if (breaker.empty() || breaker.size() > kMaxLength)
      return fmt::format("dry_breakers has a sequence of {} tokens, expected 1 to {}", breaker.size(),
                         kMaxLength);
  }
  return {};
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
  if (s.logit_bias.size() > static_cast<size_t>(n_vocab))
    return fmt::format("logit_bias has {} entries, the vocabulary {}", s.logit_bias.size(), n_vocab);
  if (std::string fault = fault_of_breakers(s.dry_breakers); !fault.empty()) return fault;
  return std::nullopt;
}

Sampled sample(std::span<float> logits, std::span<const int32_t> history, const Sampling& sampling,
               int n_logprobs, SamplerState& state) {
  std::optional<OwnDistribution> own;
  if (n_logprobs >= 0) {
    const Peak peak = peak_of(logits);
    if (peak.token < 0) return {.fault = kUnsound};
    own = own_distribution(logits, peak.logit, n_logprobs);
  }
  if (!state.allowed.empty()) forbid_all_but(logits, state.allowed);
  for (const auto& [token, bias] : sampling.logit_bias) logits[static_cast<size_t>(token)] += bias;
  apply_penalties(logits, history, sampling);
  apply_dry(logits, history, sampling);
  const Peak peak = peak_of(logits);
  if (peak.token < 0) {
    const bool is_forbidden = std::ranges::all_of(logits, [](float logit) { return logit == -INFINITY; });
    return {.fault = is_forbidden ? kForbidden : kUnsound};
  }
  Sampled out;
  out.token =
      sampling.temperature == 0.0f ? peak.token : draw(logits, peak.logit, sampling, history.size(), state);
  if (own) out.logprobs = std::move(*own).of(out.token);
  return out;
}

ShortlistWish wish_of(const Sampling& sampling, int64_t n_vocab, size_t position) {
  if (!sampling.logit_bias.empty() || has_penalties(sampling)) return {};
  if (sampling.temperature == 0.0f) return {.n_top = 1, .is_draw = true};
  if (sampling.mirostat != 0 || sampling.top_n_sigma > 0.0f) return {};
  const Truncation truncation = truncation_of(sampling, n_vocab);
  const bool is_draw = !is_truncated_further(sampling);
  const bool needs_weights = is_draw || truncation.needs_sum();
  if (truncation.top_k > kShortlist || (truncation.keeps_all() && !is_draw)) return {};
  const int64_t n_most = truncation.top_k > 0 ? truncation.top_k : std::min(n_vocab, kShortlist);
  return {.n_top = truncation.keeps_all() ? 1 : n_most,
          .temperature = needs_weights ? sampling.temperature : 0.0f,
          .truncation = truncation,
          .uniform = uniform(sampling.seed, position, kTokenDraw),
          .is_draw = is_draw};
}

std::optional<Sampled> sample(const Shortlist& shortlist, int64_t n_vocab, const Sampling& sampling,
                              size_t position) {
  if (shortlist.tokens.front() < 0) return Sampled{.fault = kUnsound};
  if (shortlist.logits.front() == -INFINITY) return Sampled{.fault = kForbidden};
  if (sampling.temperature == 0.0f) return Sampled{.token = shortlist.tokens.front()};
  if (!is_truncated_further(sampling)) {
    if (shortlist.drawn < 0) return std::nullopt;
    return Sampled{.token = shortlist.drawn};
  }
  std::optional<Candidates> candidates = Candidates::of(shortlist, n_vocab, sampling);
  if (!candidates) return std::nullopt;
  return Sampled{.token = draw(*std::move(candidates), std::nullopt, sampling, position)};
}

TokenLogprobs score(std::span<const float> logits, int32_t token, int n) {
  const Peak peak = peak_of(logits);
  if (peak.token < 0) return {.chosen = NAN};
  return own_distribution(logits, peak.logit, n).of(token);
}

}  // namespace millrace
