// What this machine can do at most, measured: the figures that every claim of speed stands beside.
#pragma once

#include <string_view>

#include "base/thread_pool.h"

namespace millrace {

struct MachineLimits {
  double read_bytes_per_second;  // sequential reads of memory far larger than the caches
  double f32_flops_per_second;   // float32 multiply-adds in registers, two each
  double int8_flops_per_second;  // the same of 8-bit integers
  std::string_view vectors;      // what the peaks were measured with: "AVX-512 VNNI", "AVX2", "plain C++"
};

// Takes about a second, and a gibibyte of memory; throws Error(does_not_fit) where it cannot be had. Another
// program that computes at the same time makes the limits look lower.
MachineLimits measure_limits(ThreadPool& pool);

}  // namespace millrace
