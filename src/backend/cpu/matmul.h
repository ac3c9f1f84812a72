// Products of weights and activations, strip by strip: what linear and the mixture-of-experts ops are made
// of.
#pragma once

#include "backend/cpu/compute.h"

namespace millrace::cpu {

// Quantises the rows of x (n_rows, n_in) as the weights of those formats need them, on all threads. The views
// lie in context.inputs until the next call.
Inputs quantize_inputs(Context& context, const Tensor& x, std::span<const Dtype> formats);

// Rows a strip: kStripGroups groups of lanes.
int64_t strip_rows(const Context& context);
inline int64_t n_strips(const Context& context, int64_t n_out) {
  return (n_out + strip_rows(context) - 1) / strip_rows(context);
}

// Strip `strip` of `weight` (n_out, n_in) times columns[0 .. n_columns) of the inputs.
struct Strip {
  const float* products;  // (n_columns, stride) in the thread's scratch `which`
  int64_t stride;
  int64_t first;   // weight row of products[0]
  int64_t n_rows;  // that count; fewer than stride at the end of the weight
};
Strip multiply_strip(Context& context, int thread, int which, const Tensor& weight, const Inputs& inputs,
                     std::span<const int32_t> columns, int64_t strip);

// 0, 1, ... n - 1, in context.columns.
std::span<const int32_t> all_columns(Context& context, int64_t n);

}  // namespace millrace::cpu
