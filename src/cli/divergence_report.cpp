#include "cli/divergence_report.h"

namespace millrace {

void print_divergence(const Divergence& d) {
  fmt::print("KL divergence  mean {:.6f} +- {:.6f}, median {:.6f}, 99% {:.6f}, max {:.6f}\n", d.mean,
             d.mean_stderr, d.median, d.p99, d.max);
  fmt::print("same top token {:.2f}%, RMS of the change of p {:.3f}%, over {} positions\n", 100 * d.same_top,
             100 * d.rms_delta_p, d.n_positions);
  fmt::print("perplexity     {:.4f}, of the base {:.4f}, ratio {:.5f}\n", d.perplexity, d.base_perplexity,
             d.perplexity_ratio);
}

Json json_of(const Divergence& d) {
  Json out;
  out["n_positions"] = d.n_positions;
  out["kl_mean"] = d.mean;
  out["kl_mean_stderr"] = d.mean_stderr;
  out["kl_median"] = d.median;
  out["kl_p99"] = d.p99;
  out["kl_max"] = d.max;
  out["same_top"] = d.same_top;
  out["rms_delta_p"] = d.rms_delta_p;
  out["perplexity"] = d.perplexity;
  out["base_perplexity"] = d.base_perplexity;
  out["perplexity_ratio"] = d.perplexity_ratio;
  return out;
}

}  // namespace millrace
