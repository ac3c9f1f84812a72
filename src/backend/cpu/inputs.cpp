#include "backend/cpu/inputs.h"

namespace millrace::cpu {
namespace {

constexpr int64_t kBlocks32 = kSpan / 32;  // of a span

int64_t n_spans_of(int64_t n_in) { return (n_in + kSpan - 1) / kSpan; }

}  // namespace

InputViews::InputViews(const Kernels& kernels, std::initializer_list<Tensor> weights) {
  for (const Tensor& weight : weights) {
    const InputKind kind = kernels.matmul[static_cast<size_t>(weight.dtype)].input;
    has_int8_32 |= kind == InputKind::int8_32;
    has_int8_256 |= kind == InputKind::int8_256;
  }
}

InputMemory::InputMemory(Carver& carver, InputViews views, int64_t n_columns, int64_t n_in) {
  const int64_t n_spans = n_spans_of(n_in) * n_columns;
  if (views.has_int8_32) {
    int8_32 = carver.take<int8_t>(n_spans * kSpan);
    scale32 = carver.take<InputScale32>(n_spans * kBlocks32);
  }
  if (views.has_int8_256) {
    int8_256 = carver.take<int8_t>((n_spans + kColumnsBehind) * kSpan);
    scale256 = carver.take<InputScale256>(n_spans);
  }
}

Inputs prepare_inputs(Machine& machine, const Tensor& x, InputViews views, const InputMemory& memory,
                      std::span<const int32_t> rows) {
  const int64_t n_in = x.n_cols();
  const int64_t n_columns = rows.empty() ? x.n_rows() : static_cast<int64_t>(rows.size());
  const Inputs inputs{.n_in = n_in,
                      .n_columns = n_columns,
                      .f32 = x.f32(),
                      .rows = rows.empty() ? nullptr : rows.data(),
                      .int8_32 = memory.int8_32,
                      .scale32 = memory.scale32,
                      .int8_256 = memory.int8_256,
                      .scale256 = memory.scale256};
  if (!views.has_int8_32 && !views.has_int8_256) return inputs;
  for_each_row(machine, n_columns, n_in, [&](int64_t c, int) {
    const float* row = x.f32() + (rows.empty() ? c : rows[static_cast<size_t>(c)]) * n_in;
    for (int64_t span = 0; span < n_spans_of(n_in); ++span) {
      const int64_t at = span * n_columns + c;
      const float* values = row + span * kSpan;
      if (views.has_int8_32) {
        machine.kernels.quantize32(values, std::min<int64_t>(kSpan, n_in - span * kSpan),
                                   memory.int8_32 + at * kSpan, memory.scale32 + at * kBlocks32);
      }
      if (views.has_int8_256)
        machine.kernels.quantize256(values, memory.int8_256 + at * kSpan, memory.scale256 + at);
    }
  });
  return inputs;
}

}  // namespace millrace::cpu
