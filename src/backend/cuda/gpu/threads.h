// What emulation/threads.h gives kernels, on a GPU. For nvcc alone.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <string_view>

#include "backend/cuda/device.h"
#include "base/error.h"

#define MILLRACE_CUDA_TARGET gpu
#define MILLRACE_UNROLL _Pragma("unroll")
#define MILLRACE_KEEP_LOOP _Pragma("unroll 1")

namespace millrace::cuda::gpu {

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

__device__ inline int thread_index() { return static_cast<int>(threadIdx.x); }
__device__ inline int n_threads() { return static_cast<int>(blockDim.x); }
__device__ inline int64_t block_x() { return blockIdx.x; }
__device__ inline int64_t n_blocks() { return gridDim.x; }
__device__ inline int64_t block_y() { return blockIdx.y; }
__device__ inline int64_t block_z() { return blockIdx.z; }

__device__ inline void sync_block() { __syncthreads(); }
__device__ inline void sync_warp() { __syncwarp(); }
__device__ inline void converge_warp() { __syncwarp(); }
// Of every kLanes threads that follow each other.
template <int kLanes>
__device__ inline float lanes_sum(float value) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  return value;
}
template <int kLanes>
__device__ inline float lanes_max(float value) {
  for (int distance = kLanes / 2; distance > 0; distance /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}
__device__ inline float warp_sum(float value) { return lanes_sum<32>(value); }
__device__ inline float warp_max(float value) { return lanes_max<32>(value); }
__device__ inline float quad_sum(float value) { return lanes_sum<4>(value); }
__device__ inline float quad_max(float value) { return lanes_max<4>(value); }
__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ inline void multiply_add_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline std::byte* shared_memory() {
  extern __shared__ uint4 memory[];
  return reinterpret_cast<std::byte*>(memory);
}
__device__ inline void copy16(std::byte* shared, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(from)
               : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <unsigned kNewest>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewest) : "memory");
}
__device__ inline int atomic_add(int* number, int value) { return atomicAdd(number, value); }

// Ends the kernel and the program's use of the device: a bug, as check() is on the host.
__device__ inline void require(bool ok) {
  if (!ok) __trap();
}
__device__ inline float float_of_f16_bits(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ inline uint16_t f16_bits_of_float(float value) { return __half_as_ushort(__float2half_rn(value)); }
__device__ inline uint32_t bf16_pair(float low, float high) {
  const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &both, sizeof bits);
  return bits;
}

__device__ inline uint32_t f16_pair(float low, float high) {
  const __half2 both = __floats2half2_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &both, sizeof bits);
  return bits;
}

struct Bytes16 {
  uint32_t words[4];
};
__device__ inline Bytes16 load16(const void* from) {
  const uint4 all = *static_cast<const uint4*>(from);
  return {{all.x, all.y, all.z, all.w}};
}
__device__ inline void store16(void* to, const Bytes16& bytes) {
  *static_cast<uint4*>(to) = {bytes.words[0], bytes.words[1], bytes.words[2], bytes.words[3]};
}
// Where lane i says a row of a matrix begins.
__device__ inline uint32_t row_of_matrices(const std::byte* shared, int row_bytes, int second, int third) {
  const auto lane = static_cast<int>(threadIdx.x % 32), matrix = lane / 8;
  return static_cast<uint32_t>(
      __cvta_generic_to_shared(shared + lane % 8 * row_bytes + matrix % 2 * second + matrix / 2 * third));
}
__device__ inline Bytes16 load_matrices(const std::byte* shared, int row_bytes, int second, int third) {
  Bytes16 out;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out.words[0]), "=r"(out.words[1]), "=r"(out.words[2]), "=r"(out.words[3])
               : "r"(row_of_matrices(shared, row_bytes, second, third))
               : "memory");
  return out;
}
__device__ inline Bytes16 load_transposed(const std::byte* shared, int row_bytes, int second, int third) {
  Bytes16 out;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out.words[0]), "=r"(out.words[1]), "=r"(out.words[2]), "=r"(out.words[3])
               : "r"(row_of_matrices(shared, row_bytes, second, third))
               : "memory");
  return out;
}
template <class Word>
__device__ inline Word load(const void* from) {
  return *static_cast<const Word*>(from);
}

// Throws Error(runtime), or Error(does_not_fit) where memory is short.
void expect_success(cudaError_t status, std::string_view what);

template <class Arguments>
void launch(Machine& machine, void (*kernel)(Arguments), const Grid& grid, int n_threads, size_t shared_bytes,
            const Arguments& arguments) {
  if (machine.is_measuring() || grid.x * grid.y * grid.z == 0) return;
  auto* const stream = static_cast<cudaStream_t>(machine.device.stream());  // this thread is on its GPU now
  const auto* const function = reinterpret_cast<const void*>(kernel);
  constexpr size_t kWithoutAsking = size_t{48} << 10;
  if (shared_bytes > kWithoutAsking) {
    expect_success(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(kMaxSharedBytes)),
                   "shared memory of a kernel");
  }
  void* parameters[] = {const_cast<Arguments*>(&arguments)};
  const auto dim = [](int64_t n) { return static_cast<unsigned>(n); };
  expect_success(cudaLaunchKernel(function, dim3(dim(grid.x), dim(grid.y), dim(grid.z)), dim3(dim(n_threads)),
                                  parameters, shared_bytes, stream),
                 "the launch of a kernel");
}

}  // namespace millrace::cuda::gpu
