#include "cli/weight_place.h"

#include <sys/resource.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/memory.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

// Less is read in no time.
constexpr int64_t kFewestBytes = int64_t{256} << 20;

// Who computes goes first.
void yield_to_others() { ::setpriority(PRIO_PROCESS, 0, 10); }  // of this thread (man 2 setpriority)

// Those that lie in files as they are: their memory can be given back. Others would take it twice.
std::vector<Tensor> mapped_weights(const LoadedModel& loaded) {
  const std::vector<std::span<const std::byte>> files = loaded.checkpoint->mapped_files();
  std::vector<Tensor> weights = multiplied_weights(*loaded.model);
  std::erase_if(weights, [&](const Tensor& weight) { return !MappedFile::have(files, weight.data); });
  return weights;
}

// Whether a stop is requested within `delay`, or was before.
bool stops_within(std::chrono::milliseconds delay, const std::stop_token& stop) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  std::condition_variable_any().wait_for(lock, stop, delay, [] { return false; });
  return stop.stop_requested();
}

void copy_weights(const LoadedModel& loaded, const std::stop_token& stop) {
  const auto begin = std::chrono::steady_clock::now();
  std::ranges::for_each(loaded.checkpoint->mapped_files(), MappedFile::prepare_release);
  const int64_t n_copied = loaded.backend->copy_weights(mapped_weights(loaded), stop, MappedFile::release);
  if (stop.stop_requested()) return;
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  log_info("{} of {} MiB of weights were copied to where they are read fastest, in {:.1f} s", n_copied >> 20,
           (loaded.checkpoint->n_bytes() - loaded.backend->held_bytes()) >> 20, seconds.count());
}

}  // namespace

void WeightPlace::declare(Args& args) {
  args.option("--weights",
              "Where weights are read: mapped, from their file; copied, from copies in pages of 2 MiB, laid "
              "out as they are read fastest, that are made while computing goes on; auto, copied where twice "
              "their size is free",
              setting_);
}

std::jthread WeightPlace::copy(const LoadedModel& loaded, std::chrono::milliseconds delay) const {
  if (setting_ != "auto" && setting_ != "mapped" && setting_ != "copied")
    fail(ErrorKind::usage, "--weights {} is not known; known: auto, mapped, copied", printable(setting_));
  if (std::ranges::none_of(loaded.backend->memory().parts(), &Memory::is_of_program)) {
    if (setting_ == "copied")
      fail(ErrorKind::usage, "--weights copied: this backend computes with copies of its own");
    return {};
  }
  const int64_t n_bytes = loaded.checkpoint->n_bytes() - loaded.backend->held_bytes();
  const bool is_wanted = setting_ == "copied" || (setting_ == "auto" && n_bytes >= kFewestBytes &&
                                                  available_memory_bytes() / 2 >= n_bytes);
  if (!is_wanted) return {};
  if (setting_ == "copied") delay = {};
  return std::jthread([&loaded, delay](const std::stop_token& stop) {
    if (stops_within(delay, stop)) return;
    yield_to_others();
    try {
      copy_weights(loaded, stop);
    } catch (const Error& error) {
      log_warning("weights stay where they lie: {}", error.what());
    }
  });
}

}  // namespace millrace
