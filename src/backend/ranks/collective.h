// What ranks tell each other. Every rank calls the same functions in the same order, on a thread of its own.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "tensor/memory.h"

namespace millrace {

class Collective {
 public:
  virtual ~Collective() = default;

  // `to` becomes what each rank gives, one after the other in the order of ranks; all give as many bytes.
  // Addresses are of the rank's memory. Throws Error(runtime) where a rank has given up.
  virtual void all_gather(int rank, std::span<const std::byte> from, std::byte* to) = 0;
  // A rank gives up: the calls of others end, and so does what they have waiting in their memories. Any
  // thread, at any time.
  virtual void give_up() = 0;
  // After that, when no rank is in a call. Throws Error(runtime) where it cannot be.
  virtual void begin_again() = 0;
};

// Between threads of this process, whatever memory their ranks have: through the program's.
class SharedCollective final : public Collective {
 public:
  // Of each rank; they must outlive it.
  explicit SharedCollective(std::vector<Memory*> memories)
      : memories_(std::move(memories)), given_(memories_.size()), staged_(memories_.size()) {}

  void all_gather(int rank, std::span<const std::byte> from, std::byte* to) override;
  void give_up() override;
  void begin_again() override;

 private:
  // Returns when all ranks have called it.
  void meet();

  std::vector<Memory*> memories_;
  std::vector<std::span<const std::byte>> given_;  // what a rank gives, where all can read it
  std::vector<std::vector<std::byte>> staged_;     // of ranks whose memory the program cannot look into
  std::atomic<uint32_t> n_meetings_{0};
  std::atomic<size_t> n_here_{0};  // ranks in the next one
  std::atomic<bool> has_given_up_{false};
};

}  // namespace millrace
