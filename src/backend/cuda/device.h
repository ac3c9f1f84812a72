// A GPU as the host sees it: memory, a stream of kernels, its size. The emulation is one too.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "tensor/buffer.h"

namespace millrace::cuda {

// Where operands lie of which only the shape matters: at no tensor, and aligned as one.
inline constexpr uintptr_t kNowhere = 256;

// What every GPU from sm_80 on runs: shared memory of a block, blocks of a grid in its second and third
// dimension.
inline constexpr size_t kMaxSharedBytes = size_t{99} << 10;
inline constexpr int64_t kMaxGridY = 65535;

// Kernels and copies that a stream keeps, with the arguments that they were given with.
class Graph {
 public:
  virtual ~Graph() = default;
  // Gives them to the stream.
  virtual void launch() = 0;
};

class Device : public Memory {
 public:
  bool is_of_program() const final { return false; }
  // A cudaStream_t: kernels and copies run in the order in which they are given to it. nullptr in the
  // emulation, where a kernel has run when its launch returns.
  virtual void* stream() = 0;
  virtual int n_processors() const = 0;
  virtual std::string model() const = 0;
  void wait() override = 0;
  // What is given to the stream in between is not run but kept. Nothing may be allocated, read or written
  // then.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<Graph> end_capture() = 0;
};

// Memory for what an op needs between its kernels. It only grows.
class Scratch {
 public:
  // Without a device it measures: what it hands out is never read.
  explicit Scratch(Device* device) : device_(device) {}

  bool is_measuring() const { return device_ == nullptr; }
  // Valid until the next call.
  std::byte* take(size_t n_bytes) {
    n_most_bytes_ = std::max(n_most_bytes_, n_bytes);
    if (is_measuring()) return reinterpret_cast<std::byte*>(kNowhere);
    if (n_bytes > buffer_.n_bytes()) grow(n_bytes + n_bytes / 2);
    return buffer_.data();
  }
  void reserve(size_t n_bytes) {
    if (n_bytes > buffer_.n_bytes()) grow(n_bytes);
  }
  // That anybody has taken.
  size_t n_most_bytes() const { return n_most_bytes_; }
  // How often it has lain somewhere else before.
  int64_t n_moves() const { return n_moves_; }

 private:
  void grow(size_t n_bytes) {
    const size_t n_before = buffer_.n_bytes();
    device_->wait();
    ++n_moves_;
    buffer_ = Buffer();  // first give back, then take
    try {
      buffer_ = Buffer(n_bytes, *device_);
    } catch (const Error&) {
      if (n_before > 0) buffer_ = Buffer(n_before, *device_);  // steps that were recorded find what they had
      throw;
    }
  }

  Device* device_;
  Buffer buffer_;
  size_t n_most_bytes_ = 0;
  int64_t n_moves_ = 0;
};

// What every op runs on.
struct Machine {
  Device& device;
  Scratch scratch;
  Scratch inputs;  // of products, rounded

  // Whether ops say what they take, and launch nothing.
  bool is_measuring() const { return scratch.is_measuring(); }
  int64_t n_moves() const { return scratch.n_moves() + inputs.n_moves(); }
};

}  // namespace millrace::cuda
