// The product of a strip of weight rows with columns of activations: what linear, route and the mixtures of
// experts are made of.
#pragma once

#include <initializer_list>

#include "backend/cpu/inputs.h"

namespace millrace::cpu {

// Rows [first, first + n) of a weight; at most Strips::n_rows.
struct RowRange {
  int64_t first;
  int64_t n;
};

// How a weight of (n_out, n_in) is cut into strips.
class Strips {
 public:
  Strips(const Kernels& kernels, int64_t n_out) : n_rows_(kernels.n_lanes * kStripGroups), n_out_(n_out) {}

  int64_t n_strips() const { return (n_out_ + n_rows_ - 1) / n_rows_; }
  RowRange at(int64_t strip) const { return {strip * n_rows_, std::min(n_rows_, n_out_ - strip * n_rows_)}; }

 private:
  int64_t n_rows_;
  int64_t n_out_;
};

// Scratch of one thread for products with weights of these formats and row length.
struct StripScratch {
  StripScratch(Carver& carver, const Kernels& kernels, std::initializer_list<Tensor> weights,
               int64_t max_columns);

  std::byte* rows;  // a copy of a weight of fewer rows than lanes
  float* staging;   // (max_columns, kMaxStrip): sums on their way
};

// Columns [first, first + n) of the inputs of an op.
struct ColumnRange {
  int64_t first;
  int64_t n;
};

// The elements that are multiplied, from span `first` to before span `end`.
struct SpanRange {
  int64_t first;
  int64_t end;
};

// out[c * out_stride + i] = row (range.first + i) of `weight` (n_out, n_in) times column columns.first + c,
// for i < range.n and c < columns.n.
void multiply_strip(const Kernels& kernels, const Weight& weight, RowRange range, const Inputs& inputs,
                    ColumnRange columns, const StripScratch& scratch, float* out, int64_t out_stride);
// The same of a strip whose caller mostly goes on with the one behind it. Of products of int8 views, where
// range.n is a multiple of the lanes and out_stride kMaxStrip, `spans` may be a part of all: those behind the
// first are added to `out`.
void multiply_strip_of_run(const Kernels& kernels, const Weight& weight, RowRange range, const Inputs& inputs,
                           ColumnRange columns, const StripScratch& scratch, float* out, int64_t out_stride,
                           SpanRange spans);

// out[c * out_stride + i] = from[c * kMaxStrip + i] for i < n and c < n_columns: a strip on its way to where
// the op wants it. Afterwards `from` is as it was, and other threads see `out` as soon as the op ends.
void write_strip(const Kernels& kernels, const float* from, int64_t n_columns, int64_t n, float* out,
                 int64_t out_stride);

// A strip of gate and of up, side by side.
struct GatedScratch {
  GatedScratch(Carver& carver, const Kernels& kernels, const Tensor& gate_weight, const Tensor& up_weight,
               int64_t max_columns);

  StripScratch strip;
  float* gate;  // (max_columns, kMaxStrip)
  float* up;
};

// gate to at most `limit`, up to [-limit, limit]; nothing where the limit is 0.
void clip_gated(float* gate, float* up, int64_t n, float limit);

}  // namespace millrace::cpu
