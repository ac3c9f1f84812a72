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
    if (codes_.shape.size() == 2) return Tensor(nullptr, Dtype::f8_e4m3, {n_rows_, n_cols_});
    return Tensor(nullptr, Dtype::f8_e4m3, {n_matrices_, n_rows_, n_cols_});
  }

  void write(Dtype dtype, std::byte* out) const override {
    check(dtype == Dtype::f8_e4m3, "the format of the layout");
    for (int64_t m = 0; m < n_matrices_; ++m) {
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
  int64_t n_matrices_ = 0, n_rows_ = 0, n_cols_ = 0;
};

}  // namespace

std::unique_ptr<PackedWeight> make_fp8(const PackedTensors& tensors, std::string_view codes,
                                       std::string_view scale, ScaleBlock block) {
  return std::make_unique<Fp8Weight>(tensors, codes, scale, block);
}

}  // namespace millrace
