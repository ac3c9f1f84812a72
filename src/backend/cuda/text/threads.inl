// What kernels share that know nothing of an op: sums of a block, activations, tensors as pointers. Included
// after emulation/threads.h or gpu/threads.h.
#pragma once

#include "backend/ops.h"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {

inline constexpr int kWarp = 32;
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

__device__ inline int lane_index() { return thread_index() % kWarp; }
__device__ inline int warp_index() { return thread_index() / kWarp; }

template <class T>
__host__ __device__ inline T least(T a, T b) {
  return a < b ? a : b;
}
template <class T>
__host__ __device__ inline T most(T a, T b) {
  return a > b ? a : b;
}

// Of the values of all threads of a block of whole warps: the warps' sums added in their order. `partial` has
// a float for each warp.
__device__ inline float block_sum(float value, float* partial) {
  const float of_warp = warp_sum(value);
  if (lane_index() == 0) partial[warp_index()] = of_warp;
  sync_block();
  float sum = 0.0f;
  for (int i = 0; i < n_threads() / kWarp; ++i) sum += partial[i];
  sync_block();
  return sum;
}

__device__ inline float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::silu:
      return x / (1.0f + expf(-x));
    case Activation::sigmoid:
      return 1.0f / (1.0f + expf(-x));
    case Activation::gelu_tanh:
      return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case Activation::gelu_erf:
      return 0.5f * x * erfcf(-0.70710678118f * x);
    case Activation::quick_gelu:
      return x / (1.0f + expf(-1.702f * x));
  }
  return x;
}

// softcap * tanh(y / softcap), or y itself when softcap is 0.
__device__ inline float soft_capped(float y, float softcap) {
  return softcap > 0.0f ? softcap * tanhf(y / softcap) : y;
}

// Element 0 of a tensor, or nullptr where there is none.
inline float* floats_of(const Tensor& tensor) { return tensor ? tensor.f32() : nullptr; }
inline const int32_t* ints_of(const Tensor& tensor) { return tensor ? tensor.i32() : nullptr; }

inline int64_t n_blocks_for(int64_t n, int64_t n_each) { return (n + n_each - 1) / n_each; }

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
