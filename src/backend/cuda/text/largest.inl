// The largest of many numbers, chosen by a block of kSelectThreads threads.
#pragma once

#include <bit>

#include "backend/cuda/text/threads.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kSelectThreads = 256;

// Larger floats have larger keys.
__device__ inline uint32_t key_of(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // one zero
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// What a block finds out together.
struct SelectShared {
  int counts[256];             // of keys by eight of their bits
  int before[kSelectThreads];  // places that threads before this one fill
  int equal[kSelectThreads];   // keys at the limit that they have
  uint32_t limit;              // the key of the last that is chosen
  int n_equal;                 // keys at the limit that are chosen: the first ones
};

// Finds the n-th largest key, eight bits after another. n is at most n_keys.
__device__ inline void find_limit(const float* scores, int64_t n_keys, int64_t n, SelectShared& shared) {
  uint32_t prefix = 0;
  auto n_left = static_cast<int>(n);
  for (int shift = 24; shift >= 0; shift -= 8) {
    shared.counts[thread_index()] = 0;
    sync_block();
    for (int64_t j = thread_index(); j < n_keys; j += kSelectThreads) {
      const uint32_t key = key_of(scores[j]);
      if (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8))
        atomic_add(&shared.counts[key >> shift & 255], 1);
    }
    sync_block();
    if (thread_index() == 0) {
      int digit = 255;
      for (; shared.counts[digit] < n_left; --digit) n_left -= shared.counts[digit];
      shared.limit = prefix | static_cast<uint32_t>(digit) << shift;
      shared.n_equal = n_left;
    }
    sync_block();
    prefix = shared.limit;
    n_left = shared.n_equal;
  }
}

// Sums of what the threads before this one have. The values stay: of each call its own.
__device__ inline int sum_before(int* values, int own) {
  values[thread_index()] = own;
  sync_block();
  int sum = 0;
  for (int i = 0; i < thread_index(); ++i) sum += values[i];
  return sum;
}

// Calls chosen(at, j) for the n largest of `scores`, the first of equal ones, by number: `at` counts them,
// and j ascends with it. Each thread takes a run of the scores.
template <class Chosen>
__device__ inline void choose_largest(const float* scores, int64_t n_scores, int64_t n, SelectShared& shared,
                                      const Chosen& chosen) {
  find_limit(scores, n_scores, n, shared);
  const int64_t n_run = (n_scores + kSelectThreads - 1) / kSelectThreads;
  const int64_t begin = least(n_scores, thread_index() * n_run), end = least(n_scores, begin + n_run);
  int n_larger = 0, n_equal = 0;
  for (int64_t j = begin; j < end; ++j) {
    n_larger += key_of(scores[j]) > shared.limit ? 1 : 0;
    n_equal += key_of(scores[j]) == shared.limit ? 1 : 0;
  }
  int equal_before = sum_before(shared.equal, n_equal);
  const int n_equal_taken = most(0, least(n_equal, shared.n_equal - equal_before));
  int64_t at = sum_before(shared.before, n_larger + n_equal_taken);
  for (int64_t j = begin; j < end; ++j) {
    const uint32_t key = key_of(scores[j]);
    const bool is_taken = key > shared.limit || (key == shared.limit && equal_before++ < shared.n_equal);
    if (is_taken) chosen(at++, j);
  }
}

}  // namespace
}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
