#include "model/layers/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace millrace {

std::vector<double> rope_frequencies(int64_t n_rotary, double base) {
  std::vector<double> frequencies(static_cast<size_t>(n_rotary / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(n_rotary));
  }
  return frequencies;
}

void scale_yarn(std::vector<double>& frequencies, double base, const Yarn& yarn) {
  const double n_rotary = 2.0 * static_cast<double>(frequencies.size());
  // The dimension whose wave turns `n_turns` times over the original context.
  const auto dimension = [&](double n_turns) {
    return n_rotary * std::log(yarn.original_context / (2.0 * std::numbers::pi * n_turns)) /
           (2.0 * std::log(base));
  };
  double low = dimension(yarn.beta_fast), high = dimension(yarn.beta_slow);
  if (yarn.is_rounded) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, n_rotary - 1.0);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    frequencies[i] = frequencies[i] / yarn.factor * ramp + frequencies[i] * (1.0 - ramp);
  }
}

double yarn_magnitude(double factor, double k) {
  return factor <= 1.0 ? 1.0 : 0.1 * k * std::log(factor) + 1.0;
}

std::vector<float> llama3_divisors(std::span<const double> frequencies, const Llama3Scaling& scaling) {
  const double low_wave = scaling.original_context / scaling.low_freq_factor;
  const double high_wave = scaling.original_context / scaling.high_freq_factor;
  std::vector<float> divisors;
  for (const double frequency : frequencies) {
    const double wave = 2.0 * std::numbers::pi / frequency;
    double divisor = 1.0;
    if (wave > low_wave) {
      divisor = scaling.factor;
    } else if (wave >= high_wave) {
      const double smooth = (scaling.original_context / wave - scaling.low_freq_factor) /
                            (scaling.high_freq_factor - scaling.low_freq_factor);
      divisor = 1.0 / ((1.0 - smooth) / scaling.factor + smooth);
    }
    divisors.push_back(static_cast<float>(divisor));
  }
  return divisors;
}

double longrope_magnitude(double context, double original) {
  return context <= original ? 1.0 : std::sqrt(1.0 + std::log(context / original) / std::log(original));
}

RopeTable::RopeTable(const std::vector<double>& frequencies, double magnitude, RopePairing pairing)
    : inv_freq_(frequencies.begin(), frequencies.end()), n_tables_(1), pairing_(pairing) {
  magnitude_[0] = magnitude_[1] = static_cast<float>(magnitude);
}

void RopeTable::add_second(const std::vector<double>& frequencies, double magnitude) {
  check(n_tables_ == 1 && frequencies.size() == inv_freq_.size(),
        "a second table has the length of the first");
  inv_freq_.insert(inv_freq_.end(), frequencies.begin(), frequencies.end());
  magnitude_[1] = static_cast<float>(magnitude);
  n_tables_ = 2;
}

Rope RopeTable::view() const {
  if (n_tables_ == 0) return {};
  auto* elements = const_cast<float*>(inv_freq_.data());  // ops only read it
  return {.inv_freq = Tensor(elements, Dtype::f32, {n_tables_, std::ssize(inv_freq_) / n_tables_}),
          .magnitude = {magnitude_[0], magnitude_[1]},
          .pairing = pairing_};
}

void divide_frequencies(std::vector<double>& frequencies, const Tensor& divisors, std::string_view name) {
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double divisor = divisors.f32()[i];
    const bool is_standing = divisors.f32()[i] == kStandingPair;
    if (!is_standing && !(divisor >= kRopeFactor.min && divisor <= kRopeFactor.max)) {
      fail(ErrorKind::bad_model, "{} holds {} at {}, expected {:g} to {:g}", name, divisor, i,
           kRopeFactor.min, kRopeFactor.max);
    }
    frequencies[i] = is_standing ? 0.0 : frequencies[i] / divisor;
  }
}

namespace {

double read_factor(Hparams& hparams) {
  // Old files say rope.scale_linear.
  return hparams.real_or("rope.scaling.factor", hparams.real_or("rope.scale_linear", 1.0, kRopeFactor),
                         kRopeFactor);
}

// Scales the frequencies and returns the magnitude.
double read_yarn(Hparams& hparams, std::vector<double>& frequencies, const RopeKind& kind) {
  const Yarn yarn{.factor = read_factor(hparams),
                  .original_context = hparams.real("rope.scaling.original_context_length"),
                  .beta_fast = hparams.real_or("rope.scaling.yarn_beta_fast", 32.0),
                  .beta_slow = hparams.real_or("rope.scaling.yarn_beta_slow", 1.0),
                  .is_rounded = hparams.flag_or("millrace.rope.yarn_is_rounded", kind.rounds_yarn)};
  if (kind.base <= 1.0) hparams.refuse("rope.freq_base", "yarn needs a base above 1");
  if (hparams.real_or("rope.scaling.yarn_ext_factor", 1.0) != 1.0) {
    hparams.refuse("rope.scaling.yarn_ext_factor", "only 1 is implemented");
  }
  scale_yarn(frequencies, kind.base, yarn);
  const double k_all = hparams.real_or("rope.scaling.yarn_log_multiplier", 0.0, {0.0, 1e3});
  double growth = yarn_magnitude(yarn.factor, 1.0);
  if (k_all > 0.0) growth = kind.grows_scores ? 1.0 : growth / yarn_magnitude(yarn.factor, k_all);
  return growth * hparams.real_or("rope.scaling.attn_factor", 1.0) *
         hparams.real_or("rope.scaling.yarn_attn_factor", 1.0);
}

}  // namespace

RopeTable read_rope(Hparams& hparams, const RopeKind& kind, const Tensor& divisors) {
  std::vector<double> frequencies = rope_frequencies(kind.n_rotary, kind.base);
  double magnitude = 1.0;
  const bool has_factor = hparams.has("rope.scaling.factor") || hparams.has("rope.scale_linear");
  const std::string scaling = hparams.text_or("rope.scaling.type", has_factor ? "linear" : "none");
  if (scaling == "yarn") {
    magnitude = read_yarn(hparams, frequencies, kind);
  } else if (scaling == "linear") {
    const double factor = read_factor(hparams);
    for (double& frequency : frequencies) frequency /= factor;
  } else if (scaling != "none") {
    hparams.refuse("rope.scaling.type", fmt::format("{} is not implemented here", printable(scaling)));
  }
  if (divisors) divide_frequencies(frequencies, divisors, "rope_freqs.weight");
  return RopeTable(frequencies, magnitude, kind.pairing);
}

double read_score_growth(Hparams& hparams) {
  const double tenth = hparams.real_or("rope.scaling.yarn_log_multiplier", 0.0, {0.0, 1e3});
  return yarn_magnitude(read_factor(hparams), 10.0 * tenth);
}

int64_t read_n_rotary(Hparams& hparams, int64_t head_dim) {
  const int64_t n_rotary = hparams.count_or("rope.dimension_count", head_dim);
  if (n_rotary < 2 || n_rotary > head_dim || n_rotary % 2 != 0) {
    hparams.refuse("rope.dimension_count",
                   fmt::format("{} is no even number from 2 to the head size {}", n_rotary, head_dim));
  }
  return n_rotary;
}

RopeTable read_head_rope(Hparams& hparams, int64_t head_dim, RopePairing pairing, const Tensor& divisors) {
  const RopeKind kind{.n_rotary = read_n_rotary(hparams, head_dim),
                      .base = hparams.real_or("rope.freq_base", 10000.0, kRopeBase),
                      .pairing = pairing};
  return read_rope(hparams, kind, divisors);
}

}  // namespace millrace
