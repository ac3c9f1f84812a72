#include <cublas_v2.h>
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "backend/cuda/gpu/library.h"

namespace millrace::cuda::gpu {
namespace {

void* open_library() {
  for (const char* name : {"libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13"}) {
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  }
  return nullptr;
}

// Numbers of either sign below 4.
void fill_randomly(Buffer& buffer, Device& device) {
  std::vector<uint32_t> pairs(buffer.n_bytes() / sizeof(uint32_t));
  std::minstd_rand random(1);
  for (uint32_t& pair : pairs) pair = (static_cast<uint32_t>(random()) * 2654435761u) & 0xbfffbfffu;
  device.write(buffer.data(), std::as_bytes(std::span(pairs)));
}

}  // namespace

double library_flops_per_second(Device& device) {
  void* library = open_library();  // stays: a GPU's library does not like to go
  if (library == nullptr) return 0.0;
  const auto create = reinterpret_cast<decltype(&cublasCreate_v2)>(::dlsym(library, "cublasCreate_v2"));
  const auto destroy = reinterpret_cast<decltype(&cublasDestroy_v2)>(::dlsym(library, "cublasDestroy_v2"));
  const auto set_stream =
      reinterpret_cast<decltype(&cublasSetStream_v2)>(::dlsym(library, "cublasSetStream_v2"));
  using Multiply =
      cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                         const void*, cudaDataType, int, const void*, cudaDataType, int, const void*, void*,
                         cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
  const auto multiply = reinterpret_cast<Multiply>(::dlsym(library, "cublasGemmEx"));
  cublasHandle_t handle = nullptr;
  if (create == nullptr || destroy == nullptr || set_stream == nullptr || multiply == nullptr ||
      create(&handle) != CUBLAS_STATUS_SUCCESS)
    return 0.0;

  constexpr int kSide = 8192;
  constexpr size_t kBytes = size_t{kSide} * kSide * 2;
  Buffer a(kBytes, device), b(kBytes, device), c(kBytes, device);
  fill_randomly(a, device);  // zeros take less power, and so less time
  fill_randomly(b, device);
  const float one = 1.0f, zero = 0.0f;
  double best_s = 0.0;
  bool is_sound = set_stream(handle, static_cast<cudaStream_t>(device.stream())) == CUBLAS_STATUS_SUCCESS;
  for (int i = 0; i < 6 && is_sound; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    is_sound = multiply(handle, CUBLAS_OP_T, CUBLAS_OP_N, kSide, kSide, kSide, &one, a.data(), CUDA_R_16BF,
                        kSide, b.data(), CUDA_R_16BF, kSide, &zero, c.data(), CUDA_R_16BF, kSide,
                        CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS;
    device.wait();
    const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    best_s = i == 0 ? s : std::min(best_s, s);
  }
  destroy(handle);
  return is_sound && best_s > 0.0 ? 2.0 * kSide * kSide * kSide / best_s : 0.0;
}

}  // namespace millrace::cuda::gpu
