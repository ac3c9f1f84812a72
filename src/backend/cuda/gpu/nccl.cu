// Ranks on GPUs of this machine tell each other by NCCL, which is loaded where it is installed.
#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <vector>

#include "backend/cuda/cuda.h"
#include "backend/cuda/gpu/threads.h"

namespace millrace {
namespace cuda::gpu {
namespace {

// Of nccl.h: the interface of libnccl.so.2.
using Comm = struct ncclComm*;
constexpr int kSuccess = 0, kInt8 = 0;

class Nccl {
 public:
  bool load() {
    void* const library = ::dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);  // stays: kernels may still run
    return library != nullptr && find(library, "ncclCommInitAll", init_all) &&
           find(library, "ncclAllGather", all_gather) && find(library, "ncclCommAbort", abort) &&
           find(library, "ncclGroupStart", group_start) && find(library, "ncclGroupEnd", group_end) &&
           find(library, "ncclGetErrorString", error_string);
  }
  void expect_success(int status, std::string_view what) const {
    if (status != kSuccess) fail(ErrorKind::runtime, "NCCL: {} failed: {}", what, error_string(status));
  }

  int (*init_all)(Comm* comms, int n_devices, const int* devices) = nullptr;
  int (*all_gather)(const void* from, void* to, size_t n, int type, Comm comm, cudaStream_t stream) = nullptr;
  int (*abort)(Comm comm) = nullptr;
  int (*group_start)() = nullptr;
  int (*group_end)() = nullptr;
  const char* (*error_string)(int status) = nullptr;

 private:
  template <class Function>
  static bool find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(::dlsym(library, name));
    return function != nullptr;
  }
};

class NcclCollective final : public Collective {
 public:
  NcclCollective(const Nccl& nccl, const std::vector<Memory*>& memories)
      : nccl_(nccl), ranks_(memories.size()) {
    for (size_t i = 0; i < ranks_.size(); ++i) ranks_[i].device = &dynamic_cast<Device&>(*memories[i]);
    begin_again();
  }
  NcclCollective(const NcclCollective&) = delete;
  NcclCollective& operator=(const NcclCollective&) = delete;
  // Nothing runs any more: aborting is how a communicator is given back without waiting for others.
  ~NcclCollective() override { give_up(); }

  void all_gather(int rank, std::span<const std::byte> from, std::byte* to) override {
    Rank& me = ranks_[static_cast<size_t>(rank)];
    auto* const stream = static_cast<cudaStream_t>(me.device->stream());
    const std::lock_guard lock(me.mutex);
    if (me.comm == nullptr) fail(ErrorKind::runtime, "a rank has given up");
    nccl_.expect_success(nccl_.all_gather(from.data(), to, from.size(), kInt8, me.comm, stream),
                         "gathering between GPUs");
  }

  // Nobody enters a communicator while it is aborted. Who is in one is soon out of it; but for a thread whose
  // stream is full of what waits for others, which only the abort lets go on.
  void give_up() override {
    std::vector<std::unique_lock<std::timed_mutex>> locks;
    for (Rank& rank : ranks_) locks.emplace_back(rank.mutex, std::chrono::seconds(1));
    nccl_.group_start();  // one alone might wait for the others
    for (Rank& rank : ranks_) {
      if (Comm comm = rank.comm.exchange(nullptr)) nccl_.abort(comm);
    }
    nccl_.group_end();
  }

  void begin_again() override {
    give_up();  // what is left
    std::vector<Comm> comms(ranks_.size());
    std::vector<int> gpus(ranks_.size());
    std::iota(gpus.begin(), gpus.end(), 0);
    nccl_.expect_success(nccl_.init_all(comms.data(), static_cast<int>(gpus.size()), gpus.data()),
                         "beginning between GPUs");
    for (size_t i = 0; i < ranks_.size(); ++i) ranks_[i].comm = comms[i];
  }

 private:
  struct Rank {
    Device* device = nullptr;
    std::timed_mutex mutex;
    std::atomic<Comm> comm{nullptr};  // on the GPU of its number; behind the mutex, while that can be had
  };

  Nccl nccl_;
  std::vector<Rank> ranks_;
};

}  // namespace
}  // namespace cuda::gpu

std::unique_ptr<Collective> make_gpu_collective(const std::vector<Memory*>& memories) {
  cuda::gpu::Nccl nccl;
  if (!nccl.load()) return nullptr;
  return std::make_unique<cuda::gpu::NcclCollective>(nccl, memories);
}

}  // namespace millrace
