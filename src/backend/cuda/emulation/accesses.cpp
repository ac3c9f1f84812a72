#include "backend/cuda/emulation/accesses.h"

#include "backend/cuda/emulation/device.h"

namespace millrace::cuda::emulated {

thread_local Accesses accesses;

namespace {
constexpr uint32_t kWarp = 32;
constexpr size_t kMostPages = 4096;  // remembered from kernel to kernel
}  // namespace

void Accesses::watch(Site left_out) {
  is_watching_ = true;
  left_out_ = std::move(left_out);
  fault_.clear();
  barriers_.clear();
}

void Accesses::begin_launch(const EmulatedDevice& device) {
  device_ = &device;
  first_run_ = run_ + 1;
  if (pages_.size() < kMostPages) return;
  pages_.clear();
  last_page_ = nullptr;
}

void Accesses::begin_block(std::span<const std::byte> shared, size_t room_bytes) {
  ++run_;
  barrier_ = 0;
  warp_barriers_.assign(kWarp, 0);
  shared_begin_ = reinterpret_cast<uintptr_t>(shared.data());
  shared_end_ = shared_begin_ + shared.size();
  room_end_ = shared_begin_ + room_bytes;
}

bool Accesses::passes(SourcePlace where) {
  if (!is_watching_) return true;
  Site site(where.file, where.line);
  const bool is_left_out = site == left_out_;
  barriers_.insert(std::move(site));
  return !is_left_out;
}

void Accesses::pass_block_barrier(SourcePlace where) {
  if (passes(where)) ++barrier_;
}

void Accesses::pass_warp_barrier(int warp, SourcePlace where) {
  if (passes(where)) ++warp_barriers_[static_cast<size_t>(warp)];
}

Accesses::Who Accesses::now(Access access) const {
  const auto thread = static_cast<uint32_t>(place.thread);
  return {.run = run_,
          .barrier = barrier_,
          .warp_barrier = warp_barriers_[thread / kWarp],
          .block = run_,
          .warp = thread / kWarp,
          .thread = thread,
          .is_atomic = access == Access::atomic};
}

bool Accesses::is_ordered(const Who& before, const Who& now) const {
  if (before.run < since_) return true;
  if (before.block != now.block) return false;
  if (before.barrier != now.barrier) return true;
  if (before.warp != now.warp) return false;
  return before.warp_barrier != now.warp_barrier || before.thread == now.thread;
}

// Whether it is of the same thread, with no barrier since.
bool Accesses::is_now(const Who& before, const Who& now) {
  return before.block == now.block && before.thread == now.thread && before.barrier == now.barrier &&
         before.warp_barrier == now.warp_barrier;
}

void Accesses::join(Who& before, const Who& now) const {
  const bool is_ordered_now = is_ordered(before, now);
  const Who last = std::exchange(before, now);
  if (is_ordered_now) return;
  if (last.block != now.block) before.block = kMany;
  if (last.warp != now.warp) before.warp = kMany;
  if (last.thread != now.thread) before.thread = kMany;
}

Accesses::Cell& Accesses::cell(uintptr_t at) {
  const uintptr_t number = at / kPageBytes;
  if (last_page_ == nullptr || number != last_number_) {
    std::unique_ptr<Page>& page = pages_[number];
    if (page == nullptr) page = std::make_unique<Page>();
    last_number_ = number;
    last_page_ = page.get();
  }
  return last_page_->cells[at % kPageBytes / kCellBytes];
}

void Accesses::report(std::string_view what, uintptr_t at, const Who& before) {
  if (!fault_.empty()) return;
  const bool is_shared = at >= shared_begin_ && at < room_end_;
  fault_ = fmt::format("{} by thread {} of block ({}, {}, {}), in {}", what, place.thread, place.block[0],
                       place.block[1], place.block[2],
                       is_shared ? fmt::format("shared memory + {}", at - shared_begin_) : "device memory");
  if (before.run == 0) return;
  if (before.block != run_) {
    fault_ += "; the other of another block";
  } else {
    fault_ += fmt::format("; the other of {}",
                          before.thread == kMany ? "several" : fmt::format("thread {}", before.thread));
  }
}

void Accesses::look_at(Access access, uintptr_t at, size_t n_bytes, size_t alignment) {
  if (at >= shared_begin_ && at < room_end_) {
    if (at + n_bytes > shared_end_) return report("an access beyond the end", at, {});
    since_ = run_;
  } else if (!device_->is_address(at)) {
    return;
  } else if (!device_->is_allocated(at, n_bytes)) {
    return report("an access to what is not allocated", at, {});
  } else {
    since_ = first_run_;
  }
  if (at % alignment != 0) report("an access that is not at a multiple of its size", at, {});
  look_at_place(access, at, n_bytes);
}

void Accesses::look_at_place(Access access, uintptr_t at, size_t n_bytes) {
  const Who me = now(access);
  for (uintptr_t byte = at; byte < at + n_bytes; byte = byte / kCellBytes * kCellBytes + kCellBytes) {
    auto& [writer, readers] = cell(byte);
    const bool are_both_atomic = access == Access::atomic && writer.is_atomic;
    if (!are_both_atomic && !is_ordered(writer, me)) {
      report(access == Access::read ? "a read beside a write" : "a write beside a write", byte, writer);
    }
    if (access == Access::read) {
      join(readers, me);
      continue;
    }
    if (!is_ordered(readers, me)) report("a write beside a read", byte, readers);
    if (are_both_atomic) {
      join(writer, me);
    } else if (!me.is_atomic || !is_now(writer, me)) {  // a plain write tells more
      writer = me;
    }
  }
}

}  // namespace millrace::cuda::emulated
