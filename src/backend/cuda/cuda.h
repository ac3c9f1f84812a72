// The CUDA backend: on a GPU, where the build has it, and on an emulation of one, which tests its kernels on
// any machine.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/ranks/collective.h"

namespace millrace {

// Whether make_cuda_backend() would give one: this build has it, and there is a GPU.
bool has_gpu();
// Kernels on one of the GPUs, the first being 0. Throws Error(usage) where the build has no CUDA,
// Error(runtime) where there is no such GPU.
std::unique_ptr<Backend> make_cuda_backend(int gpu = 0);
// Between backends on the first GPUs, whose memories those are. nullptr where NCCL is not installed; throws
// Error(runtime) where it cannot begin.
std::unique_ptr<Collective> make_gpu_collective(const std::vector<Memory*>& memories);

// In which order threads run that could go on: correct kernels give the same bits either way.
enum class EmulatedThreads { ascending, descending };
// The kernels compiled as ordinary C++, on one thread. For tests: slow.
std::unique_ptr<Backend> make_emulated_cuda_backend(EmulatedThreads threads);

}  // namespace millrace
