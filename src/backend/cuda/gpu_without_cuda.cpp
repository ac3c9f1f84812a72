#include "backend/cuda/cuda.h"
#include "base/error.h"

namespace millrace {

bool has_gpu() { return false; }

std::unique_ptr<Backend> make_cuda_backend(int /*gpu*/) {
  fail(ErrorKind::usage, "this build has no CUDA backend: build the preset cuda");
}

std::unique_ptr<Collective> make_gpu_collective(const std::vector<Memory*>& /*memories*/) { return nullptr; }

}  // namespace millrace
