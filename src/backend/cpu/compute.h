// What the ops of the CPU backend share: kernels, threads, scratch memory; and the ops, one function each.
#pragma once

#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/cpu/scratch.h"
#include "backend/ops.h"
#include "base/thread_pool.h"

namespace millrace::cpu {

// Activations in every view that some weight needs.
struct QuantizedInputs {
  Scratch<int8_t> int8_32, int8_256;
  Scratch<InputScale32> scale32;
  Scratch<InputScale256> scale256;
};

// One thread's own.
struct ThreadScratch {
  Scratch<std::byte> panel;
  Scratch<std::byte> padded_rows;
  Scratch<float> products[2];
  Scratch<float> floats;
  Scratch<const std::byte*> pointers;
  Scratch<int32_t> ints;
};

struct Context {
  Context(const Kernels& table, int n_threads)
      : kernels(table), pool(n_threads), threads(static_cast<size_t>(n_threads)) {}

  const Kernels& kernels;
  ThreadPool pool;
  std::vector<ThreadScratch> threads;
  QuantizedInputs inputs;
  Scratch<int32_t> columns;
  Scratch<int32_t> routes;
  Scratch<float> floats;
};

void compute(Context& context, const Embed& op);
void compute(Context& context, const Linear& op);
void compute(Context& context, const LinearGated& op);
void compute(Context& context, const Norm& op);
void compute(Context& context, const Add& op);
void compute(Context& context, const RopeStoreKv& op);
void compute(Context& context, const PagedAttention& op);
void compute(Context& context, const Route& op);
void compute(Context& context, const MoeGated& op);
void compute(Context& context, const MoeDown& op);
void compute(Context& context, const GatherRows& op);

}  // namespace millrace::cpu
