#include "engine/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "base/error.h"

namespace millrace {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFirstUseBytes = int64_t{5} << 20;
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

// The most positions, in whole pages, whose keys and values fit.
int64_t n_fitting(const MemoryNeed& need, int64_t available_bytes) {
  const int64_t n_pages = (need.n_positions + need.page_size - 1) / need.page_size;
  const auto fits = [&](int64_t n) {
    return need.kv_bytes_of ? need.kv_bytes_of(n * need.page_size) <= available_bytes
                            : n * (need.kv_bytes / n_pages) <= available_bytes;
  };
  int64_t n_fit = 0;
  for (int64_t n_more = n_pages; n_more > 0; n_more /= 2) {
    while (n_fit + n_more <= n_pages && fits(n_fit + n_more)) n_fit += n_more;
  }
  return n_fit * need.page_size;
}

}  // namespace

int64_t available_memory_bytes(const fs::path& root) {
  return std::min(machine_bytes(root), cgroup_bytes(root));
}

int64_t available_memory_bytes(const Memory& memory) {
  return memory.is_of_program() ? available_memory_bytes() : memory.free_bytes();
}

int64_t program_bytes(int64_t weights_bytes, const fs::path& root) {
  struct Mapped {
    int64_t kib = 0, resident_kib = 0;
    bool is_data = true;
  };
  std::map<std::string, Mapped> files;  // "": no file
  std::ifstream smaps(root / "proc/self/smaps");
  Mapped* current = nullptr;
  for (std::string line; std::getline(smaps, line);) {
    std::istringstream words(line);
    std::string first, permissions, offset, device, inode, path;
    words >> first;
    if (first.find('-') != std::string::npos) {
      words >> permissions >> offset >> device >> inode >> path;
      current = &files[inode == "0" ? "" : path];
      current->is_data &= inode != "0" && permissions.find('x') == std::string::npos;
      continue;
    }
    int64_t kib = 0;
    if (current == nullptr || !(words >> kib)) continue;
    if (first == "Size:") current->kib += kib;
    if (first == "Rss:") current->resident_kib += kib;
  }
  if (files.empty()) return 0;
  int64_t n_bytes = kFirstUseBytes, n_data_bytes = 0;
  for (const auto& [path, mapped] : files) {
    (mapped.is_data ? n_data_bytes : n_bytes) += (mapped.is_data ? mapped.kib : mapped.resident_kib) * 1024;
  }
  return n_bytes + std::max<int64_t>(0, n_data_bytes - weights_bytes);
}

void need_memory(const MemoryNeed& need, int64_t available_bytes) {
  const int64_t fixed = need.weights_bytes + need.state_bytes + need.arena_bytes + need.tier_bytes;
  if (fixed + need.kv_bytes <= available_bytes) return;
  const int64_t n_fit = n_fitting(need, available_bytes - fixed);
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
       "of memory are available{}: {} would fit",
       need.n_positions, mib(need.kv_bytes), states, mib(need.arena_bytes), weights, tier,
       mib(available_bytes), need.is_of_program ? "" : " on the GPU", fitting);
}

}  // namespace millrace
