// Memory of one step: activations are taken in order and given back all at once, or down to a mark. The same
// forward run on an arena without memory measures what the real one needs, to the byte.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "tensor/buffer.h"
#include "tensor/tensor.h"

namespace millrace {

class Arena {
 public:
  // Measures only: hands out tensors whose data are offsets, never to be read.
  Arena() = default;
  // `memory` (at a cache line, not owned) must outlive the arena.
  Arena(std::byte* memory, size_t n_bytes) : memory_(memory), n_bytes_(n_bytes) {}

  // Elements are not initialised. Aborts when the arena is too small: the plan was wrong.
  Tensor take(Dtype dtype, std::initializer_list<int64_t> dims) {
    // Offsets are numbers: from nullptr none may be added to a pointer.
    auto* const data = memory_ == nullptr ? reinterpret_cast<std::byte*>(used_bytes_) : memory_ + used_bytes_;
    Tensor tensor(data, dtype, dims);
    used_bytes_ += static_cast<size_t>(aligned(tensor.n_bytes()));
    peak_bytes_ = used_bytes_ > peak_bytes_ ? used_bytes_ : peak_bytes_;
    check(memory_ == nullptr || used_bytes_ <= n_bytes_, "the arena is smaller than the plan");
    return tensor;
  }

  bool is_measuring() const { return memory_ == nullptr; }
  size_t used_bytes() const { return used_bytes_; }
  size_t peak_bytes() const { return peak_bytes_; }
  // Gives back everything taken since used_bytes() was `mark`.
  void release_to(size_t mark) { used_bytes_ = mark; }

 private:
  std::byte* memory_ = nullptr;
  size_t n_bytes_ = 0;
  size_t used_bytes_ = 0;
  size_t peak_bytes_ = 0;
};

// Gives back, at the end of its scope, what was taken from the arena within it.
class ArenaScope {
 public:
  explicit ArenaScope(Arena& arena) : arena_(arena), mark_(arena.used_bytes()) {}
  ArenaScope(const ArenaScope&) = delete;
  ArenaScope& operator=(const ArenaScope&) = delete;
  ~ArenaScope() { arena_.release_to(mark_); }

 private:
  Arena& arena_;
  size_t mark_;
};

}  // namespace millrace
