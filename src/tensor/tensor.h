// A tensor is a view: where the elements lie, their format, their shape. It owns nothing (Buffer and
// MappedFile do).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "base/error.h"
#include "quant/format.h"

namespace millrace {

// Contiguous, row-major, shape outermost first: (rows, cols). At most 4 dimensions; none means "no tensor",
// which is how an optional operand is left out. Rows (the last dimension) of quantised formats are whole
// blocks. While memory is being planned `data` holds offsets from nullptr and must not be read.
struct Tensor {
  std::byte* data = nullptr;
  Dtype dtype = Dtype::f32;
  int n_dims = 0;
  std::array<int64_t, 4> shape{1, 1, 1, 1};

  Tensor() = default;
  Tensor(void* elements, Dtype format, std::initializer_list<int64_t> dims);

  explicit operator bool() const { return n_dims > 0; }
  int64_t dim(int i) const { return shape[i]; }
  int64_t n_elems() const { return shape[0] * shape[1] * shape[2] * shape[3]; }
  int64_t n_cols() const { return shape[n_dims - 1]; }
  int64_t n_rows() const { return n_cols() == 0 ? 0 : n_elems() / n_cols(); }
  int64_t row_bytes() const { return n_bytes_of(dtype, n_cols()); }
  int64_t n_bytes() const { return n_rows() * row_bytes(); }
  std::span<const std::byte> bytes() const { return {data, static_cast<size_t>(n_bytes())}; }

  std::byte* row(int64_t i) const { return data + i * row_bytes(); }
  // The elements as float or int32_t; aborts when the format is another one.
  float* f32() const {
    check(dtype == Dtype::f32, "expected a float32 tensor");
    return reinterpret_cast<float*>(data);
  }
  int32_t* i32() const {
    check(dtype == Dtype::i32, "expected an int32 tensor");
    return reinterpret_cast<int32_t*>(data);
  }

  // Entries [begin, end) of the first dimension.
  Tensor slice(int64_t begin, int64_t end) const;
  // Entry i of the first dimension, one dimension fewer.
  Tensor at(int64_t i) const;
  // The same elements in another shape of as many elements and the same row length where the format has
  // blocks.
  Tensor reshaped(std::initializer_list<int64_t> dims) const;
};

// "(3, 64) F32", for messages.
std::string shape_text(const Tensor& tensor);

}  // namespace millrace
