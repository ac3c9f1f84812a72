// E4M3 codes under scales: of DeepSeek's blocks, of rows (FBGEMM, compressed-tensors) or of matrices.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint/packed_weight.h"
#include "quant/fp8/layout.h"

namespace millrace {
namespace {

int64_t blocks_in(int64_t n, int64_t block) { return (n + block - 1) / block; }

class Fp8Weight final : public PackedWeight {
 public:
  Fp8Weight(const PackedTensors& tensors, std::string_view codes, std::string_view scale, ScaleBlock block)
      : tensors_(tensors), codes_(tensors.need(codes)), scale_(tensors.need(scale)), block_(block) {
    const size_t n_dims = codes_.shape.size();
    if (n_dims < 2 || n_dims > 3 || codes_.bytes.empty()) {
      tensors.refuse(
          fmt::format("codes of the shape {}, expected a matrix or a stack of them", shape_text(codes_)));
    }
    if (!is_of_reals(scale_)) tensors.refuse(fmt::format("scales of the type {}", scale_.dtype));
    n_matrices_ = n_dims == 3 ? codes_.shape[0] : 1;
    n_rows_ = codes_.shape[n_dims - 2];
    n_cols_ = codes_.shape[n_dims - 1];
    settle_block();
  }

  Tensor layout() const override {
    const auto [n_rows, n_cols] = is_transposed_ ? std::pair(n_cols_, n_rows_) : std::pair(n_rows_, n_cols_);
    if (codes_.shape.size() == 2) return Tensor(nullptr, Dtype::f8_e4m3, {n_rows, n_cols});
    return Tensor(nullptr, Dtype::f8_e4m3, {n_matrices_, n_rows, n_cols});
  }

  // Scales of blocks of 128 x 128, or of the matrix, are as good for columns as for rows.
  std::unique_ptr<PackedWeight> transposed() const override {
    if (block_.n_rows % kF8Elems != 0 && block_.n_rows < n_rows_) return nullptr;
    auto other = std::make_unique<Fp8Weight>(*this);
    other->is_transposed_ = !is_transposed_;
    return other;
  }

  void write(Dtype dtype, std::byte* out) const override {
    check(dtype == Dtype::f8_e4m3, "the format of the layout");
    for (int64_t m = 0; m < n_matrices_; ++m) {
      if (is_transposed_) {
        write_transposed(m, reinterpret_cast<BlockF8E4M3*>(out));
        out += n_cols_ * n_bytes_of(dtype, n_rows_);
        continue;
      }
      for (int64_t row = 0; row < n_rows_; ++row) {
        write_row(m, row, reinterpret_cast<BlockF8E4M3*>(out));
        out += n_bytes_of(dtype, n_cols_);
      }
    }
  }

 private:
  // Which rows and columns share a scale: as the shape of the scales says.
  void settle_block() {
    const int64_t n_scales = std::max<int64_t>(1, scale_.bytes.size() / bytes_of_scale());
    const int64_t n_row_blocks = blocks_in(n_rows_, block_.n_rows);
    const int64_t n_col_blocks = blocks_in(n_cols_, block_.n_cols);
    if (has_scales(n_row_blocks, n_col_blocks)) return;
    if (n_scales == n_matrices_) {
      block_ = {n_rows_, n_cols_};
    } else if (n_scales == n_matrices_ * n_rows_) {
      block_ = {1, n_cols_};
    } else {
      tensors_.refuse(fmt::format("scales of the shape {} for codes of the shape {}", shape_text(scale_),
                                  shape_text(codes_)));
    }
  }

  int64_t bytes_of_scale() const { return scale_.dtype == "F32" ? 4 : scale_.dtype == "F8_E8M0" ? 1 : 2; }

  bool has_scales(int64_t n_row_blocks, int64_t n_col_blocks) const {
    std::vector<int64_t> shape{n_row_blocks, n_col_blocks};
    if (codes_.shape.size() == 3) shape.insert(shape.begin(), n_matrices_);
    return scale_.shape == shape && block_.n_cols % kF8Elems == 0;
  }

  // Columns as rows, some at a time, so that a line of codes that is read is used as a whole.
  void write_transposed(int64_t matrix, BlockF8E4M3* out) const {
    constexpr int64_t kAtOnce = 64;
    const int64_t n_blocks = blocks_in(n_rows_, kF8Elems);
    for (int64_t col = 0; col < n_cols_; col += kAtOnce) {
      const int64_t n = std::min(kAtOnce, n_cols_ - col);
      for (int64_t b = 0; b < n_blocks; ++b) write_blocks(matrix, {col, col + n}, b, out + col * n_blocks);
    }
  }

  struct ColumnRange {
    int64_t begin, end;
  };

  // Block `b` of each of some transposed rows; `out` is the first block of the first one.
  void write_blocks(int64_t matrix, ColumnRange cols, int64_t b, BlockF8E4M3* out) const {
    const int64_t n_blocks = blocks_in(n_rows_, kF8Elems), n_col_blocks = blocks_in(n_cols_, block_.n_cols);
    const int64_t first = b * kF8Elems, n = std::min<int64_t>(kF8Elems, n_rows_ - first);
    const int64_t scale_row = matrix * blocks_in(n_rows_, block_.n_rows) + first / block_.n_rows;
    const auto* codes =
        reinterpret_cast<const uint8_t*>(codes_.bytes.data()) + (matrix * n_rows_ + first) * n_cols_;
    for (int64_t col = cols.begin; col < cols.end; ++col) {
      BlockF8E4M3& block = out[(col - cols.begin) * n_blocks + b];
      block.d = real_at(scale_, scale_row * n_col_blocks + col / block_.n_cols);
      for (int64_t k = 0; k < n; ++k) block.q[k] = codes[k * n_cols_ + col];
      std::fill(block.q + n, std::end(block.q), uint8_t{0});
      if (!std::isfinite(block.d) || std::any_of(block.q, block.q + n, is_nan_e4m3))
        tensors_.refuse(fmt::format("column {} holds a NaN or an infinity", col));
    }
  }

  void write_row(int64_t matrix, int64_t row, BlockF8E4M3* out) const {
    const int64_t n_col_blocks = blocks_in(n_cols_, block_.n_cols);
    const int64_t scale_row = matrix * blocks_in(n_rows_, block_.n_rows) + row / block_.n_rows;
    const auto* codes =
        reinterpret_cast<const uint8_t*>(codes_.bytes.data()) + (matrix * n_rows_ + row) * n_cols_;
    for (int64_t col = 0; col < n_cols_; col += kF8Elems, ++out) {
      const auto n = static_cast<size_t>(std::min<int64_t>(kF8Elems, n_cols_ - col));
      out->d = real_at(scale_, scale_row * n_col_blocks + col / block_.n_cols);
      std::memcpy(out->q, codes + col, n);
      std::fill(out->q + n, std::end(out->q), uint8_t{0});
      if (!std::isfinite(out->d) || std::any_of(out->q, out->q + n, is_nan_e4m3))
        tensors_.refuse(fmt::format("row {} holds a NaN or an infinity", row));
    }
  }

  PackedTensors tensors_;
  const SafetensorsTensor& codes_;
  const SafetensorsTensor& scale_;
  ScaleBlock block_;
  int64_t n_matrices_ = 0, n_rows_ = 0, n_cols_ = 0;  // as they are stored
  bool is_transposed_ = false;
};

}  // namespace

std::unique_ptr<PackedWeight> make_fp8(const PackedTensors& tensors, std::string_view codes,
                                       std::string_view scale, ScaleBlock block) {
  return std::make_unique<Fp8Weight>(tensors, codes, scale, block);
}

}  // namespace millrace
