#include "backend/cpu/inputs.h"

namespace millrace::cpu {

InputViews::InputViews(const Kernels& kernels, std::initializer_list<Tensor> weights) {
  for (const Tensor& weight : weights) {
    const InputKind kind = kernels.matmul[static_cast<size_t>(weight.dtype)].input;
    has_int8_32 |= kind == InputKind::int8_32;
    has_int8_256 |= kind == InputKind::int8_256;
  }
}

InputMemory::InputMemory(Carver& carver, InputViews views, int64_t n_rows, int64_t n_in) {
  if (views.has_int8_32) {
    int8_32 = carver.take<int8_t>(n_rows * n_in);
    scale32 = carver.take<InputScale32>(n_rows * (n_in / 32));
  }
  if (views.has_int8_256) {
    int8_256 = carver.take<int8_t>(n_rows * n_in);
    scale256 = carver.take<InputScale256>(n_rows * (n_in / 256));
  }
}

Inputs prepare_inputs(Machine& machine, const Tensor& x, InputViews views, const InputMemory& memory) {
  const int64_t n_in = x.n_cols();
  const Inputs inputs{.n_in = n_in,
                      .f32 = x.f32(),
                      .int8_32 = memory.int8_32,
                      .scale32 = memory.scale32,
                      .int8_256 = memory.int8_256,
                      .scale256 = memory.scale256};
  if (!views.has_int8_32 && !views.has_int8_256) return inputs;
  for_each_row(machine, x.n_rows(), n_in, [&](int64_t r, int) {
    const float* row = x.f32() + r * n_in;
    if (views.has_int8_32)
      machine.kernels.quantize32(row, n_in, memory.int8_32 + r * n_in, memory.scale32 + r * (n_in / 32));
    if (views.has_int8_256)
      machine.kernels.quantize256(row, n_in, memory.int8_256 + r * n_in, memory.scale256 + r * (n_in / 256));
  });
  return inputs;
}

}  // namespace millrace::cpu
