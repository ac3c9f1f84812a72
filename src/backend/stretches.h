// Weights as stretches of memory: what is copied of them, each byte once.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "tensor/tensor.h"

namespace millrace {

// Ascending. Tensors that overlap (a matrix, and a part of it) are one stretch.
std::vector<std::span<const std::byte>> stretches_of(std::span<const Tensor> tensors);

// The bytes of one buffer for copies of them all (Backend::hold), each at a multiple of kStretchAlignment.
inline constexpr size_t kStretchAlignment = 256;
size_t copied_bytes(std::span<const std::span<const std::byte>> stretches);

}  // namespace millrace
