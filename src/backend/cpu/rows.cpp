// Ops that treat every row by itself.
#include <cmath>

#include "backend/cpu/compute.h"

namespace millrace::cpu {
namespace {

// A row of gates after the cut.
struct CutScratch {
  CutScratch(Carver& carver, int64_t n_cols) : gate(carver.take<float>(n_cols)) {}
  float* gate;
};

struct TableRow {
  TableRow(Carver& carver, const Tensor& table) : bytes(carver.take<std::byte>(table.row_bytes())) {}

  std::byte* bytes;
};

}  // namespace

// The table may be the head, too, of which there is a copy: then nothing is read beside it.
void compute(Machine& machine, const Embed& op) {
  const int64_t hidden = op.out.n_cols();
  const int64_t n_copies = op.out.n_rows() / std::max<int64_t>(1, op.out.dim(0));
  const Format& format = format_of(op.table.dtype);
  const Weight table = machine.read(op.table);
  machine.scratch.reserve<TableRow>(op.table);
  for_each_row(machine, op.out.dim(0), n_copies * hidden, [&](int64_t r, int thread) {
    int32_t token = op.tokens.i32()[r];
    if (op.has_fallback && token >= op.table.dim(0)) token = 0;
    check(token >= 0 && token < op.table.dim(0), "a token outside of the vocabulary");
    float* out = op.out.f32() + r * n_copies * hidden;
    const auto scratch = machine.scratch.of_thread<TableRow>(thread, op.table);
    const std::byte* row = table.row(machine.kernels, token, scratch.bytes);
    format.decode(row + n_bytes_of(op.table.dtype, op.first_col), out, hidden);
    if (op.scale != 1.0f) machine.kernels.scale(out, op.scale, hidden);
    for (int64_t i = 1; i < n_copies; ++i) std::copy_n(out, hidden, out + i * hidden);
  });
}

void compute(Machine& machine, const Gate& op) {
  const Kernels& kernels = machine.kernels;
  const int64_t n_cols = op.out.n_cols();
  const auto gate_row = kernels.gate[static_cast<size_t>(op.activation)];
  machine.scratch.reserve<CutScratch>(n_cols);
  for_each_row(machine, op.out.dim(0), n_cols, [&](int64_t r, int thread) {
    const float* gate = op.gate.f32() + (op.gate.n_dims == 1 ? 0 : r * n_cols);
    if (std::isfinite(op.cutoff)) {
      const auto scratch = machine.scratch.of_thread<CutScratch>(thread, n_cols);
      const float least = kernels.cutoff({.x = gate, .n = n_cols, .n_deviations = op.cutoff});
      kernels.cut(gate, least, scratch.gate, n_cols);
      gate = scratch.gate;
    }
    gate_row(gate, op.x.f32() + r * n_cols, op.out.f32() + r * n_cols, n_cols);
  });
}

void compute(Machine& machine, const MatchRms& op) {
  const Kernels& kernels = machine.kernels;
  const int64_t n_cols = op.out.n_cols();
  for_each_row(machine, op.out.dim(0), n_cols, [&](int64_t r, int) {
    const float* x = op.x.f32() + r * n_cols;
    float* out = op.out.f32() + r * n_cols;
    const float wanted = std::sqrt(kernels.mean_square(op.like.f32() + r * n_cols, n_cols));
    const float found = std::sqrt(std::max(kernels.mean_square(x, n_cols), kLeastMeanSquare));
    if (out != x) std::copy_n(x, n_cols, out);
    kernels.scale(out, wanted / found, n_cols);
  });
}

void compute(Machine& machine, const MixStreams& op) {
  const Kernels& kernels = machine.kernels;
  const int64_t n_cols = op.x[0].n_cols();
  for_each_row(machine, op.weights.dim(0), op.n_streams * n_cols, [&](int64_t r, int) {
    const float* weights = op.weights.f32() + r * op.weights.n_cols();
    for (int i = 0; i < op.n_streams; ++i) {
      const float* x = op.x[i].f32() + r * n_cols;
      float* out = op.out[i].f32() + r * n_cols;
      if (out != x) std::copy_n(x, n_cols, out);
      for (int j = 0; j < op.n_inputs; ++j) {
        const float weight = weights[i * op.n_inputs + j] + op.offset;
        kernels.weighted_add(out, op.y[j].f32() + r * n_cols, weight, n_cols);
      }
    }
  });
}

// A row of the loop is a vector that is normed: where each head has a weight of its own, vector r is of head
// r modulo their number.
void compute(Machine& machine, const Norm& op) {
  const Kernels& kernels = machine.kernels;
  const int64_t n_cols = op.x.n_cols();
  const auto norm = op.kind == NormKind::layer ? kernels.layer_norm : kernels.rms_norm;
  const auto vector_of = [n_cols](const Tensor& vectors, int64_t r) -> const float* {
    if (!vectors) return nullptr;
    return vectors.f32() + (vectors.n_dims == 2 ? r % vectors.dim(0) * n_cols : 0);
  };
  for_each_row(machine, op.x.n_rows(), n_cols, [&](int64_t r, int) {
    float* x = op.x.f32() + r * n_cols;
    if (op.add) kernels.weighted_add(x, op.add.f32() + r * n_cols, op.add_scale, n_cols);
    norm({.x = x,
          .weight = vector_of(op.weight, r),
          .bias = vector_of(op.bias, r),
          .out = op.out.f32() + r * n_cols,
          .n = n_cols,
          .eps = op.eps});
  });
}

void compute(Machine& machine, const Add& op) {
  const int64_t n_cols = op.x.n_cols();
  for_each_row(machine, op.x.dim(0), n_cols, [&](int64_t r, int) {
    float* x = op.x.f32() + r * n_cols;
    if (op.x_scale != 1.0f) machine.kernels.scale(x, op.x_scale, n_cols);
    machine.kernels.weighted_add(x, op.y.f32() + r * n_cols, op.y_scale, n_cols);
  });
}

void compute(Machine& machine, const Split& op) {
  const int64_t n_cols = op.x.n_cols(), n_first = op.first.n_cols(), n_second = op.second.n_cols();
  for_each_row(machine, op.x.dim(0), n_cols, [&](int64_t r, int) {
    const float* x = op.x.f32() + r * n_cols;
    std::copy_n(x, n_first, op.first.f32() + r * n_first);
    std::copy_n(x + n_first, n_second, op.second.f32() + r * n_second);
  });
}

void compute(Machine& machine, const GatherRows& op) {
  for_each_row(machine, op.out.dim(0), op.out.n_cols(), [&](int64_t i, int) {
    const int32_t row = op.rows.i32()[i];
    check(row >= 0 && row < op.x.dim(0), "a row outside of the batch");
    std::copy_n(op.x.row(row), op.x.row_bytes(), op.out.row(i));
  });
}

void compute(Machine& machine, const MeanRows& op) {
  const int64_t n_cols = op.x.n_cols();
  for_each_row(machine, op.out.dim(0), n_cols, [&](int64_t i, int) {
    const int32_t begin = op.begin.i32()[i], end = op.end.i32()[i];
    check(begin >= 0 && begin < end && end <= op.x.dim(0), "some rows of the batch");
    float* out = op.out.f32() + i * n_cols;
    std::copy_n(op.x.f32() + begin * n_cols, n_cols, out);
    for (int32_t r = begin + 1; r < end; ++r) machine.kernels.add(out, op.x.f32() + r * n_cols, n_cols);
    if (end - begin > 1) machine.kernels.scale(out, 1.0f / static_cast<float>(end - begin), n_cols);
  });
}

}  // namespace millrace::cpu
