// Copies of weights in huge pages, interleaved where kernels can read them so: read as one stream and without
// turning rows into vectors. Both forms give the same bits, so a copy may take over between any two ops.
#pragma once

#include <atomic>
#include <memory>
#include <span>

#include "backend/backend.h"
#include "backend/cpu/kernels.h"
#include "tensor/buffer.h"

namespace millrace::cpu {

// A weight as an op names it, and its copy as far as there is one.
struct Weight {
  // As Tensor's.
  Weight at(int64_t i) const { return part(tensor.at(i)); }
  Weight slice(int64_t begin, int64_t end) const { return part(tensor.slice(begin, end)); }
  // Whether there is a copy of the first n_rows rows. Once there is, there always is.
  bool is_copied(int64_t n_rows) const {
    return copy_end != nullptr &&
           copy + n_rows * tensor.row_bytes() <= copy_end->load(std::memory_order_acquire);
  }

  // A row as it lies in the tensor, perhaps in `scratch`, of Tensor::row_bytes().
  const std::byte* row(const Kernels& kernels, int64_t i, std::byte* scratch) const;

  Tensor tensor;
  std::byte* copy = nullptr;                                // of the tensor
  const std::atomic<const std::byte*>* copy_end = nullptr;  // copied so far
  bool is_interleaved = false;                              // the copy, in groups of Kernels::n_lanes rows

 private:
  Weight part(const Tensor& of) const {
    if (copy == nullptr) return {of};
    return {of, copy + (of.data - tensor.data), copy_end, is_interleaved};
  }
};

class WeightCopies {
 public:
  // Of what has no copy and will have none, the weight alone.
  Weight find(const Kernels& kernels, const Tensor& weight) const;
  // Backend::copy_weights(). Others may call find() meanwhile.
  int64_t make(const Kernels& kernels, std::span<const Tensor> weights, const std::stop_token& stop,
               const Backend::Release& release);

 private:
  void plan(const Kernels& kernels, std::span<const Tensor> weights);

  struct Copy {
    Tensor weight;
    std::byte* begin;
    std::atomic<const std::byte*> end;  // so far
    bool is_interleaved;
  };

  Buffer memory_;
  std::unique_ptr<Copy[]> copies_;  // ascending
  std::atomic<size_t> n_copies_ = 0;
};

}  // namespace millrace::cpu
