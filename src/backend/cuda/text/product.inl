// Products with weights (product.h). Two kernels: in float32, and in bfloat16 on tensor cores.
#pragma once

#include <span>

#include "backend/cuda/text/formats.inl"
#include "backend/cuda/text/product.h"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {

// Columns that a block computes at once: the kernels are made for these, and choose by how many share a
// matrix.
inline constexpr int kWidths[] = {8, 32, 128};
inline int width_for(int64_t n_columns) {
  if (n_columns <= kWidths[0]) return kWidths[0];
  return n_columns <= 2 * kWidths[1] ? kWidths[1] : kWidths[2];
}

// Slots of experts in tiles of the same expert, made on the device.
struct ExpertOrder {
  // Takes scratch memory, with room for n_floats besides. The tiles suit the products with `weights`.
  ExpertOrder(Machine& machine, const Tensor& experts, std::span<const Tensor> weights, int64_t n_floats);

  int width;                 // of the tiles
  int64_t max_tiles = 0;     // 0: slots are few, and each is a tile of its own
  int32_t* order = nullptr;  // (n_slots) slots by experts
  Tile* tiles = nullptr;     // (max_tiles), those not needed empty
  float* floats;             // (n_floats)
};

// Products of the same x, with the same columns. Columns of experts need an order.
void multiply(Machine& machine, std::span<const Product> products, const ExpertOrder* order = nullptr);

struct ProductArguments {
  Product product;
  int width;
  const uint16_t* rounded;  // x in bfloat16: (n_rows, n_rounded_cols(n_in)); of the first width optional
  const int32_t* order;
  const Tile* tiles;
  int64_t n_tiles;
};
void multiply_floats(Machine& machine, const ProductArguments& arguments);
void multiply_bf16(Machine& machine, const ProductArguments& arguments);

// Rows of x in bfloat16 are whole runs of the kernel, zeros at the end.
inline constexpr int kStep = 32, kRunSteps = 4, kRun = kRunSteps * kStep;
__host__ __device__ inline int64_t n_rounded_cols(int64_t n_in) { return (n_in + kRun - 1) / kRun * kRun; }

__device__ inline Bytes16 rounded(const Eight& values) {
  Bytes16 out;
  for (int i = 0; i < 4; ++i) out.words[i] = bf16_pair(values[2 * i], values[2 * i + 1]);
  return out;
}

// Columns of the tile that this block computes.
__device__ inline Tile tile_of_block(const ProductArguments& a) {
  const Product& p = a.product;
  if (a.tiles != nullptr) return a.tiles[block_x()];
  if (p.columns == Columns::of_experts) {
    const auto slot = static_cast<int32_t>(block_x());
    return {p.experts[slot], slot, 1};
  }
  const int64_t n_of_matrix = p.n_columns / p.n_matrices, matrix = block_x() % p.n_matrices;
  const int64_t first = block_x() / p.n_matrices * a.width;
  return {static_cast<int32_t>(matrix), static_cast<int32_t>(first * p.n_matrices + matrix),
          static_cast<int32_t>(least<int64_t>(a.width, n_of_matrix - first))};
}

__device__ inline int64_t column_of(const ProductArguments& a, const Tile& tile, int i) {
  if (a.order != nullptr) return a.order[tile.first + i];
  return tile.first + i * a.product.n_matrices;
}

__device__ inline void write_output(const Product& p, int32_t matrix, int64_t column, int64_t out,
                                    float sum) {
  float y = p.weigh != nullptr ? p.weigh[column] * sum : sum;
  if (p.bias != nullptr) y += p.bias[matrix * p.bias_stride + out];
  p.out[column * p.out_stride + out] = soft_capped(p.scale * activate(p.activation, y), p.softcap);
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
