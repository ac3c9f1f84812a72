// The kernel of all products (product.h), in two sizes: one column, and some.
#pragma once

#include "backend/cuda/text/formats.inl"
#include "backend/cuda/text/product.h"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {

// Slots of experts in tiles of the same expert, made on the device.
struct ExpertOrder {
  // Takes scratch memory, with room for n_floats besides.
  ExpertOrder(Machine& machine, const Tensor& experts, int64_t n_experts, int64_t n_floats);

  int64_t max_tiles = 0;     // 0: slots are few, and each is a tile of its own
  int32_t* order = nullptr;  // (n_slots) slots by experts, ascending within
  Tile* tiles = nullptr;     // (max_tiles), those not needed empty
  float* floats;             // (n_floats)
};

// Columns of experts need an order.
void multiply(Machine& machine, const Product& product, const ExpertOrder* order = nullptr);

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
