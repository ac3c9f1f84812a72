// What the goldens said of each family, printed as one table when all have run.
#pragma once

#include <fmt/core.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/cuda/cuda.h"

namespace millrace::testing {

// On a GPU where there is one, else emulated; nullptr under a sanitizer, where the emulation takes minutes,
// and it has checks of its own.
inline std::unique_ptr<Backend> cuda_backend() {
  if (has_gpu()) return make_cuda_backend();
#ifdef MILLRACE_SANITIZED
  return nullptr;
#else
  return make_emulated_cuda_backend(EmulatedThreads::ascending);
#endif
}

struct GoldensRow {
  std::string family, config;
  double on_reference = 0.0, on_cpu = 0.0, on_cuda = 0.0;  // largest difference from the golden logits
  double on_split = 0.0;                                   // the same, where it is tried
  double on_ranks = 0.0;                                   // of tensor parallel, two of the cpu backend
  double kl_on_cuda = 0.0;  // of products in bfloat16, as a part of what rounding may cost
  // The same tokens as the reference implementation to the end, on both backends. Nothing where the model
  // gives no tokens, or reads only whole texts.
  std::optional<bool> is_greedy_equal = true, is_chunked_equal = true;
  // Equal bits: through our GGUF, in a batch, with other threads (and in chunks).
  bool is_gguf_equal = true, is_batch_equal = true, is_threaded_equal = true;
  int64_t weight_bytes = 0;
  int64_t step_bytes = 0;  // pages and activations of the batch

  int64_t peak_bytes() const { return weight_bytes + step_bytes; }
};

struct GoldensRefusal {
  std::string family, sentence;
};

inline void print(const std::vector<GoldensRow>& rows) {
  const auto word = [](std::optional<bool> is_equal) {
    return !is_equal ? "-" : *is_equal ? "equal" : "DIFFER";
  };
  fmt::print("\n{:<20} {:<25} {:>9} {:>9} {:>9} {:>9} {:>7}  {:<7}{:<7}{:<7}{:<7}{:<8}{:>9} {:>9}\n",
             "family", "config", "reference", "cpu", "2 ranks", "cuda", "of KL", "greedy", "GGUF", "chunks",
             "batch", "threads", "weights", "peak");
  for (const GoldensRow& row : rows) {
    fmt::print(
        "{:<20} {:<25} {:>9.1e} {:>9.1e} {:>9.1e} {:>9.1e} {:>7.2f}  {:<7}{:<7}{:<7}{:<7}{:<8}{:>5} KiB "
        "{:>5} KiB\n",
        row.family, row.config, row.on_reference, row.on_cpu, row.on_ranks, row.on_cuda, row.kl_on_cuda,
        word(row.is_greedy_equal), word(row.is_gguf_equal), word(row.is_chunked_equal),
        word(row.is_batch_equal), word(row.is_threaded_equal), row.weight_bytes >> 10,
        row.peak_bytes() >> 10);
  }
  fmt::print("{} configurations\n\n", rows.size());
}

inline void print(const std::vector<GoldensRefusal>& refusals) {
  if (refusals.empty()) return;
  fmt::print("\nrefused:\n");
  for (const GoldensRefusal& each : refusals) fmt::print("{:<20} {}\n", each.family, each.sentence);
  fmt::print("\n");
}

}  // namespace millrace::testing
