#include "tensor/memory.h"

#include <sys/mman.h>

#include <cstring>
#include <limits>

#include "base/error.h"
#include "tensor/tensor.h"

namespace millrace {
namespace {

class ProgramMemory final : public Memory {
 public:
  bool is_of_program() const override { return true; }

  std::byte* allocate(size_t n_bytes) override {
    void* mapped =
        ::mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) fail(ErrorKind::does_not_fit, "cannot allocate {} bytes of memory", n_bytes);
    constexpr size_t kHugeFrom = size_t{4} << 20;  // smaller buffers would round up to pages they never touch
    if (n_bytes >= kHugeFrom) ::madvise(mapped, n_bytes, MADV_HUGEPAGE);
    return static_cast<std::byte*>(mapped);
  }
  void release(std::byte* memory, size_t n_bytes) override { ::munmap(memory, n_bytes); }
  int64_t free_bytes() const override { return std::numeric_limits<int64_t>::max(); }

  void write(std::byte* to, std::span<const std::byte> from) override {
    if (!from.empty()) std::memcpy(to, from.data(), from.size());
  }
  void read(const std::byte* from, std::span<std::byte> to) override {
    if (!to.empty()) std::memcpy(to.data(), from, to.size());
  }
  void copy(const std::byte* from, std::byte* to, size_t n_bytes) override {
    if (n_bytes > 0) std::memcpy(to, from, n_bytes);
  }
};

class TransferAtOnce final : public Transfer {
 public:
  TransferAtOnce(Memory& memory, size_t n_bytes) : memory_(memory), room_(n_bytes) {}

  std::span<std::byte> room() override { return room_; }
  void write(std::byte* to, std::span<const std::byte> from) override { memory_.write(to, from); }
  void read(const std::byte* from, std::span<std::byte> to) override { memory_.read(from, to); }
  void wait() override {}

 private:
  Memory& memory_;
  std::vector<std::byte> room_;
};

}  // namespace

std::unique_ptr<Transfer> Memory::transfer(size_t n_bytes) {
  return std::make_unique<TransferAtOnce>(*this, n_bytes);
}

int64_t Memory::kept_bytes(const Tensor& tensor, const KeptName& name, const Memory& part) {
  return &of_layer(name.layer) == &part ? tensor.n_bytes() : 0;
}

Memory& program_memory() {
  static ProgramMemory memory;
  return memory;
}

}  // namespace millrace
