// Memory that ops compute in: one part that all threads see and one for each. It grows when an op needs more
// than any before it, so a steady state allocates nothing.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/buffer.h"

namespace millrace::cpu {

// Hands out aligned pieces of a part, one after the other. From nullptr it only measures.
class Carver {
 public:
  explicit Carver(std::byte* memory = nullptr) : memory_(memory) {}

  // Elements are not initialised.
  template <class T>
  T* take(int64_t n) {
    T* piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_bytes_);
    used_bytes_ += static_cast<size_t>(aligned(n * int64_t{sizeof(T)}));
    return piece;
  }
  size_t used_bytes() const { return used_bytes_; }

 private:
  std::byte* memory_;
  size_t used_bytes_ = 0;
};

class Scratch {
 public:
  explicit Scratch(int n_threads) : threads_(static_cast<size_t>(n_threads)) {}

  // What is carved by `layout`, a struct made from a Carver&. The content of the part is lost.
  template <class Layout, class... Args>
  Layout shared(const Args&... args) {
    Carver measure;
    (void)Layout(measure, args...);
    grow(shared_, measure.used_bytes());
    Carver carver(shared_.data());
    return Layout(carver, args...);
  }
  // Makes every thread's part large enough for the layout; of_thread() then carves it without allocating.
  template <class Layout, class... Args>
  void reserve(const Args&... args) {
    Carver measure;
    (void)Layout(measure, args...);
    for (Buffer& buffer : threads_) grow(buffer, measure.used_bytes());
  }
  template <class Layout, class... Args>
  Layout of_thread(int thread, const Args&... args) {
    Carver carver(threads_[static_cast<size_t>(thread)].data());
    return Layout(carver, args...);
  }

  size_t n_bytes() const {
    size_t sum = shared_.n_bytes();
    for (const Buffer& buffer : threads_) sum += buffer.n_bytes();
    return sum;
  }

 private:
  static void grow(Buffer& buffer, size_t n_bytes) {
    if (buffer.n_bytes() >= n_bytes) return;
    buffer = Buffer();                        // first give back, then take
    buffer = Buffer(std::bit_ceil(n_bytes));  // pages that nobody touches cost nothing
  }

  Buffer shared_;
  std::vector<Buffer> threads_;
};

}  // namespace millrace::cpu
