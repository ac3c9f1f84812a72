// A buffer in each of two memories that stand for one: of every byte one or both have the newest. Before a
// side reads, what only the other has is copied there.
#pragma once

#include <map>

#include "tensor/buffer.h"

namespace millrace::split {

enum class Side { program, device };

class Mirror {
 public:
  Mirror(size_t n_bytes, Memory& device)
      : program_(n_bytes), device_(n_bytes, device), runs_{{0, Newest::both}} {}

  // What the program calls it by: where its own half begins.
  std::byte* begin() const { return program_.data(); }
  size_t n_bytes() const { return program_.n_bytes(); }
  // The same byte as `at`, an address of the program's half.
  std::byte* on(Side side, const std::byte* at) const {
    return (side == Side::program ? program_ : device_).data() + (at - begin());
  }

  // Makes `bytes`, of the program's half, the newest on that side.
  void bring(std::span<const std::byte> bytes, Side side);
  // They have been written on that side, and only there.
  void note_written(std::span<const std::byte> bytes, Side side);
  void write(std::byte* to, std::span<const std::byte> from);

 private:
  enum class Newest { program, device, both };
  using Runs = std::map<size_t, Newest>;
  static Newest only(Side side) { return side == Side::program ? Newest::program : Newest::device; }

  // Makes a run begin at `at`.
  Runs::iterator cut(size_t at);
  void set(size_t begin, size_t end, Newest newest);

  Buffer program_, device_;
  Runs runs_;  // by where they begin: neighbours differ, and the last one ends with the buffer
};

}  // namespace millrace::split
