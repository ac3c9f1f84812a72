// Where tensors lie: in the memory of the program, or in that of a device, which only the ops of its backend
// look into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace millrace {

// What is copied has the state that all ops before the copy leave, and ops after it see the copy. Used by one
// thread at a time, which may be another one than the backend's.
class Memory {
 public:
  virtual ~Memory() = default;

  // Whether the program may look into it.
  virtual bool is_of_program() const = 0;
  // Zeroed, aligned to 256 bytes at least. Throws Error(does_not_fit) with the number where there is no room.
  virtual std::byte* allocate(size_t n_bytes) = 0;
  virtual void release(std::byte* memory, size_t n_bytes) = 0;
  // That could be allocated now, as far as the memory itself knows: the program's has no end.
  virtual int64_t free_bytes() const = 0;
  // From the memory of the program and to it: whole when they return.
  virtual void write(std::byte* to, std::span<const std::byte> from) = 0;
  virtual void read(const std::byte* from, std::span<std::byte> to) = 0;
  // Within this memory; the two do not overlap.
  virtual void copy(const std::byte* from, std::byte* to, size_t n_bytes) = 0;

  // The memories that it is made of: what it allocates takes its room in each of them.
  virtual std::vector<Memory*> parts() { return {this}; }
  // The part that what a layer keeps (pages, states) lies in. This memory copies it as its own.
  virtual Memory& of_layer(int64_t /*layer*/) { return *this; }
};

// Zeroed pages from the kernel, with huge pages asked for where they pay.
Memory& program_memory();

}  // namespace millrace
