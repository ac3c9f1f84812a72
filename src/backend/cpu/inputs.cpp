#include "backend/cpu/inputs.h"

namespace millrace::cpu {
namespace {

constexpr int64_t kBlocks32 = kSpan / 32;  // of a span

// In bytes. A task has but some of many columns, at most so many that they fit the second level of cache:
// there its quarters must not fall into the same sets.
int64_t quarter_stride_of(int64_t n_columns) {
  if (n_columns <= 128) return n_columns * kQuarter;
  const int64_t n = (n_columns + 127) / 128;
  return (n | 1) * 128 * kQuarter;
}

constexpr int64_t kLinesABlock = int64_t{kPairsBf16} * kPartsBf16;
int64_t n_blocks_of(int64_t n_in) { return (n_in + kBlockBf16 - 1) / kBlockBf16; }
int64_t n_tiles_of(int64_t n_columns) { return (n_columns + kTileColumnsAmx - 1) / kTileColumnsAmx; }
// Of few columns, narrow lines: they are read once for each strip.
int64_t bf16_line_of(int64_t n_columns) {
  constexpr int64_t kFew = 4;
  return n_columns <= kFew ? kFew : kTileColumnsAmx;
}

// Fills Inputs::bf16; row_of(c) is column c.
template <class RowOf>
void split_columns(Machine& machine, const Inputs& inputs, uint32_t* out, const RowOf& row_of) {
  const int64_t n_in = inputs.n_in;
  for_each_row(machine, n_tiles_of(inputs.n_columns), kTileColumnsAmx * n_in, [&](int64_t tile, int) {
    const int64_t first = tile * kTileColumnsAmx;
    const auto n = static_cast<int>(std::min<int64_t>(kTileColumnsAmx, inputs.n_columns - first));
    const float* columns[kTileColumnsAmx];
    for (int c = 0; c < n; ++c) columns[c] = row_of(first + c);
    for (int64_t block = 0; block < n_blocks_of(n_in); ++block) {
      uint32_t* lines = out + (tile * n_blocks_of(n_in) + block) * kLinesABlock * inputs.bf16_line;
      machine.kernels.split_bf16(columns, n, n_in, block, lines, inputs.bf16_line);
    }
  });
}

}  // namespace

InputViews::InputViews(const Kernels& kernels, std::initializer_list<Tensor> weights) {
  for (const Tensor& weight : weights) {
    const InputKind kind = kernels.matmul[static_cast<size_t>(weight.dtype)].input;
    has_int8_32 |= kind == InputKind::int8_32;
    has_int8_256 |= kind == InputKind::int8_256;
    has_pairs |= kind == InputKind::int8_256 && kernels.reads_pairs;
    has_bf16 |= kind == InputKind::bf16_pairs;
    has_f32 |= kind == InputKind::f32;
  }
}

int64_t InputViews::max_columns(int64_t n_in) const {
  constexpr int64_t kStep = 2 * kTileColumnsAmx;  // what a kernel takes at a time
  const int64_t fewest = has_bf16 ? kStep : 2 * kStep;
  return std::clamp(n_cached() / n_in / kStep * kStep, fewest, kMaxColumns);
}

InputMemory::InputMemory(Carver& carver, InputViews views, int64_t n_columns, int64_t n_in) {
  const int64_t n_spans = n_spans_of(n_in) * n_columns;
  if (views.has_int8_32) {
    int8_32 = carver.take<int8_t>((n_spans + kColumnsBehind) * kSpan);
    scale32 = carver.take<InputScale32>((n_spans + kColumnsBehind) * kBlocks32);
  }
  if (views.has_int8_256) {
    int8_256 =
        carver.take<int8_t>(n_spans_of(n_in) * 4 * quarter_stride_of(n_columns) + kColumnsBehind * kQuarter);
    scale256 = carver.take<float>(n_spans + kColumnsBehind);
    sums256 = carver.take<InputSums256>(n_spans + kColumnsBehind);
    if (views.has_pairs) pairs256 = carver.take<InputPairs256>(n_spans + kColumnsBehind);
  }
  if (views.has_bf16)
    bf16 = carver.take<uint32_t>(n_tiles_of(n_columns) * n_blocks_of(n_in) * kLinesABlock *
                                 bf16_line_of(n_columns));
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
                      .quarter_stride = quarter_stride_of(n_columns),
                      .scale256 = memory.scale256,
                      .sums256 = memory.sums256,
                      .pairs256 = memory.pairs256,
                      .bf16 = memory.bf16,
                      .bf16_line = bf16_line_of(n_columns)};
  const auto row_of = [&](int64_t c) {
    return x.f32() + (rows.empty() ? c : rows[static_cast<size_t>(c)]) * n_in;
  };
  if (views.has_bf16) split_columns(machine, inputs, memory.bf16, row_of);
  if (!views.has_int8_32 && !views.has_int8_256) return inputs;
  const Kernels& kernels = machine.kernels;
  const int64_t quarter_stride = inputs.quarter_stride;
  for_each_row(machine, n_columns, n_in, [&](int64_t c, int) {
    const float* row = row_of(c);
    for (int64_t span = 0; span < n_spans_of(n_in); ++span) {
      const int64_t at = span * n_columns + c, q_at = 4 * span * quarter_stride + c * kQuarter;
      const float* values = row + span * kSpan;
      if (views.has_int8_32) {
        kernels.quantize32(values, std::min<int64_t>(kSpan, n_in - span * kSpan), memory.int8_32 + at * kSpan,
                           memory.scale32 + at * kBlocks32);
      }
      if (views.has_int8_256) {
        memory.scale256[at] =
            kernels.quantize256(values, memory.int8_256 + q_at, quarter_stride, memory.sums256 + at,
                                views.has_pairs ? memory.pairs256 + at : nullptr);
      }
    }
  });
  return inputs;
}

}  // namespace millrace::cpu
