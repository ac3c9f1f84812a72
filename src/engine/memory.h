// How much memory this process may still take.
#pragma once

#include <cstdint>

namespace millrace {

// The smaller of what the machine has available (/proc/meminfo) and what is left under the cgroup's limit.
// INT64_MAX where neither can be read.
int64_t available_memory_bytes();

}  // namespace millrace
