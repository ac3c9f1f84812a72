// What the machine does at most: reads of memory, and products of the instruction that kernels use.
#include <chrono>

#include "backend/cuda/text/compute.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kLimitThreads = 256, kLimitBlocks = 8;  // a processor

struct ReadArguments {
  const std::byte* from;
  int64_t n_loads;  // of 16 bytes
  uint32_t* sums;   // of every thread: nothing is read that nobody needs
};

__global__ void read_kernel(ReadArguments a) {
  constexpr int kAhead = 4;
  const int64_t thread = block_x() * n_threads() + thread_index();
  const int64_t n_all = int64_t{a.n_loads} / kAhead;  // a quarter of the memory after another
  uint32_t sum = 0;
  for (int64_t i = thread; i < n_all; i += n_blocks() * n_threads()) {
    Bytes16 loaded[kAhead];
    MILLRACE_UNROLL
    for (int j = 0; j < kAhead; ++j) loaded[j] = load16(a.from + (j * n_all + i) * 16);
    MILLRACE_UNROLL
    for (int j = 0; j < kAhead; ++j)
      sum += loaded[j].words[0] ^ loaded[j].words[1] ^ loaded[j].words[2] ^ loaded[j].words[3];
  }
  a.sums[thread] = sum;
}

constexpr int kChains = 8;  // products of a warp that do not wait for each other

struct MultiplyArguments {
  int n_rounds;
  float* sums;  // of every thread
};

__global__ void multiply_kernel(MultiplyArguments a) {
  const uint32_t ones = bf16_pair(1.0f, 1.0f);
  const uint32_t left[4] = {ones, ones, ones, ones}, right[2] = {ones, ones};
  float d[kChains][4] = {};
  for (int i = 0; i < a.n_rounds; ++i) {
    MILLRACE_UNROLL
    for (int j = 0; j < kChains; ++j) multiply_add(d[j], left, right);
  }
  float sum = 0.0f;
  MILLRACE_UNROLL
  for (int i = 0; i < kChains * 4; ++i) sum += d[i / 4][i % 4];
  a.sums[block_x() * n_threads() + thread_index()] = sum;
}

// The best of some times, each of a kernel by itself: what launching costs is part of it.
template <class Body>
double best_seconds(Device& device, const Body& body) {
  double best = 1e9;
  for (int i = 0; i < 6; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    device.wait();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

DeviceLimits measure_limits(Machine& machine, const Effort& effort) {
  const int64_t n_blocks = int64_t{machine.device.n_processors()} * kLimitBlocks;
  const int64_t n_bytes = machine.device.n_processors() * effort.bytes_a_processor;
  const Buffer memory(static_cast<size_t>(n_bytes), machine.device);
  Buffer sums(static_cast<size_t>(n_blocks) * kLimitThreads * sizeof(float), machine.device);
  const double read_s = best_seconds(machine.device, [&] {
    launch(machine, read_kernel, {n_blocks}, kLimitThreads, 0,
           ReadArguments{memory.data(), n_bytes / 16, reinterpret_cast<uint32_t*>(sums.data())});
  });
  const double multiply_s = best_seconds(machine.device, [&] {
    launch(machine, multiply_kernel, {n_blocks}, kLimitThreads, 0,
           MultiplyArguments{effort.n_rounds, reinterpret_cast<float*>(sums.data())});
  });
  const double flops =
      2.0 * 16 * 8 * 16 * kChains * effort.n_rounds * kLimitThreads / kWarp * static_cast<double>(n_blocks);
  return {.read_bytes_per_second = static_cast<double>(n_bytes) / read_s,
          .bf16_flops_per_second = flops / multiply_s};
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
