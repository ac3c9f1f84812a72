// The memory of several ranks as one. What it allocates lies on each of them whole, known by its place on
// rank 0: activations of which a rank has a part fill the beginning of it. Of what layers keep, each rank has
// its cut, and what it is known by is a range of addresses where nothing lies.
#pragma once

#include <map>

#include "backend/ranks/plan.h"
#include "backend/ranks/workers.h"
#include "tensor/buffer.h"
#include "tensor/forwarding_memory.h"

namespace millrace::ranks {

// A tensor that layers keep.
struct KeptTensor {
  Tensor whole;            // by the addresses it is known by
  const Cut* cut;          // nullptr: every rank has all of it
  std::vector<Buffer> on;  // each rank
};

class RanksMemory final : public Memory {
 public:
  // `memories` are those of the ranks; all must outlive it.
  RanksMemory(std::vector<Memory*> memories, const Plan& plan, Workers& workers)
      : memories_(std::move(memories)), plan_(plan), workers_(workers), kept_room_(*this) {}

  bool is_of_program() const override { return false; }
  std::byte* allocate(size_t n_bytes) override;
  void release(std::byte* memory, size_t n_bytes) override;
  int64_t free_bytes() const override;
  void write(std::byte* to, std::span<const std::byte> from) override;
  void read(const std::byte* from, std::span<std::byte> to) override;
  void copy(const std::byte* from, std::byte* to, size_t n_bytes) override;
  void wait() override;
  std::vector<Memory*> parts() override;
  int64_t n_copies(const Memory& part) const override;
  Memory& of_layer(int64_t /*layer*/) override { return kept_room_; }
  void keep(const Tensor& tensor, const KeptName& name) override;
  int64_t kept_bytes(const Tensor& tensor, const KeptName& name, const Memory& part) override;

  // Of any thread: nothing changes what these say while a rank computes.
  std::byte* on(int rank, const std::byte* address) const;  // of what it has allocated
  const KeptTensor* kept(const std::byte* address) const;   // that lies there; nullptr where none does

 private:
  // Addresses for what layers keep.
  class KeptRoom final : public ForwardingMemory {
   public:
    explicit KeptRoom(RanksMemory& all) : ForwardingMemory(all), all_(all) {}
    std::byte* allocate(size_t n_bytes) override;
    void release(std::byte* memory, size_t n_bytes) override;

   private:
    RanksMemory& all_;
  };

  int n_ranks() const { return static_cast<int>(memories_.size()); }
  Memory& memory(int rank) const { return *memories_[static_cast<size_t>(rank)]; }
  const Cut* cut_of(const KeptName& name) const;

  std::vector<Memory*> memories_;
  const Plan& plan_;
  Workers& workers_;
  KeptRoom kept_room_;
  std::map<const std::byte*, std::vector<Buffer>> buffers_;  // on each rank, by where they begin on rank 0
  std::map<const std::byte*, KeptTensor> kept_;              // by where they begin
};

}  // namespace millrace::ranks
