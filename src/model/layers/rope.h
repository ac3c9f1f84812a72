// Rotary frequency tables with their scalings (models.md 1.3). Computed once, when a model is loaded.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "backend/ops.h"
#include "model/hparams.h"

namespace millrace {

// base^(-2i / n_rotary) for i in [0, n_rotary / 2).
std::vector<double> rope_frequencies(int64_t n_rotary, double base);

// YaRN (Peng et al. 2023): high frequencies stay, low ones are divided by `factor`, between them a ramp.
struct Yarn {
  double factor = 1.0;
  double original_context = 0.0;
  double beta_fast = 32.0;
  double beta_slow = 1.0;
  bool is_rounded = true;  // the ramp begins and ends at whole pairs
};
void scale_yarn(std::vector<double>& frequencies, double base, const Yarn& yarn);
// 0.1 * k * ln(factor) + 1, at least 1: the growth of cos and sin that belongs to it.
double yarn_magnitude(double factor, double k);

// Llama 3.1: what rope_freqs.weight holds, i.e. the divisor of each frequency.
struct Llama3Scaling {
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  double original_context = 0.0;
};
std::vector<float> llama3_divisors(std::span<const double> frequencies, const Llama3Scaling& scaling);

// The divisor that stands for "does not turn", as converters write it.
inline constexpr float kStandingPair = 1e30f;
// frequencies[i] /= divisors[i], of tensor `name`. Throws Error(bad_model) for a divisor that is not
// positive.
void divide_frequencies(std::vector<double>& frequencies, const Tensor& divisors, std::string_view name);

// Longrope's growth of cos and sin: sqrt(1 + ln(context / original) / ln(original)).
double longrope_magnitude(double context, double original);

// One table or two as an op reads them. Owns the floats that view() points at.
class RopeTable {
 public:
  RopeTable() = default;  // no rotation
  RopeTable(const std::vector<double>& frequencies, double magnitude, RopePairing pairing);

  // The table for sequences with rope_tables[s] == 1.
  void add_second(const std::vector<double>& frequencies, double magnitude);
  Rope view() const;

 private:
  std::vector<float> inv_freq_;
  int64_t n_tables_ = 0;
  float magnitude_[2] = {1.0f, 1.0f};
  RopePairing pairing_ = RopePairing::half_split;
};

struct RopeKind {
  int64_t n_rotary;
  double base;
  RopePairing pairing;
  // Latent attention: where the file has yarn_log_multiplier the scores grow (read_score_growth), and not
  // cos and sin.
  bool grows_scores = false;
  bool rounds_yarn = true;  // where the file does not say whether
};
// Reads rope.scaling.* of kind none, linear and yarn and applies it. `divisors` (rope_freqs.weight) may be
// empty.
RopeTable read_rope(Hparams& hparams, const RopeKind& kind, const Tensor& divisors);

// What a query and a key of latent attention grow by: from yarn_log_multiplier, which its files hold a tenth
// of; 1 where they have none.
double read_score_growth(Hparams& hparams);

// rope.dimension_count: even, from 2 to head_dim, which is also what a missing key means.
int64_t read_n_rotary(Hparams& hparams, int64_t head_dim);
// read_rope of so many dimensions and of rope.freq_base, 10000 where there is none.
RopeTable read_head_rope(Hparams& hparams, int64_t head_dim, RopePairing pairing,
                         const Tensor& divisors = Tensor());

}  // namespace millrace
