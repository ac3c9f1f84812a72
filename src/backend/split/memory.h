// The memory of a split backend. What it allocates are mirrors, known by their half in the program's memory;
// what layers keep lies in one memory alone and is too large for two.
#pragma once

#include <map>

#include "backend/split/mirror.h"
#include "tensor/forwarding_memory.h"

namespace millrace::split {

// The device's, which remembers what has been allocated there.
class DevicePart final : public ForwardingMemory {
 public:
  using ForwardingMemory::ForwardingMemory;

  std::byte* allocate(size_t n_bytes) override;
  void release(std::byte* memory, size_t n_bytes) override;

  bool has(const std::byte* address) const;

 private:
  std::map<const std::byte*, size_t> sizes_;  // by where they begin
};

class SplitMemory final : public Memory {
 public:
  // `device` must outlive it.
  SplitMemory(Memory& device, std::vector<bool> device_layers)
      : device_(device), device_layers_(std::move(device_layers)) {}

  bool is_of_program() const override { return false; }
  std::byte* allocate(size_t n_bytes) override;
  void release(std::byte* memory, size_t n_bytes) override;
  int64_t free_bytes() const override { return device_.free_bytes(); }
  void write(std::byte* to, std::span<const std::byte> from) override;
  void read(const std::byte* from, std::span<std::byte> to) override;
  void copy(const std::byte* from, std::byte* to, size_t n_bytes) override;
  void wait() override { device_.wait(); }
  std::vector<Memory*> parts() override { return {&program_memory(), &device_}; }
  Memory& of_layer(int64_t layer) override;

  // The mirror that `address` is of, else nullptr.
  Mirror* mirror_of(const std::byte* address);
  // Of an address outside of mirrors.
  Side side_of(const std::byte* address) const { return device_.has(address) ? Side::device : Side::program; }

 private:
  DevicePart device_;
  std::vector<bool> device_layers_;
  std::map<const std::byte*, Mirror> mirrors_;  // by where they begin
};

}  // namespace millrace::split
