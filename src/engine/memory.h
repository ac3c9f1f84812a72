// How much memory this process may still take.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include "tensor/memory.h"

namespace millrace {

// The smallest of what the machine has available (/proc/meminfo) and what is left under the limit of each
// cgroup that this process is in (v1 and v2). The page cache, mapped models included, counts as available:
// the kernel takes it back. INT64_MAX where nothing can be read. `root` stands for / in tests.
int64_t available_memory_bytes(const std::filesystem::path& root = "/");

// The same for memory that a backend computes in: what it says itself where it is not the program's.
int64_t available_memory_bytes(const Memory& memory);

// As sentences say them.
constexpr double mib(int64_t n_bytes) { return static_cast<double>(n_bytes) / 0x1p20; }

// Of a GPU left alone where nothing else is asked for: the driver rounds allocations up, 32 graphs and NCCL
// take some, others use the card too, and attention of few rows may keep more than the widths of steps that
// were asked about (at most 384 MiB).
inline constexpr int64_t kSpareBytes = int64_t{512} << 20;

// What this process holds besides weights: itself, its libraries, what was allocated, and what else is
// mapped, such as the metadata of the model's file; and what will come to that with the first answers,
// whatever the model (more of the libraries, scratch of kernels and samplers): 5 MiB, between 4 and 9 as
// measured. 0 where /proc cannot be read.
int64_t program_bytes(int64_t weights_bytes, const std::filesystem::path& root = "/");

// What a model needs to run.
struct MemoryNeed {
  int64_t weights_bytes = 0;  // mapped; to be fast they must stay in memory
  int64_t kv_bytes = 0;       // of n_positions
  int64_t state_bytes = 0;    // of n_slots
  int64_t arena_bytes = 0;
  int64_t tier_bytes = 0;  // of prefixes on their way to the disk, and of preempted sequences
  int64_t n_positions = 1;
  int64_t page_size = 1;
  int64_t n_slots = 0;
  // The bytes of so many positions, where they are not in proportion; more for more.
  std::function<int64_t(int64_t n_positions)> kv_bytes_of{};
  bool is_of_program = true;  // the memory, else it is a device's
};

// Throws Error(does_not_fit) with the numbers, and the most positions that would fit, where `need` exceeds
// `available_bytes`.
void need_memory(const MemoryNeed& need, int64_t available_bytes = available_memory_bytes());

}  // namespace millrace
