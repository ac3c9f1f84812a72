#include "engine/tensor_parallel.h"

#include <algorithm>

#include "backend/ranks/weights.h"
#include "base/error.h"
#include "base/file.h"
#include "engine/memory.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

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

using MappedFiles = std::vector<std::span<const std::byte>>;

// Of what lies in mapped files: it is read again by whoever wants it.
GiveBack give_back_to(MappedFiles files) {
  std::ranges::for_each(files, MappedFile::prepare_release);
  return [files = std::move(files)](std::span<const std::byte> weight) {
    const bool is_mapped = MappedFile::have(files, weight.data());
    if (is_mapped) MappedFile::release(weight);
    return is_mapped;
  };
}

int64_t copied_bytes(const ranks::Plan& plan) {
  int64_t n_bytes = 0;
  for (int rank = 0; rank < plan.n_ranks; ++rank) n_bytes += ranks::n_copied_bytes(plan, rank);
  return n_bytes;
}

// Of the program's memory: the checkpoint, with copies in place of what is read no more; of a GPU, what its
// ranks hold.
int64_t weights_bytes(const ranks::Plan& plan, const Checkpoint& checkpoint, const Memory& memory, int rank) {
  if (!memory.is_of_program()) return ranks::n_held_bytes(plan, rank);
  const MappedFiles files = checkpoint.mapped_files();
  int64_t n_bytes = checkpoint.n_bytes() + copied_bytes(plan);
  for (const auto& [address, weight] : plan.weights) {
    if (plan.is_replaced(weight) && MappedFile::have(files, address)) n_bytes -= weight.whole.n_bytes();
  }
  return n_bytes;
}

// Throws Error(does_not_fit) where it is more than there is.
void need(const MemoryPlan::Part& planned, const RunnerShape& shape, const Memory& memory, int n_ranks) {
  const bool is_of_program = memory.is_of_program();
  const int64_t n_free = available_memory_bytes(memory) - (is_of_program ? 0 : kSpareBytes);
  if (planned.weights_bytes > n_free)
    fail(ErrorKind::does_not_fit, "{} need {:.1f} MiB for weights, of which {:.1f} MiB may be taken{}",
         is_of_program ? fmt::format("{} ranks", n_ranks) : fmt::format("each of {} ranks", n_ranks),
         mib(planned.weights_bytes), mib(std::max<int64_t>(0, n_free)),
         is_of_program ? "" : " on its GPU: more ranks have less each");
  const KvCache::Shape& kv = shape.memory.kv;
  need_memory({.weights_bytes = planned.weights_bytes,
               .kv_bytes = planned.kv_bytes,
               .state_bytes = planned.state_bytes,
               .arena_bytes = planned.arena_bytes,
               .n_positions = kv.n_pages * kv.page_size,
               .page_size = kv.page_size,
               .n_slots = shape.memory.states.n_slots,
               .is_of_program = is_of_program},
              n_free);
}

std::string text_of(const ranks::Plan& plan, const std::vector<MemoryPlan::Part>& planned,
                    bool is_of_program) {
  int64_t most = 0;
  for (int rank = 0; rank < plan.n_ranks; ++rank) most = std::max(most, ranks::n_held_bytes(plan, rank));
  std::string text = fmt::format(
      "tensor parallel over {} ranks: each has up to {:.1f} of {:.1f} MiB of weights, of which {:.1f} MiB "
      "are the same on each; {} {}",
      plan.n_ranks, mib(most), mib(n_bytes_of_model(plan)), mib(n_whole_bytes(plan)),
      is_of_program ? "all together take" : "a GPU gets at most",
      std::ranges::max_element(planned, {}, &MemoryPlan::Part::n_bytes)->text());
  if (is_of_program) text += fmt::format(" ({:.1f} MiB of weights are copies)", mib(copied_bytes(plan)));
  if (plan.n_undivided_bytes > 0) text += "; " + undivided_text(plan);
  return text;
}

}  // namespace

TensorParallel place_on_ranks(const Model& model, const Checkpoint& checkpoint, const RunnerShape& shape,
                              RankBackends ranks) {
  const auto n_ranks = static_cast<int>(ranks.backends.size());
  const ranks::Plan plan = ranks::plan_ranks(recorded_for_ranks(model), n_ranks);
  need_division(plan);
  std::vector<Memory*> memories;
  for (const auto& backend : ranks.backends) memories.push_back(&backend->memory());
  std::unique_ptr<Backend> all = make_ranks_backend(
      std::move(ranks.backends), plan, std::move(ranks.collective), give_back_to(checkpoint.mapped_files()));
  const int64_t step_bytes = Runner::step_bytes(model, shape, all.get());
  std::vector<MemoryPlan::Part> planned;
  for (int rank = 0; rank < n_ranks; ++rank) {
    const Memory& memory = *memories[static_cast<size_t>(rank)];
    planned.push_back({.weights_bytes = weights_bytes(plan, checkpoint, memory, rank),
                       .kv_bytes = shape.memory.kv_bytes(all->memory(), memory),
                       .state_bytes = shape.memory.state_bytes(all->memory(), memory),
                       .arena_bytes = step_bytes * all->memory().n_copies(memory)});
    need(planned.back(), shape, memory, n_ranks);
  }
  all->hold({});
  return {.backend = std::move(all),
          .planned = planned,
          .text = text_of(plan, planned, memories.front()->is_of_program()),
          .is_less = plan.n_undivided_bytes > 0};
}

}  // namespace millrace
