#include "cli/sampling_options.h"

#include <random>

namespace millrace {
namespace {

constexpr float kTemperature = 0.7f;
constexpr float kTopP = 0.95f;

float real_of(const std::optional<float>& given, const Metadata& metadata, std::string_view key,
              float otherwise) {
  return given ? *given : static_cast<float>(metadata.get_or<double>(key, otherwise));
}

uint64_t random_seed() {
  std::random_device device;
  return static_cast<uint64_t>(device()) << 32 | device();
}

}  // namespace

void SamplingOptions::declare(Args& args) {
  args.option("--temperature", "Divides the logits; 0: always the likeliest token", temperature);
  args.option("--top-k", "Draw among the k likeliest tokens; 0: all", top_k);
  args.option("--top-p", "Draw among the likeliest tokens that sum to p", top_p);
  args.option("--min-p", "Draw among tokens at least so likely, as a share of the likeliest", min_p);
  args.option("--typical-p", "Draw among tokens of typical surprise that sum to p", rest.typical_p);
  args.option("--top-n-sigma", "Draw among logits within n standard deviations of the best; 0: off",
              rest.top_n_sigma);
  args.option("--xtc-probability", "How often the likeliest tokens are left out", rest.xtc_probability);
  args.option("--xtc-threshold", "How likely a token is that XTC leaves out", rest.xtc_threshold);
  args.option("--dry-multiplier", "Strength of the penalty on repeated sequences; 0: off",
              rest.dry_multiplier);
  args.option("--dry-base", "Its growth with the length of the sequence", rest.dry_base);
  args.option("--dry-allowed-length", "Sequences shorter than this are free", rest.dry_allowed_length);
  args.option("--mirostat", "0 off, 1 or 2: hold the surprise instead of truncating", rest.mirostat);
  args.option("--mirostat-tau", "The surprise to hold, in bits", rest.mirostat_tau);
  args.option("--mirostat-eta", "How fast it is approached", rest.mirostat_eta);
  args.option("--repetition-penalty", "Divides the logits of tokens seen; 1: off", rest.repetition_penalty);
  args.option("--presence-penalty", "Subtracted from the logits of tokens seen", rest.presence_penalty);
  args.option("--frequency-penalty", "Subtracted for each time a token was seen", rest.frequency_penalty);
  args.option("--seed", "Same seed, same answer; random where not given", seed);
}

Sampling SamplingOptions::sampling(const Metadata& metadata) const {
  Sampling out = rest;
  out.temperature = real_of(temperature, metadata, "general.sampling.temp", kTemperature);
  out.top_p = real_of(top_p, metadata, "general.sampling.top_p", kTopP);
  out.min_p = real_of(min_p, metadata, "general.sampling.min_p", 0.0f);
  out.top_k = top_k ? *top_k : static_cast<int32_t>(metadata.get_or<int64_t>("general.sampling.top_k", 0));
  out.seed = seed ? *seed : random_seed();
  return out;
}

}  // namespace millrace
