#include "engine/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

// Where a version of cgroups keeps its numbers. A limit that is no number ("max") is none.
struct Layout {
  const char *mount, *limit, *used, *inactive_cache, *active_cache;
};
constexpr Layout kV1{"sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                     "total_inactive_file", "total_active_file"};
constexpr Layout kV2{"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file", "active_file"};

std::optional<int64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  int64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

// The number after `key` in a file of lines "key number ...", else 0.
int64_t entry_of(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  std::string name, rest;
  for (int64_t number = 0; file >> name >> number; std::getline(file, rest)) {
    if (name == key) return number;
  }
  return 0;
}

int64_t machine_bytes(const fs::path& root) {
  const int64_t kib = entry_of(root / "proc/meminfo", "MemAvailable:");
  return kib > 0 ? kib * 1024 : kUnknown;
}

int64_t left_in(const fs::path& folder, const Layout& layout) {
  const auto limit = number_in(folder / layout.limit), used = number_in(folder / layout.used);
  if (!limit || !used) return kUnknown;
  const fs::path stat = folder / "memory.stat";
  const int64_t cache = entry_of(stat, layout.inactive_cache) + entry_of(stat, layout.active_cache);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *used - cache));
}

// A limit on any folder above a cgroup holds for it too. Inside a container the path may be the host's, of
// which only the mount itself exists.
int64_t left_on_path(const fs::path& mount, std::string_view path, const Layout& layout) {
  int64_t least = left_in(mount, layout);
  fs::path folder = mount;
  for (const fs::path& name : fs::path(path).relative_path())
    least = std::min(least, left_in(folder /= name, layout));
  return least;
}

// Lines "id:controllers:path"; of version 2 the controllers are empty.
int64_t cgroup_bytes(const fs::path& root) {
  std::ifstream file(root / "proc/self/cgroup");
  int64_t least = kUnknown;
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string_view text(line), controllers = text.substr(first + 1, second - first - 1);
    if (!controllers.empty() && controllers != "memory") continue;
    const Layout& layout = controllers.empty() ? kV2 : kV1;
    least = std::min(least, left_on_path(root / layout.mount, text.substr(second + 1), layout));
  }
  return least;
}

}  // namespace

int64_t available_memory_bytes(const fs::path& root) {
  return std::min(machine_bytes(root), cgroup_bytes(root));
}

void need_memory(const MemoryNeed& need, int64_t available_bytes) {
  const int64_t fixed = need.weights_bytes + need.state_bytes + need.arena_bytes + need.tier_bytes;
  if (fixed + need.kv_bytes <= available_bytes) return;
  const auto mib = [](int64_t bytes) { return static_cast<double>(bytes) / 0x1p20; };
  const int64_t page_bytes =
      std::max<int64_t>(1, need.kv_bytes / ((need.n_positions + need.page_size - 1) / need.page_size));
  const int64_t n_fit = std::max<int64_t>(0, available_bytes - fixed) / page_bytes * need.page_size;
  const std::string weights =
      need.weights_bytes > 0 ? fmt::format(", {:.1f} MiB for the weights", mib(need.weights_bytes)) : "";
  const std::string tier =
      need.tier_bytes > 0 ? fmt::format(", {:.1f} MiB beside the cache", mib(need.tier_bytes)) : "";
  const std::string states =
      need.state_bytes > 0
          ? fmt::format("{:.1f} MiB for {} recurrent states ({:.1f} MiB each), ", mib(need.state_bytes),
                        need.n_slots, mib(need.state_bytes / std::max<int64_t>(1, need.n_slots)))
          : "";
  const std::string fitting = n_fit > 0 ? fmt::format("{} positions", n_fit) : "not even one page";
  fail(ErrorKind::does_not_fit,
       "{} positions need {:.1f} MiB for keys and values, {}{:.1f} MiB for activations{}{}; {:.1f} MiB "
       "of memory are available: {} would fit",
       need.n_positions, mib(need.kv_bytes), states, mib(need.arena_bytes), weights, tier,
       mib(available_bytes), fitting);
}

}  // namespace millrace
