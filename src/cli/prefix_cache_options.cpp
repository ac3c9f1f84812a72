#include "cli/prefix_cache_options.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <system_error>

#include "base/log.h"
#include "checkpoint/fingerprint.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

// Of pages that wait for the disk, and of preempted conversations.
constexpr int64_t kMemoryBytes = int64_t{128} << 20;
constexpr int64_t kDiskBytes = int64_t{8} << 30;

// Empty where the environment names no home.
fs::path default_dir() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && fs::path(cache).is_absolute()) return fs::path(cache) / "millrace" / "prefixes";
  const char* const home = std::getenv("HOME");
  return home != nullptr && *home != '\0' ? fs::path(home) / ".cache" / "millrace" / "prefixes" : fs::path();
}

// Who did not ask for it should not miss the space.
int64_t default_size(fs::path dir) {
  std::error_code error;
  while (!fs::exists(dir, error) && dir.has_relative_path()) dir = dir.parent_path();
  const fs::space_info space = fs::space(dir, error);
  return error ? kDiskBytes : std::min(kDiskBytes, static_cast<int64_t>(space.available / 10));
}

// "8G", "512M" or "100000" as bytes; K, M, G and T are powers of 1024. Throws Error(usage) that names `what`.
int64_t parse_size(const std::string& text, const std::string& what) {
  static constexpr std::string_view kUnits = "KMGT";
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  std::string_view unit(rest, static_cast<size_t>(end - rest));
  size_t shift = 0;
  if (!unit.empty() && kUnits.find(unit.front()) != std::string_view::npos) {
    shift = 10 * (kUnits.find(unit.front()) + 1);
    unit.remove_prefix(1);
    if (unit == "iB") unit = {};
  }
  if (error != std::errc() || !unit.empty() || value < 0 || value > INT64_MAX >> shift)
    fail(ErrorKind::usage, "{} should be a size like 8G, 512M or 0, found {}", what, printable(text));
  return value << shift;
}

}  // namespace

void PrefixCacheOptions::declare(Args& args) {
  args.option("--cache-dir",
              "Where prefixes of conversations are kept for the next start; else millrace/prefixes in the "
              "user's folder for caches",
              dir_);
  args.option(
      "--cache-disk",
      "How much of the disk they may take: 8G, 512M; 0: none are kept. Else 8G, at most a tenth of what "
      "is free",
      disk_);
}

Engine::TierOptions PrefixCacheOptions::tier(const LoadedModel& loaded, const fs::path& path) const {
  Engine::TierOptions tier{.memory_bytes = kMemoryBytes, .dir = dir_ ? fs::path(*dir_) : default_dir()};
  if (dir_ && dir_->empty()) fail(ErrorKind::usage, "--cache-dir is empty");
  tier.disk_bytes = disk_ ? parse_size(*disk_, "--cache-disk") : default_size(tier.dir);
  if (tier.disk_bytes == 0 && dir_) fail(ErrorKind::usage, "--cache-dir cannot be used with --cache-disk 0");
  if (tier.dir.empty() && tier.disk_bytes > 0)
    log_warning("no prefixes are kept on the disk: HOME is not set, and no --cache-dir is given");
  if (!tier.dir.empty() && tier.disk_bytes > 0) tier.model_id = fingerprint_of(*loaded.checkpoint, path);
  return tier;
}

}  // namespace millrace
