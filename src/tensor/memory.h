// Where tensors lie: in the memory of the program, or in that of a device, which only the ops of its backend
// look into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace millrace {

struct Tensor;

// Of what layers keep for sequences: pages, states.
struct KeptName {
  int64_t layer;
  std::string_view name;  // among the tensors of the layer
};

// Copies between a memory and room in the program's own that nobody waits for at once.
class Transfer {
 public:
  virtual ~Transfer() = default;
  virtual std::span<std::byte> room() = 0;
  // As Memory::write and read, from the room and to it. What they take part in is left alone until wait()
  // returns, which waits for all of them and for the ops before the last one.
  virtual void write(std::byte* to, std::span<const std::byte> from) = 0;
  virtual void read(const std::byte* from, std::span<std::byte> to) = 0;
  virtual void wait() = 0;
};

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
  // Returns when all is done that was given to a device that has this memory. Throws Error(runtime) where it
  // has failed; again where nothing can be computed there any more.
  virtual void wait() {}
  // With so much room. This memory must outlive it. Without a way to copy later it copies at once.
  virtual std::unique_ptr<Transfer> transfer(size_t n_bytes);

  // The memories that it is made of: what it allocates takes its room in each of them.
  virtual std::vector<Memory*> parts() { return {this}; }
  // How often it does that.
  virtual int64_t n_copies(const Memory& /*part*/) const { return 1; }

  // Where room for what a layer keeps is allocated. This memory copies it as its own.
  virtual Memory& of_layer(int64_t /*layer*/) { return *this; }
  // Told of each tensor that has been placed there, before it is used.
  virtual void keep(const Tensor& /*tensor*/, const KeptName& /*name*/) {}
  // Bytes of such a tensor that lie in `part`.
  virtual int64_t kept_bytes(const Tensor& tensor, const KeptName& name, const Memory& part);
};

// Zeroed pages from the kernel, with huge pages asked for where they pay.
Memory& program_memory();

}  // namespace millrace
