// What orders the accesses of kernels: over the table of ops nothing may be read or written beside a write,
// and every barrier of a kernel must be missed where it is left out.
//
// The kernels are compiled once more for this program, as for the thread sanitizer, whose functions are
// defined here: each load and store tells the emulation of it (emulation/accesses.h).
#include <gtest/gtest.h>

#include "backend/cases/op_trial.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/emulation/accesses.h"
#include "backend/cuda/emulation/device.h"
#include "backend/cuda/text/threads.inl"
#include "backend/tools/staging_backend.h"

#ifdef MILLRACE_TOLD
namespace {

using millrace::cuda::emulated::Access;
using millrace::cuda::emulated::accesses;

thread_local bool is_noting = false;  // what notes may be compiled to tell, too

[[gnu::no_sanitize("thread")]] void note(Access access, const void* at, size_t n_bytes,
                                         size_t alignment = 1) {
  if (is_noting) return;
  is_noting = true;
  accesses.note(access, at, n_bytes, alignment);
  is_noting = false;
}

}  // namespace

extern "C" {
#define MILLRACE_NOTE(n_bytes, alignment)                               \
  [[gnu::no_sanitize("thread")]] void __tsan_read##n_bytes(void* at) {  \
    note(Access::read, at, n_bytes, alignment);                         \
  }                                                                     \
  [[gnu::no_sanitize("thread")]] void __tsan_write##n_bytes(void* at) { \
    note(Access::write, at, n_bytes, alignment);                        \
  }
MILLRACE_NOTE(1, 1)
MILLRACE_NOTE(2, 2)
MILLRACE_NOTE(4, 4)
MILLRACE_NOTE(8, 8)
MILLRACE_NOTE(16, 8)  // two pointers
#undef MILLRACE_NOTE
[[gnu::no_sanitize("thread")]] void __tsan_read_range(void* at, size_t n_bytes) {
  note(Access::read, at, n_bytes);
}
[[gnu::no_sanitize("thread")]] void __tsan_write_range(void* at, size_t n_bytes) {
  note(Access::write, at, n_bytes);
}
[[gnu::no_sanitize("thread")]] void __tsan_vptr_update(void**, void*) {}
[[gnu::no_sanitize("thread")]] void __tsan_vptr_read(void**) {}
[[gnu::no_sanitize("thread")]] void __tsan_func_entry(void*) {}
[[gnu::no_sanitize("thread")]] void __tsan_func_exit() {}
[[gnu::no_sanitize("thread")]] void __tsan_init() {}
// Of pointers that the program counts; no kernel has any.
[[gnu::no_sanitize("thread")]] int __tsan_atomic32_fetch_add(int* at, int value, int order) {
  return __atomic_fetch_add(at, value, order);
}
[[gnu::no_sanitize("thread")]] int __tsan_atomic32_fetch_sub(int* at, int value, int order) {
  return __atomic_fetch_sub(at, value, order);
}
}

#endif

namespace millrace::cuda::emulated {
namespace {

#ifdef MILLRACE_TOLD
constexpr bool kIsTold = true;
#else
constexpr bool kIsTold = false;  // another compiler, or a sanitizer
#endif

// --- what it finds -----------------------------------------------------------------------------------------

constexpr int kThreads = 64;

struct Numbers {
  float* device;  // (kThreads), zeros
};

class Accessing : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kIsTold) GTEST_SKIP() << "kernels do not tell";
  }
  // "" where nothing is wrong with the kernel.
  std::string fault_of(void (*kernel)(Numbers), const Grid& grid = {}) {
    accesses.watch();
    launch(machine_, kernel, grid, kThreads, kThreads * sizeof(float),
           Numbers{reinterpret_cast<float*>(buffer_.data())});
    device_.wait();
    accesses.stop();
    return accesses.first_fault();
  }

  EmulatedDevice device_{Order::ascending};
  Machine machine_{device_, Scratch(&device_), Scratch(&device_)};
  Buffer buffer_{kThreads * sizeof(float), device_};
};

float* shared_floats() { return reinterpret_cast<float*>(shared_memory()); }

TEST_F(Accessing, WithBarriersIsWell) {
  const auto reverse = [](Numbers a) {
    const int i = thread_index();
    shared_floats()[i] = static_cast<float>(i);
    sync_block();
    a.device[i] = shared_floats()[kThreads - 1 - i];
    sync_block();
    shared_floats()[i ^ 1] = 0.0f;
    sync_warp();
    a.device[i] += shared_floats()[i];
  };
  EXPECT_EQ(fault_of(reverse), "");
}

TEST_F(Accessing, OfOtherWarpsNeedsABarrierOfTheBlock) {
  const auto reverse = [](Numbers a) {
    const int i = thread_index();
    shared_floats()[i] = static_cast<float>(i);
    sync_warp();
    a.device[i] = shared_floats()[kThreads - 1 - i];
  };
  EXPECT_NE(fault_of(reverse).find("a write beside a read"), std::string::npos);
}

// Every thread finds what it should, in whatever order they run.
TEST_F(Accessing, IsNotOrderedByASumOfTheWarp) {
  const auto sum = [](Numbers a) {
    const int i = thread_index();
    const float before = a.device[i / kWarp];
    const float all = warp_sum(before + 1.0f);
    if (i % kWarp == 0) a.device[i / kWarp] = all;
  };
  EXPECT_NE(fault_of(sum).find("a write beside a read"), std::string::npos);
}

// Not even of the same bits.
TEST_F(Accessing, OfOtherBlocksIsNeverOrdered) {
  const auto write_zeros = [](Numbers a) { a.device[thread_index()] = 0.0f; };
  EXPECT_EQ(fault_of(write_zeros), "");
  EXPECT_NE(fault_of(write_zeros, {2}).find("a write beside a write"), std::string::npos);
}

TEST_F(Accessing, AtOnceIsForAtomicsAlone) {
  const auto count = [](Numbers a) { atomic_add(reinterpret_cast<int*>(a.device), 1); };
  EXPECT_EQ(fault_of(count, {2}), "");
  const auto count_and_clear = [](Numbers a) {
    if (thread_index() == 0) a.device[0] = 0.0f;
    atomic_add(reinterpret_cast<int*>(a.device), 1);
  };
  EXPECT_NE(fault_of(count_and_clear), "");
}

TEST_F(Accessing, OfACopyLastsUntilItIsAwaited) {
  const auto copy = [](Numbers a) {
    float* const shared = shared_floats();
    if (thread_index() < 4) copy16(shared_memory() + 16 * thread_index(), a.device + 4 * thread_index());
    commit_copies();
    sync_block();
    wait_copies<0>();
    a.device[thread_index()] = shared[thread_index() % 16];
  };
  EXPECT_NE(fault_of(copy), "");
}

TEST_F(Accessing, StaysWithinWhatThereIs) {
  const auto read_past = [](Numbers a) { a.device[thread_index()] = a.device[thread_index() + 1]; };
  EXPECT_NE(fault_of(read_past), "");
  const auto share_past = [](Numbers) { shared_floats()[thread_index() + 1] = 0.0f; };
  EXPECT_NE(fault_of(share_past).find("beyond the end"), std::string::npos);
}

TEST_F(Accessing, IsAtMultiplesOfASize) {
  const auto cross = [](Numbers a) {
    if (thread_index() > 0) return;
    *reinterpret_cast<float*>(reinterpret_cast<std::byte*>(a.device) + 2) = 0.0f;
  };
  EXPECT_NE(fault_of(cross).find("multiple of its size"), std::string::npos);
}

using AccessingDeathTest = Accessing;

TEST_F(AccessingDeathTest, ByAWarpTogetherIsByAllOfIt) {
  const auto differ = [](Numbers a) {
    if (thread_index() % 2 == 0) {
      a.device[thread_index()] = warp_sum(1.0f);
    } else {
      sync_warp();
    }
  };
  EXPECT_DEATH(fault_of(differ), "the threads of a warp wait together");
}

// --- the kernels -------------------------------------------------------------------------------------------

// "" where all is well.
std::string fault_of(testing::Trial& trial, const Site& left_out) {
  const auto backend = make_emulated_cuda_backend(EmulatedThreads::ascending);
  StagingBackend cuda(*backend);
  accesses.watch(left_out);
  trial.run(cuda);
  accesses.stop();
  return accesses.first_fault();
}

TEST(Kernels, NeedTheirBarriersAndNoOthers) {
  if (!kIsTold) GTEST_SKIP() << "kernels do not tell";
  std::set<Site> all, missed;
  testing::for_each_case([&](testing::Trial& trial) {
    EXPECT_EQ(fault_of(trial, {}), "");
    const std::set<Site> barriers = accesses.barriers();
    all.insert(barriers.begin(), barriers.end());
    for (const Site& barrier : barriers) {
      if (!missed.contains(barrier) && !fault_of(trial, barrier).empty()) missed.insert(barrier);
    }
  });
  for (const auto& [file, line] : all)
    EXPECT_TRUE(missed.contains({file, line})) << file << ":" << line << " orders nothing";
}

}  // namespace
}  // namespace millrace::cuda::emulated
