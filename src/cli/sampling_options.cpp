#include "cli/sampling_options.h"

#include "engine/random.h"

namespace millrace {
namespace {

// An option that a file may set, under general.sampling.KEY.
struct Recommended {
  const char *option, *help;
  std::string_view key;  // without general.sampling.
  float Sampling::*value;
  float otherwise;  // where neither says anything
};
constexpr Recommended kRecommended[] = {
    {"--temperature", "Divides the logits; 0: always the likeliest token", "temp", &Sampling::temperature,
     0.7f},
    {"--top-p", "Draw among the likeliest tokens that sum to p", "top_p", &Sampling::top_p, 0.95f},
    {"--min-p", "Draw among tokens at least so likely, as a share of the likeliest", "min_p",
     &Sampling::min_p, 0.0f},
    {"--repetition-penalty", "Divides the logits of tokens seen; 1: off", "penalty_repeat",
     &Sampling::repetition_penalty, 1.0f},
    {"--presence-penalty", "Subtracted from the logits of tokens seen", "presence_penalty",
     &Sampling::presence_penalty, 0.0f},
    {"--xtc-probability", "How often the likeliest tokens are left out", "xtc_probability",
     &Sampling::xtc_probability, 0.0f},
    {"--xtc-threshold", "How likely a token is that XTC leaves out", "xtc_threshold",
     &Sampling::xtc_threshold, 0.1f},
    {"--mirostat-tau", "The surprise to hold, in bits", "mirostat_tau", &Sampling::mirostat_tau, 5.0f},
    {"--mirostat-eta", "How fast it is approached", "mirostat_eta", &Sampling::mirostat_eta, 0.1f},
};

std::string full_key(std::string_view key) { return "general.sampling." + std::string(key); }

}  // namespace

void SamplingOptions::declare(Args& args) {
  static_assert(std::size(kRecommended) == kNRecommended);
  for (size_t i = 0; i < kNRecommended; ++i)
    args.option(kRecommended[i].option, kRecommended[i].help, given_[i]);
  args.option("--top-k", "Draw among the k likeliest tokens; 0: all", top_k_);
  args.option("--mirostat", "0 off, 1 or 2: hold the surprise instead of truncating", mirostat_);
  args.option("--typical-p", "Draw among tokens of typical surprise that sum to p", rest_.typical_p);
  args.option("--top-n-sigma", "Draw among logits within n standard deviations of the best; 0: off",
              rest_.top_n_sigma);
  args.option("--dry-multiplier", "Strength of the penalty on repeated sequences; 0: off",
              rest_.dry_multiplier);
  args.option("--dry-base", "Its growth with the length of the sequence", rest_.dry_base);
  args.option("--dry-allowed-length", "Sequences shorter than this are free", rest_.dry_allowed_length);
  args.option("--frequency-penalty", "Subtracted for each time a token was seen", rest_.frequency_penalty);
  args.option("--seed", "Same seed, same answer; random where not given", seed_);
}

Sampling SamplingOptions::sampling(const Metadata& metadata) const {
  Sampling out = rest_;
  for (size_t i = 0; i < kNRecommended; ++i) {
    const Recommended& each = kRecommended[i];
    const float otherwise = otherwise_ == Otherwise::ours ? each.otherwise : Sampling().*each.value;
    const auto recommended = static_cast<float>(metadata.get_or<double>(full_key(each.key), otherwise));
    out.*each.value = given_[i].value_or(recommended);
  }
  const auto integer = [&](std::string_view key) {
    return static_cast<int32_t>(metadata.get_or<int64_t>(full_key(key), 0));
  };
  out.top_k = top_k_.value_or(integer("top_k"));
  out.mirostat = mirostat_.value_or(integer("mirostat"));
  out.penalty_last_n =
      static_cast<int32_t>(metadata.get_or<int64_t>(full_key("penalty_last_n"), out.penalty_last_n));
  out.seed = seed_ ? *seed_ : drawn_seed();
  return out;
}

}  // namespace millrace
