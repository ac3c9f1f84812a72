#include "cli/weight_pages.h"

#include <sys/resource.h>

#include <chrono>

#include "base/error.h"
#include "base/log.h"
#include "engine/memory.h"

namespace millrace {
namespace {

// Less is moved, and read, in no time.
constexpr int64_t kFewestBytes = int64_t{256} << 20;

// Who computes goes first.
void yield_to_others() { ::setpriority(PRIO_PROCESS, 0, 10); }  // of this thread (man 2 setpriority)

}  // namespace

void WeightPages::declare(Args& args) {
  args.option(
      "--weights",
      "Where weights of a GGUF file lie: mapped as the file is; huge, copied into pages of 2 MiB while "
      "computing goes on; auto, huge where twice their size is free",
      setting_);
}

std::jthread WeightPages::move(const LoadedModel& loaded) const {
  if (setting_ != "auto" && setting_ != "mapped" && setting_ != "huge")
    fail(ErrorKind::usage, "--weights {} is not known; known: auto, mapped, huge", printable(setting_));
  const int64_t n_bytes = loaded.checkpoint->n_bytes();
  const bool is_wanted = setting_ == "huge" || (setting_ == "auto" && n_bytes >= kFewestBytes &&
                                                available_memory_bytes() / 2 >= n_bytes);
  if (!is_wanted) return {};
  return std::jthread([&checkpoint = *loaded.checkpoint](const std::stop_token& stop) {
    yield_to_others();
    const auto begin = std::chrono::steady_clock::now();
    const size_t n_moved = checkpoint.move_to_huge_pages(stop);
    if (n_moved == 0 && !stop.stop_requested())
      return log_info("weights stay where they lie: they are not those of a GGUF file, or memory is short");
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    log_info("{} MiB of weights were moved to huge pages in {:.1f} s", n_moved >> 20, seconds.count());
  });
}

}  // namespace millrace
