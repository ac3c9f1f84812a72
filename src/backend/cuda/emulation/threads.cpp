#include "backend/cuda/emulation/threads.h"

#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#include <algorithm>
#include <utility>
#include <vector>

#include "backend/cuda/emulation/accesses.h"
#include "backend/cuda/emulation/device.h"

#ifdef __x86_64__
// swapcontext() asks the kernel for the mask of signals; this takes a few nanoseconds.
extern "C" void millrace_switch_stack(void** from, void* to);
asm(R"(
  .text
  .type millrace_switch_stack,@function
millrace_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size millrace_switch_stack,.-millrace_switch_stack
)");
#endif

namespace millrace::cuda::emulated {

thread_local Place place;

namespace {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
// Not a power of two: the ends of all stacks would share few places of the cache.
constexpr size_t kStackBytes = (size_t{64} << 10) + 65 * 64;

#ifdef __x86_64__
class Fiber {
 public:
  void start(std::byte* stack, void (*entry)()) {
    auto** top = reinterpret_cast<void**>(stack + kStackBytes);
    top[-2] = reinterpret_cast<void*>(entry);  // what `ret` goes to, with the stack as after a call
    top_ = top - 8;                            // below it room for six registers
  }
  void resume() { millrace_switch_stack(&outside_, top_); }
  void suspend() { millrace_switch_stack(&top_, outside_); }

 private:
  void* top_ = nullptr;
  void* outside_ = nullptr;
};
#else
class Fiber {
 public:
  void start(std::byte* stack, void (*entry)()) {
    ::getcontext(&inside_);
    inside_.uc_stack.ss_sp = stack;
    inside_.uc_stack.ss_size = kStackBytes;
    ::makecontext(&inside_, entry, 0);
  }
  void resume() { ::swapcontext(&outside_, &inside_); }
  void suspend() { ::swapcontext(&inside_, &outside_); }

 private:
  ucontext_t inside_{}, outside_{};
};
#endif

// For what a thread waits: barriers, to be where others are, others' values, their part in a product or in
// loads of matrices.
enum class Wait { nothing, warp, together, values, product, matrices, block, end };

struct Thread {
  Fiber fiber;
  Wait waits_for;
};

// What a warp gives to each other: two, since a thread may be at the next while another takes from this one.
struct Exchange {
  float values[kWarp];
  bool is_done;
};

// The same of a product: what each lane holds, and the whole result.
struct ProductExchange {
  uint32_t a[kWarp][4], b[kWarp][2];
  float d[16][8];
  bool is_done;
};

template <float (*kToFloat)(uint16_t)>
void multiply_whole(ProductExchange& exchange) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kWarp; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; ++half) {
      const auto number = [half](uint32_t word) {
        return kToFloat(static_cast<uint16_t>(word >> 16 * half));
      };
      for (int word = 0; word < 4; ++word)
        a[g + word % 2 * 8][2 * t + word / 2 * 8 + half] = number(exchange.a[lane][word]);
      for (int word = 0; word < 2; ++word) b[2 * t + word * 8 + half][g] = number(exchange.b[lane][word]);
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int col = 0; col < 8; ++col) exchange.d[row][col] += a[row][k] * b[k][col];
    }
  }
}

struct Copy {
  std::byte* to;
  const void* from;
  unsigned group;
};

class Block {
 public:
  Block() : threads_(kMaxThreads), shared_(kMaxSharedBytes), copies_(kMaxThreads) {
    void* mapped = ::mmap(nullptr, kMaxThreads * kStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    check(mapped != MAP_FAILED, "address space for stacks");
    stacks_ = static_cast<std::byte*>(mapped);
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() { ::munmap(stacks_, kMaxThreads * kStackBytes); }

  void run(const Launch& launch, Order order) {
    const int n_threads = n_threads_ = launch.n_threads;
    thread_ = &launch.thread;
    order_ = order;
    std::fill_n(shared_.begin(), launch.shared_bytes, std::byte{0xff});
    accesses.begin_block({shared_.data(), launch.shared_bytes}, shared_.size());
    place.n_threads = n_threads;
    for (int i = 0; i < n_threads; ++i) {
      threads_[static_cast<size_t>(i)].fiber.start(stacks_ + static_cast<size_t>(i) * kStackBytes, begin);
      threads_[static_cast<size_t>(i)].waits_for = Wait::nothing;
      n_exchanges_[i] = 0;
    }
    while (!run_to_block_barrier()) accesses.pass_block_barrier(barrier_);
    for (int i = 0; i < n_threads; ++i)
      check(copies_[static_cast<size_t>(i)].empty(), "copies that somebody has waited for");
  }

  void wait(Wait what) {
    Thread& thread = threads_[static_cast<size_t>(place.thread)];
    thread.waits_for = what;
    thread.fiber.suspend();
  }
  void wait_at_barrier(Wait what, SourcePlace where) {
    barrier_ = where;
    wait(what);
  }
  std::byte* shared() { return shared_.data(); }

  // Joins the values of `width` neighbours.
  template <class Join>
  float exchange(float value, int width, Join join) {
    const int index = place.thread;
    Exchange& exchange = exchanges_[index / kWarp][n_exchanges_[index]++ % 2];
    exchange.values[index % kWarp] = value;
    exchange.is_done = false;
    wait(Wait::values);
    if (!exchange.is_done) {
      for (float* values = exchange.values; values < exchange.values + kWarp; values += width) {
        for (int distance = width / 2; distance > 0; distance /= 2) {
          for (int i = 0; i < distance; ++i) values[i] = join(values[i], values[i + distance]);
        }
      }
      exchange.is_done = true;
    }
    return exchange.values[index % kWarp / width * width];
  }

  template <float (*kToFloat)(uint16_t)>
  void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const int index = place.thread, lane = index % kWarp, g = lane / 4, t = lane % 4;
    ProductExchange& exchange = products_[index / kWarp][n_exchanges_[index]++ % 2];
    std::ranges::copy(a, exchange.a[lane]);
    std::ranges::copy(b, exchange.b[lane]);
    for (int i = 0; i < 4; ++i) exchange.d[g + i / 2 * 8][2 * t + i % 2] = d[i];
    exchange.is_done = false;
    wait(Wait::product);
    if (!exchange.is_done) multiply_whole<kToFloat>(exchange);
    exchange.is_done = true;
    for (int i = 0; i < 4; ++i) d[i] = exchange.d[g + i / 2 * 8][2 * t + i % 2];
  }

  // They are made as late as they may be: who reads them earlier reads something else.
  void copy16(std::byte* to, const void* from) {
    note(to, from);
    copies().push_back({to, from, groups_[place.thread]});
  }
  void commit_copies() { ++groups_[place.thread]; }
  void wait_for_copies(unsigned n_newest) {
    std::erase_if(copies(), [&](const Copy& copy) {
      const bool is_awaited = groups_[place.thread] - copy.group > n_newest;
      if (is_awaited) {
        note(copy.to, copy.from);
        std::memcpy(copy.to, copy.from, 16);
      }
      return is_awaited;
    });
  }

 private:
  // It may be made at any time from when it is asked for to when somebody has waited.
  static void note(std::byte* to, const void* from) {
    accesses.note(Access::read, from, 16);
    accesses.note(Access::write, to, 16);
  }
  std::vector<Copy>& copies() { return copies_[static_cast<size_t>(place.thread)]; }

  static void begin();

  template <class Body>
  void for_each(int first, int end, Body body) {
    if (order_ == Order::ascending) {
      for (int i = first; i < end; ++i) body(i);
    } else {
      for (int i = end; i-- > first;) body(i);
    }
  }

  void resume(int index) {
    place.thread = index;
    threads_[static_cast<size_t>(index)].fiber.resume();
  }

  // Returns what all threads of the warp wait for: the block, or the end.
  Wait run_warp(int first, int end) {
    for (;;) {
      for_each(first, end, [&](int i) {
        threads_[static_cast<size_t>(i)].waits_for = Wait::nothing;
        resume(i);
      });
      const Wait all = threads_[static_cast<size_t>(first)].waits_for;
      for (int i = first; i < end; ++i)
        check(threads_[static_cast<size_t>(i)].waits_for == all, "the threads of a warp wait together");
      if (all == Wait::block || all == Wait::end) return all;
      check(end - first == kWarp, "a warp that exchanges values is whole");
      if (all == Wait::warp) accesses.pass_warp_barrier(first / kWarp, barrier_);
    }
  }

  // Returns whether the block has ended.
  bool run_to_block_barrier() {
    int n_ended = 0, n_warps = 0;
    for_each(0, (n_threads_ + kWarp - 1) / kWarp, [&](int warp) {
      ++n_warps;
      n_ended += run_warp(warp * kWarp, std::min(n_threads_, (warp + 1) * kWarp)) == Wait::end ? 1 : 0;
    });
    check(n_ended == 0 || n_ended == n_warps, "the threads of a block wait together");
    return n_ended > 0;
  }

  std::vector<Thread> threads_;
  std::byte* stacks_;
  std::vector<std::byte> shared_;  // of which a launch uses the first
  SourcePlace barrier_{};          // where a thread has come to one last
  int n_threads_ = 0;
  const std::function<void()>* thread_ = nullptr;
  Order order_ = Order::ascending;
  Exchange exchanges_[kMaxThreads / kWarp][2];
  ProductExchange products_[kMaxThreads / kWarp][2];
  unsigned n_exchanges_[kMaxThreads];
  std::vector<std::vector<Copy>> copies_;  // of each thread, that have not been made
  unsigned groups_[kMaxThreads] = {};      // of copies that each thread has committed
};

thread_local Block* running = nullptr;

void Block::begin() {
  (*running->thread_)();
  running->wait(Wait::end);
}

}  // namespace

void sync_block(SourcePlace where) { running->wait_at_barrier(Wait::block, where); }
void sync_warp(SourcePlace where) { running->wait_at_barrier(Wait::warp, where); }
void converge_warp() { running->wait(Wait::together); }
std::byte* shared_memory() { return running->shared(); }

namespace {
float sum_of(float a, float b) { return a + b; }
float most_of(float a, float b) { return std::fmax(a, b); }

const std::byte* row_of(const std::byte* matrix, int row_bytes, int i) {
  const std::byte* row = matrix + i * row_bytes;
  check(reinterpret_cast<uintptr_t>(row) % 16 == 0, "rows of matrices at multiples of 16 bytes");
  accesses.note(Access::read, row, 16);
  return row;
}
}  // namespace

float warp_sum(float value) { return running->exchange(value, kWarp, sum_of); }
float warp_max(float value) { return running->exchange(value, kWarp, most_of); }
float quad_sum(float value) { return running->exchange(value, 4, sum_of); }
float quad_max(float value) { return running->exchange(value, 4, most_of); }

void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  running->multiply_add<float_of_bf16>(d, a, b);
}
void multiply_add_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  running->multiply_add<float_of_f16>(d, a, b);
}
Bytes16 load_matrices(const std::byte* shared, int row_bytes, int second, int third) {
  running->wait(Wait::matrices);
  const int g = place.thread % kWarp / 4, t = place.thread % 4;
  Bytes16 out;
  for (int i = 0; i < 4; ++i) {
    const std::byte* matrix = shared + i % 2 * second + i / 2 * third;
    out.words[i] = load<uint32_t>(row_of(matrix, row_bytes, g) + 4 * t);
  }
  return out;
}
Bytes16 load_transposed(const std::byte* shared, int row_bytes, int second, int third) {
  running->wait(Wait::matrices);
  const int g = place.thread % kWarp / 4, t = place.thread % 4;
  Bytes16 out;
  for (int i = 0; i < 4; ++i) {
    const std::byte* matrix = shared + i % 2 * second + i / 2 * third;
    const uint32_t low = load<uint16_t>(row_of(matrix, row_bytes, 2 * t) + 2 * g);
    const uint32_t high = load<uint16_t>(row_of(matrix, row_bytes, 2 * t + 1) + 2 * g);
    out.words[i] = low | high << 16;
  }
  return out;
}
void copy16(std::byte* shared, const void* from) {
  check(reinterpret_cast<uintptr_t>(shared) % 16 == 0 && reinterpret_cast<uintptr_t>(from) % 16 == 0,
        "a copy of 16 bytes at multiples of 16");
  running->copy16(shared, from);
}
int atomic_add(int* number, int value) {
  accesses.note(Access::atomic, number, sizeof(int));
  return std::exchange(*number, *number + value);
}
void commit_copies() { running->commit_copies(); }
void wait_for_copies(unsigned n_newest) { running->wait_for_copies(n_newest); }

namespace {

void run(EmulatedDevice& device, const Launch& launch) {
  static thread_local Block block;
  running = &block;
  const EmulatedDevice::Open open(device);
  accesses.begin_launch(device);
  const Grid& grid = launch.grid;
  const int64_t n_blocks = grid.x * grid.y * grid.z;
  place.n_blocks = grid.x;
  for (int64_t i = 0; i < n_blocks; ++i) {
    const int64_t at = device.order() == Order::ascending ? i : n_blocks - 1 - i;
    place.block[0] = at % grid.x, place.block[1] = at / grid.x % grid.y,
    place.block[2] = at / grid.x / grid.y;
    block.run(launch, device.order());
  }
  accesses.end_launch();
}

}  // namespace

void check_shape(const Launch& launch) {
  check(launch.n_threads > 0 && launch.n_threads <= kMaxThreads && launch.shared_bytes <= kMaxSharedBytes,
        "a block that a GPU runs");
  check(launch.grid.x <= INT32_MAX && launch.grid.y <= kMaxGridY && launch.grid.z <= kMaxGridY,
        "a grid that a GPU runs");
}

void give(Device& device, const Launch& launch) {
  auto& emulation = static_cast<EmulatedDevice&>(device);
  emulation.give([&emulation, launch] { run(emulation, launch); });
}

}  // namespace millrace::cuda::emulated
