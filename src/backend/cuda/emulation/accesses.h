// What kernels read and write while the emulation watches: accesses of two threads to one place that no
// barrier orders, beyond what is allocated, or not at a multiple of their size. It finds them whatever the
// order in which threads happen to run, and what values they happen to write.
//
// Blocks of a grid are never ordered, threads of a block by its barriers, threads of a warp by sync_warp()
// too. A sum over a warp orders nothing: on a GPU it is no barrier for memory.
//
// It hears of copies and atomics from the emulation, of all else from kernels that are compiled to tell it
// (races_test.cpp). One for each thread of the program.
#pragma once

#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "backend/cuda/emulation/threads.h"

namespace millrace::cuda::emulated {

class EmulatedDevice;

enum class Access { read, write, atomic };

// The line of a kernel's text where a barrier is.
using Site = std::pair<std::string, int>;

class Accesses {
 public:
  // Forgets what it has found. `left_out`: a barrier that counts as none, though threads wait there.
  void watch(Site left_out = {});
  void stop() { is_watching_ = false; }
  // "" where all is well.
  const std::string& first_fault() const { return fault_; }
  // Barriers that have ordered something, or would have: of kernels since watch().
  const std::set<Site>& barriers() const { return barriers_; }

  // Of the emulation: a kernel begins and ends, a block of it begins, a barrier is passed.
  void begin_launch(const EmulatedDevice& device);
  void end_launch() { device_ = nullptr; }
  void begin_block(std::span<const std::byte> shared, size_t room_bytes);
  void pass_block_barrier(SourcePlace where);
  void pass_warp_barrier(int warp, SourcePlace where);
  // Of the running thread, at what must be a multiple of `alignment`. Memory that kernels do not share is
  // nothing to it.
  void note(Access access, const void* at, size_t n_bytes, size_t alignment = 1) {
    if (is_watching_ && device_ != nullptr)
      look_at(access, reinterpret_cast<uintptr_t>(at), n_bytes, alignment);
  }

 private:
  // Who has read or written a place since whoever came before was ordered: threads, warps, blocks that are
  // several are kMany.
  static constexpr uint32_t kMany = UINT32_MAX;
  struct Who {
    uint32_t run = 0;  // of a block, counted over all kernels: the last one
    uint32_t barrier = 0, warp_barrier = 0;
    uint32_t block = 0, warp = 0, thread = 0;
    bool is_atomic = false;
  };
  struct Cell {
    Who writer, readers;
  };
  // Neighbours never write single bytes.
  static constexpr size_t kCellBytes = 2, kPageBytes = 4096;
  struct Page {
    Cell cells[kPageBytes / kCellBytes];
  };

  void look_at(Access access, uintptr_t at, size_t n_bytes, size_t alignment);
  void look_at_place(Access access, uintptr_t at, size_t n_bytes);
  Who now(Access access) const;
  bool is_ordered(const Who& before, const Who& now) const;
  static bool is_now(const Who& before, const Who& now);
  void join(Who& before, const Who& now) const;
  bool passes(SourcePlace where);
  Cell& cell(uintptr_t at);
  void report(std::string_view what, uintptr_t at, const Who& before);

  bool is_watching_ = false;
  Site left_out_;
  std::string fault_;
  std::set<Site> barriers_;
  const EmulatedDevice* device_ = nullptr;
  uintptr_t shared_begin_ = 0, shared_end_ = 0, room_end_ = 0;
  uint32_t run_ = 0, first_run_ = 0;  // of the block, and of the first of this kernel
  uint32_t since_ = 0;    // whose accesses of the place are not over: the block's, or the kernel's
  uint32_t barrier_ = 0;  // how many the block has passed
  std::vector<uint32_t> warp_barriers_;
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
  uintptr_t last_number_ = 0;
  Page* last_page_ = nullptr;
};

extern thread_local Accesses accesses;

}  // namespace millrace::cuda::emulated
