#include "engine/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace millrace {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

int64_t machine_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (int64_t kib = 0; file >> key >> kib >> unit;) {
    if (key == "MemAvailable:") return kib * 1024;
  }
  return kUnknown;
}

// cgroup v2: memory.max holds "max" where there is no limit, which reads as no number.
int64_t cgroup_bytes() {
  int64_t limit = 0, used = 0;
  std::ifstream max("/sys/fs/cgroup/memory.max"), current("/sys/fs/cgroup/memory.current");
  return max >> limit && current >> used ? std::max<int64_t>(limit - used, 0) : kUnknown;
}

}  // namespace

int64_t available_memory_bytes() { return std::min(machine_bytes(), cgroup_bytes()); }

}  // namespace millrace
