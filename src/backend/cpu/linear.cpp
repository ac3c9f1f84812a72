#include <algorithm>
#include <cstring>

#include "backend/cpu/matmul.h"

namespace millrace::cpu {
namespace {

// Adds the bias to a strip's row of products, in place.
void add_bias(const Context& context, const Strip& strip, const Tensor& bias, float* products) {
  if (bias) context.kernels.add(products, bias.f32() + strip.first, strip.n_rows);
}

void finish_product(const Context& context, const Linear& op, const Product& product, const Strip& strip,
                    int64_t column) {
  float* from = const_cast<float*>(strip.products) + column * strip.stride;
  add_bias(context, strip, product.bias, from);
  if (op.scale != 1.0f) context.kernels.scale(from, op.scale, strip.n_rows);
  if (op.softcap > 0.0f) context.kernels.softcap(from, op.softcap, strip.n_rows);
  float* to = product.out.f32() + column * product.weight.dim(0) + strip.first;
  std::memcpy(to, from, static_cast<size_t>(strip.n_rows) * sizeof(float));
}

}  // namespace

void compute(Context& context, const Linear& op) {
  const int64_t n_rows = op.x.dim(0);
  if (n_rows == 0) return;
  Dtype formats[3];
  int64_t first_task[4] = {0};
  for (int i = 0; i < op.n_products; ++i) {
    formats[i] = op.products[i].weight.dtype;
    first_task[i + 1] = first_task[i] + n_strips(context, op.products[i].weight.dim(0));
  }
  const Inputs inputs = quantize_inputs(context, op.x, {formats, static_cast<size_t>(op.n_products)});
  const std::span<const int32_t> columns = all_columns(context, n_rows);
  context.pool.run(static_cast<int>(first_task[op.n_products]), [&](int task, int thread) {
    int i = 0;
    while (task >= first_task[i + 1]) ++i;
    const Product& product = op.products[i];
    const Strip strip =
        multiply_strip(context, thread, 0, product.weight, inputs, columns, task - first_task[i]);
    for (int64_t c = 0; c < n_rows; ++c) finish_product(context, op, product, strip, c);
  });
}

void compute(Context& context, const LinearGated& op) {
  const int64_t n_rows = op.x.dim(0), n_out = op.gate.dim(0);
  if (n_rows == 0) return;
  const Dtype formats[2] = {op.gate.dtype, op.up.dtype};
  const Inputs inputs = quantize_inputs(context, op.x, formats);
  const std::span<const int32_t> columns = all_columns(context, n_rows);
  const auto activate =
      op.activation == Activation::silu ? context.kernels.silu_mul : context.kernels.gelu_mul;
  context.pool.run(static_cast<int>(n_strips(context, n_out)), [&](int task, int thread) {
    const Strip gate = multiply_strip(context, thread, 0, op.gate, inputs, columns, task);
    const Strip up = multiply_strip(context, thread, 1, op.up, inputs, columns, task);
    for (int64_t c = 0; c < n_rows; ++c) {
      float* g = const_cast<float*>(gate.products) + c * gate.stride;
      float* u = const_cast<float*>(up.products) + c * up.stride;
      add_bias(context, gate, op.gate_bias, g);
      add_bias(context, up, op.up_bias, u);
      activate(g, u, op.out.f32() + c * n_out + gate.first, gate.n_rows);
    }
  });
}

}  // namespace millrace::cpu
