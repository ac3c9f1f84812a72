// The CPU backend with a chosen instruction set: for tests, which run them all.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "backend/backend.h"

namespace millrace {

// The instruction sets that this machine has kernels for, best first: "amx", "avx512", "avx2",
// "scalar".
std::span<const std::string_view> cpu_instruction_sets();

// Throws Error(usage) for a set that this machine has not.
std::unique_ptr<Backend> make_cpu_backend(int n_threads, std::string_view instruction_set);

}  // namespace millrace
