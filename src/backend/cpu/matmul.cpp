#include "backend/cpu/matmul.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace millrace::cpu {
namespace {

const Matmul& matmul_of(const Context& context, Dtype dtype) {
  return context.kernels.matmul[static_cast<int>(dtype)];
}

// Fewer rows than a group: copied, the last one again and again, so that the kernel reads no foreign memory.
const std::byte* padded_group(Context& context, int thread, int group, const std::byte* rows, int64_t n_rows,
                              int64_t row_bytes) {
  const int64_t n_lanes = context.kernels.n_lanes;
  std::byte* out =
      context.threads[static_cast<size_t>(thread)].padded_rows.take(kStripGroups * n_lanes * row_bytes) +
      group * n_lanes * row_bytes;
  for (int64_t r = 0; r < n_lanes; ++r) {
    std::memcpy(out + r * row_bytes, rows + std::min(r, n_rows - 1) * row_bytes,
                static_cast<size_t>(row_bytes));
  }
  return out;
}

}  // namespace

Inputs quantize_inputs(Context& context, const Tensor& x, std::span<const Dtype> formats) {
  const int64_t n_rows = x.dim(0), n_in = x.dim(1);
  Inputs inputs{.n_in = n_in, .f32 = x.f32()};
  const auto is_needed = [&](InputKind kind) {
    return std::ranges::any_of(formats, [&](Dtype dtype) { return matmul_of(context, dtype).input == kind; });
  };
  int8_t* q32 = nullptr;
  int8_t* q256 = nullptr;
  InputScale32* s32 = nullptr;
  InputScale256* s256 = nullptr;
  if (is_needed(InputKind::int8_32)) {
    inputs.int8_32 = q32 = context.inputs.int8_32.take(n_rows * n_in);
    inputs.scale32 = s32 = context.inputs.scale32.take(n_rows * n_in / 32);
  }
  if (is_needed(InputKind::int8_256)) {
    inputs.int8_256 = q256 = context.inputs.int8_256.take(n_rows * n_in);
    inputs.scale256 = s256 = context.inputs.scale256.take(n_rows * n_in / 256);
  }
  if (q32 == nullptr && q256 == nullptr) return inputs;
  context.pool.run(static_cast<int>(n_rows), [&](int r, int) {
    const float* row = inputs.f32 + r * n_in;
    if (q32 != nullptr) context.kernels.quantize32(row, n_in, q32 + r * n_in, s32 + r * (n_in / 32));
    if (q256 != nullptr) context.kernels.quantize256(row, n_in, q256 + r * n_in, s256 + r * (n_in / 256));
  });
  return inputs;
}

int64_t strip_rows(const Context& context) { return int64_t{kStripGroups} * context.kernels.n_lanes; }

Strip multiply_strip(Context& context, int thread, int which, const Tensor& weight, const Inputs& inputs,
                     std::span<const int32_t> columns, int64_t strip) {
  const Matmul& matmul = matmul_of(context, weight.dtype);
  ThreadScratch& scratch = context.threads[static_cast<size_t>(thread)];
  const int64_t n_lanes = context.kernels.n_lanes;
  const int64_t first = strip * strip_rows(context);
  const int64_t n_rows = std::min(strip_rows(context), weight.dim(0) - first);
  const int64_t row_bytes = weight.row_bytes();
  StripProduct product{.n_groups = static_cast<int>((n_rows + n_lanes - 1) / n_lanes),
                       .row_bytes = row_bytes,
                       .inputs = &inputs,
                       .columns = columns.data(),
                       .n_columns = static_cast<int>(columns.size())};
  for (int g = 0; g < product.n_groups; ++g) {
    const std::byte* rows = weight.row(first + g * n_lanes);
    const int64_t n_left = n_rows - g * n_lanes;
    product.groups[g] = n_left >= n_lanes ? rows : padded_group(context, thread, g, rows, n_left, row_bytes);
  }
  const int64_t stride = product.n_groups * n_lanes;
  product.panel = scratch.panel.take(matmul.panel_bytes(inputs.n_in));
  product.out = scratch.products[which].take(static_cast<int64_t>(columns.size()) * strip_rows(context));
  matmul.multiply(product);
  return {.products = product.out, .stride = stride, .first = first, .n_rows = n_rows};
}

std::span<const int32_t> all_columns(Context& context, int64_t n) {
  int32_t* columns = context.columns.take(n);
  std::iota(columns, columns + n, 0);
  return {columns, static_cast<size_t>(n)};
}

}  // namespace millrace::cpu
