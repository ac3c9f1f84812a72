#include "backend/cpu/strip.h"

#include <cstring>

namespace millrace::cpu {
namespace {

const Matmul& matmul_of(const Kernels& kernels, Dtype dtype) {
  return kernels.matmul[static_cast<size_t>(dtype)];
}

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

void multiply(const Kernels& kernels, const Weight& read, RowRange range, const Inputs& inputs,
              ColumnRange columns, const StripScratch& scratch, float* out, int64_t out_stride,
              SpanRange spans, bool is_in_run) {
  const int64_t n_lanes = kernels.n_lanes;
  Tensor weight = read.tensor;
  const bool is_copied = read.is_copied(range.first + range.n);
  if (is_copied) weight.data = read.copy;
  const int64_t n_out = weight.dim(0);
  StripProduct product{.groups = {},
                       .n_groups = static_cast<int>((range.n + n_lanes - 1) / n_lanes),
                       .row_bytes = weight.row_bytes(),
                       .inputs = &inputs,
                       .first_column = columns.first,
                       .n_columns = static_cast<int>(columns.n),
                       .first_span = spans.first,
                       .end_span = spans.end,
                       .reads_near = is_in_run && kernels.reads_near,
                       .out = out,
                       .out_stride = out_stride};
  const int64_t n_computed = round_up(range.n, n_lanes);
  for (int g = 0; g < product.n_groups; ++g) product.groups[g] = weight.row(range.first + g * n_lanes);
  const Matmul& matmul = matmul_of(kernels, weight.dtype);
  const auto multiply = is_copied && read.is_interleaved ? matmul.multiply_interleaved : matmul.multiply;
  // Sums wait between spans where they are close to each other, not in rows of the result far apart.
  if (range.n == n_computed && (columns.n == 1 || out_stride <= kMaxStrip)) return multiply(product);

  // Where the last group lacks rows, it takes them from those before it, or repeats the last one of a small
  // weight.
  const int64_t n_lacking = n_computed - range.n;  // none of interleaved weights
  int64_t n_skipped = 0;  // results at the start of the last group that are not wanted
  if (n_lacking > 0 && n_out >= n_lanes) {
    n_skipped = n_lacking;
    product.groups[product.n_groups - 1] = weight.row(n_out - n_lanes);
  } else if (n_lacking > 0) {
    for (int64_t i = 0; i < n_lanes; ++i) {
      std::memcpy(scratch.rows + i * weight.row_bytes(), weight.row(std::min(i, n_out - 1)),
                  static_cast<size_t>(weight.row_bytes()));
    }
    product.groups[0] = scratch.rows;
  }
  product.out = scratch.staging;
  product.out_stride = n_computed;
  multiply(product);
  const int64_t n_whole = n_computed - n_lanes;  // in groups before the last
  for (int64_t c = 0; c < product.n_columns; ++c) {
    const float* from = scratch.staging + c * n_computed;
    std::copy_n(from, n_whole, out + c * out_stride);
    std::copy_n(from + n_whole + n_skipped, range.n - n_whole, out + c * out_stride + n_whole);
  }
}

}  // namespace

StripScratch::StripScratch(Carver& carver, const Kernels& kernels, std::initializer_list<Tensor> weights,
                           int64_t max_columns) {
  int64_t row_bytes = 0;
  for (const Tensor& weight : weights) row_bytes = std::max(row_bytes, weight.row_bytes());
  rows = carver.take<std::byte>(kernels.n_lanes * row_bytes);
  staging = carver.take<float>(max_columns * kMaxStrip);
}

void multiply_strip(const Kernels& kernels, const Weight& weight, RowRange range, const Inputs& inputs,
                    ColumnRange columns, const StripScratch& scratch, float* out, int64_t out_stride) {
  multiply(kernels, weight, range, inputs, columns, scratch, out, out_stride, {0, n_spans_of(inputs.n_in)},
           /*is_in_run=*/false);
}

void multiply_strip_of_run(const Kernels& kernels, const Weight& weight, RowRange range, const Inputs& inputs,
                           ColumnRange columns, const StripScratch& scratch, float* out, int64_t out_stride,
                           SpanRange spans) {
  multiply(kernels, weight, range, inputs, columns, scratch, out, out_stride, spans, /*is_in_run=*/true);
}

void write_strip(const Kernels& kernels, const float* from, int64_t n_columns, int64_t n, float* out,
                 int64_t out_stride) {
  // Smaller results wait in the second level of cache for the op that reads them.
  constexpr int64_t kStreamFrom = 1 << 18;  // elements
  if (n_columns * out_stride < kStreamFrom) {
    for (int64_t c = 0; c < n_columns; ++c) std::copy_n(from + c * kMaxStrip, n, out + c * out_stride);
    return;
  }
  for (int64_t c = 0; c < n_columns; ++c) kernels.stream(from + c * kMaxStrip, out + c * out_stride, n);
  kernels.finish_streams();
}

GatedScratch::GatedScratch(Carver& carver, const Kernels& kernels, const Tensor& gate_weight,
                           const Tensor& up_weight, int64_t max_columns)
    : strip(carver, kernels, {gate_weight, up_weight}, max_columns),
      gate(carver.take<float>(max_columns * kMaxStrip)),
      up(carver.take<float>(max_columns * kMaxStrip)) {}

void clip_gated(float* gate, float* up, int64_t n, float limit) {
  if (limit <= 0) return;
  for (int64_t i = 0; i < n; ++i) gate[i] = std::min(gate[i], limit);
  for (int64_t i = 0; i < n; ++i) up[i] = std::clamp(up[i], -limit, limit);
}

}  // namespace millrace::cpu
