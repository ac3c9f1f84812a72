#include "tensor/tensor.h"

#include <algorithm>

namespace millrace {

Tensor::Tensor(void* elements, Dtype format, std::initializer_list<int64_t> dims)
    : data(static_cast<std::byte*>(elements)), dtype(format), n_dims(static_cast<int>(dims.size())) {
  check(dims.size() >= 1 && dims.size() <= 4, "a tensor has 1 to 4 dimensions");
  std::ranges::copy(dims, shape.begin());
}

Tensor Tensor::slice(int64_t begin, int64_t end) const {
  check(0 <= begin && begin <= end && end <= shape[0], "a slice outside of the tensor");
  check(n_dims > 1 || format_of(dtype).block_elems == 1, "a slice through a block");
  Tensor part = *this;
  part.shape[0] = end - begin;
  // By numbers: what only measures has tensors at nullptr, which no pointer may be counted from.
  const int64_t n_before = begin * (shape[0] == 0 ? 0 : n_bytes() / shape[0]);
  part.data =
      reinterpret_cast<std::byte*>(reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(n_before));
  return part;
}

Tensor Tensor::at(int64_t i) const {
  check(n_dims > 1, "an entry of a vector is no tensor");
  Tensor part = slice(i, i + 1);
  std::copy(part.shape.begin() + 1, part.shape.end(), part.shape.begin());
  part.shape[3] = 1;
  --part.n_dims;
  return part;
}

Tensor Tensor::reshaped(std::initializer_list<int64_t> dims) const {
  const Tensor other(data, dtype, dims);
  check(other.n_elems() == n_elems(), "a reshape keeps the number of elements");
  check(format_of(dtype).block_elems == 1 || other.n_cols() == n_cols(),
        "a reshape of blocks keeps the rows");
  return other;
}

std::string shape_text(const Tensor& tensor) {
  std::string text = "(";
  for (int i = 0; i < tensor.n_dims; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", tensor.shape[i]);
  return text + ") " + std::string(format_of(tensor.dtype).name);
}

}  // namespace millrace
