// E2M1 codes, two a byte: the lower half is the even element. MXFP4 has a power of two for each 32 elements,
// NVFP4 an E4M3 for each 16 and a float32 for the matrix.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "checkpoint/packed_weight.h"
#include "quant/fp8/layout.h"
#include "quant/mxfp4/layout.h"
#include "quant/nvfp4/layout.h"

namespace millrace {
namespace {

const uint8_t* bytes_of(const SafetensorsTensor& tensor) {
  return reinterpret_cast<const uint8_t*>(tensor.bytes.data());
}

int code_at(const uint8_t* codes, int64_t i) { return codes[i / 2] >> 4 * (i % 2) & 15; }

// What is common: bytes of codes (..., rows, columns / 2), or (..., rows, groups, bytes of a group).
struct Fp4Shape {
  int64_t n_matrices = 1, n_rows = 0, n_cols = 0;
  bool is_stack = false;

  Tensor layout(Dtype dtype) const {
    return is_stack ? Tensor(nullptr, dtype, {n_matrices, n_rows, n_cols})
                    : Tensor(nullptr, dtype, {n_rows, n_cols});
  }
};

class Mxfp4Weight final : public PackedWeight {
 public:
  Mxfp4Weight(const PackedTensors& tensors, std::string_view codes, std::string_view scale)
      : tensors_(tensors), codes_(tensors.need(codes)), scale_(tensors.need(scale)) {
    std::vector<int64_t> groups = codes_.shape;  // of 32 elements, 16 bytes
    if (groups.size() == 4 && groups[3] == 16) {
      groups.pop_back();
    } else if (groups.size() >= 2 && groups.size() <= 3 && groups.back() % 16 == 0) {
      groups.back() /= 16;
    } else {
      groups.clear();
    }
    const bool is_of_bytes = scale_.dtype == "U8" || scale_.dtype == "F8_E8M0";
    if (groups.size() < 2 || codes_.bytes.empty() || scale_.shape != groups || !is_of_bytes) {
      tensors.refuse(fmt::format("codes {} and scales {} are not those of MXFP4", shape_text(codes_),
                                 shape_text(scale_)));
    }
    shape_.is_stack = groups.size() == 3;
    if (shape_.is_stack) shape_.n_matrices = groups[0];
    shape_.n_rows = groups[groups.size() - 2];
    shape_.n_cols = groups.back() * 32;
  }

  Tensor layout() const override { return shape_.layout(Dtype::mxfp4); }

  void write(Dtype dtype, std::byte* out) const override {
    check(dtype == Dtype::mxfp4, "the format of the layout");
    auto* block = reinterpret_cast<BlockMxfp4*>(out);
    const auto n_blocks = static_cast<int64_t>(scale_.bytes.size());
    for (int64_t i = 0; i < n_blocks; ++i, ++block) {
      block->e = bytes_of(scale_)[i];
      if (block->e == 255) tensors_.refuse("a scale is NaN");
      const uint8_t* codes = bytes_of(codes_) + 16 * i;
      for (int j = 0; j < 16; ++j)
        block->qs[j] = static_cast<uint8_t>(code_at(codes, j) | code_at(codes, j + 16) << 4);
    }
  }

 private:
  PackedTensors tensors_;
  const SafetensorsTensor& codes_;
  const SafetensorsTensor& scale_;
  Fp4Shape shape_;
};

class Nvfp4Weight final : public PackedWeight {
 public:
  Nvfp4Weight(const PackedTensors& tensors, const Nvfp4Names& names)
      : tensors_(tensors), codes_(tensors.need(names.codes)), scale_(tensors.need(names.scale)) {
    const size_t n_dims = codes_.shape.size();
    std::vector<int64_t> groups = codes_.shape;
    if (n_dims >= 2) groups.back() /= 8;
    if (n_dims < 2 || n_dims > 3 || codes_.bytes.empty() || codes_.shape.back() % 8 != 0 ||
        scale_.shape != groups || scale_.dtype != "F8_E4M3") {
      tensors.refuse(fmt::format("codes {} and scales {} are not those of NVFP4", shape_text(codes_),
                                 shape_text(scale_)));
    }
    shape_.is_stack = n_dims == 3;
    if (shape_.is_stack) shape_.n_matrices = codes_.shape[0];
    shape_.n_rows = codes_.shape[n_dims - 2];
    shape_.n_cols = codes_.shape[n_dims - 1] * 2;
    read_global_scales(tensors.need(names.global_scale), names.use);
  }

  Tensor layout() const override { return shape_.layout(Dtype::nvfp4); }

  void write(Dtype dtype, std::byte* out) const override {
    check(dtype == Dtype::nvfp4, "the format of the layout");
    for (int64_t row = 0; row < shape_.n_matrices * shape_.n_rows; ++row) {
      write_row(row, reinterpret_cast<BlockNvfp4*>(out));
      out += n_bytes_of(dtype, shape_.n_cols);
    }
  }

 private:
  // One for all matrices, or one each.
  void read_global_scales(const SafetensorsTensor& tensor, GlobalScale use) {
    const auto n = static_cast<int64_t>(tensor.bytes.size() / 4);
    if (tensor.dtype != "F32" || (n != 1 && n != shape_.n_matrices))
      tensors_.refuse(fmt::format("a scale of the matrix of the shape {}", shape_text(tensor)));
    for (int64_t m = 0; m < shape_.n_matrices; ++m) {
      const auto scale = number_at<float>(tensor, n == 1 ? 0 : m);
      global_scales_.push_back(use == GlobalScale::multiplies ? scale : 1.0f / scale);
      if (!std::isfinite(global_scales_.back())) tensors_.refuse("the scale of the matrix is not a number");
    }
  }

  void write_row(int64_t row, BlockNvfp4* block) const {
    const uint8_t* codes = bytes_of(codes_) + row * (shape_.n_cols / 2);
    const uint8_t* scales = bytes_of(scale_) + row * (shape_.n_cols / 16);
    for (int64_t col = 0; col < shape_.n_cols; col += kNvfp4Elems, ++block) {
      *block = {};
      block->d = global_scales_[static_cast<size_t>(row / shape_.n_rows)];
      const auto n = static_cast<int>(std::min<int64_t>(kNvfp4Elems, shape_.n_cols - col));
      for (int k = 0; k < n; k += 32) {
        const bool has_second = k + 16 < n;  // group of 16
        for (int j = 0; j < 16; ++j) {
          const int second = has_second ? code_at(codes, col + k + 16 + j) : 0;
          block->qs[k / 2 + j] = static_cast<uint8_t>(code_at(codes, col + k + j) | second << 4);
        }
      }
      for (int k = 0; k < n; k += 16) {
        block->s[k / 16] = scales[(col + k) / 16];
        if (is_nan_e4m3(block->s[k / 16])) tensors_.refuse(fmt::format("a scale of row {} is NaN", row));
      }
    }
  }

  PackedTensors tensors_;
  const SafetensorsTensor& codes_;
  const SafetensorsTensor& scale_;
  Fp4Shape shape_;
  std::vector<float> global_scales_;
};

}  // namespace

std::unique_ptr<PackedWeight> make_mxfp4(const PackedTensors& tensors, std::string_view codes,
                                         std::string_view scale) {
  return std::make_unique<Mxfp4Weight>(tensors, codes, scale);
}

std::unique_ptr<PackedWeight> make_nvfp4(const PackedTensors& tensors, const Nvfp4Names& names) {
  return std::make_unique<Nvfp4Weight>(tensors, names);
}

}  // namespace millrace
