#include "engine/tensor_parallel.h"

#include <algorithm>

#include "backend/ranks/weights.h"
#include "base/error.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

double mib(int64_t n_bytes) { return static_cast<double>(n_bytes) / 0x1p20; }

int64_t n_whole_bytes(const ranks::Plan& plan) {
  int64_t n_bytes = 0;
  for (const auto& [address, weight] : plan.whole) n_bytes += weight.n_bytes();
  return n_bytes;
}

int64_t n_bytes_of_model(const ranks::Plan& plan) {
  int64_t n_bytes = n_whole_bytes(plan);
  for (const auto& [address, weight] : plan.weights)
    n_bytes += plan.whole.contains(address) ? 0 : weight.whole.n_bytes();
  return n_bytes;
}

std::string undivided_text(const ranks::Plan& plan) {
  return fmt::format(
      "{:.1f} MiB of weights make {} equal parts by their heads and blocks, too few for {} ranks",
      mib(plan.n_undivided_bytes), plan.n_parts, plan.n_ranks);
}

// A head alone is not worth a rank.
void need_division(const ranks::Plan& plan) {
  const bool divides =
      std::ranges::any_of(plan.weights, [](const auto& each) { return !each.second.gives_result; });
  if (divides) return;
  fail(ErrorKind::usage, "the model does not divide among {} ranks: {}", plan.n_ranks, undivided_text(plan));
}

void need_room(const ranks::Plan& plan, int rank, const Memory& memory) {
  const int64_t n_bytes = ranks::n_held_bytes(plan, rank), n_free = memory.free_bytes();
  if (n_bytes > n_free)
    fail(ErrorKind::does_not_fit,
         "rank {} of {} needs {:.1f} MiB for its weights, {:.1f} MiB are free on its GPU: more ranks have "
         "less each",
         rank, plan.n_ranks, mib(n_bytes), mib(n_free));
}

std::string text_of(const ranks::Plan& plan) {
  int64_t most = 0;
  for (int rank = 0; rank < plan.n_ranks; ++rank) most = std::max(most, ranks::n_held_bytes(plan, rank));
  std::string text = fmt::format(
      "tensor parallel over {} ranks: each has up to {:.1f} of {:.1f} MiB of weights, of which {:.1f} MiB "
      "are the same on each",
      plan.n_ranks, mib(most), mib(n_bytes_of_model(plan)), mib(n_whole_bytes(plan)));
  if (plan.n_undivided_bytes > 0) text += "; " + undivided_text(plan);
  return text;
}

}  // namespace

TensorParallel place_on_ranks(const Model& model, std::vector<std::unique_ptr<Backend>> ranks,
                              std::unique_ptr<Collective> collective) {
  const auto n_ranks = static_cast<int>(ranks.size());
  const ranks::Plan plan = ranks::plan_ranks(recorded_for_ranks(model), n_ranks);
  need_division(plan);
  for (int rank = 0; rank < n_ranks; ++rank) {
    const Memory& memory = ranks[static_cast<size_t>(rank)]->memory();
    if (!memory.is_of_program()) need_room(plan, rank, memory);
  }
  return {.backend = make_ranks_backend(std::move(ranks), plan, std::move(collective)),
          .text = text_of(plan),
          .is_less = plan.n_undivided_bytes > 0};
}

}  // namespace millrace
