// Ranks on GPUs of this machine tell each other by NCCL, which is loaded where it is installed.
#include <dlfcn.h>

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
           find(library, "ncclGetErrorString", error_string);
  }
  void expect_success(int status, std::string_view what) const {
    if (status != kSuccess) fail(ErrorKind::runtime, "NCCL: {} failed: {}", what, error_string(status));
  }

  int (*init_all)(Comm* comms, int n_devices, const int* devices) = nullptr;
  int (*all_gather)(const void* from, void* to, size_t n, int type, Comm comm, cudaStream_t stream) = nullptr;
  int (*abort)(Comm comm) = nullptr;
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
      : nccl_(nccl), comms_(memories.size(), nullptr) {
    std::vector<int> gpus(memories.size());
    for (size_t rank = 0; rank < gpus.size(); ++rank) gpus[rank] = static_cast<int>(rank);
    nccl_.expect_success(nccl_.init_all(comms_.data(), static_cast<int>(gpus.size()), gpus.data()),
                         "beginning between GPUs");
    for (Memory* memory : memories) devices_.push_back(&dynamic_cast<Device&>(*memory));
  }
  NcclCollective(const NcclCollective&) = delete;
  NcclCollective& operator=(const NcclCollective&) = delete;
  // Nothing runs any more: aborting is how a communicator is given back without waiting for others.
  ~NcclCollective() override { give_up(); }

  void all_gather(int rank, std::span<const std::byte> from, std::byte* to) override {
    const auto i = static_cast<size_t>(rank);
    auto* const stream = static_cast<cudaStream_t>(devices_[i]->stream());
    nccl_.expect_success(nccl_.all_gather(from.data(), to, from.size(), kInt8, comms_[i], stream),
                         "gathering between GPUs");
  }
  void give_up() override {
    if (has_given_up_.exchange(true)) return;
    for (Comm comm : comms_) nccl_.abort(comm);
  }

 private:
  Nccl nccl_;
  std::vector<Comm> comms_;  // of each rank, on the GPU of its number
  std::vector<Device*> devices_;
  std::atomic<bool> has_given_up_{false};
};

}  // namespace
}  // namespace cuda::gpu

std::unique_ptr<Collective> make_gpu_collective(const std::vector<Memory*>& memories) {
  cuda::gpu::Nccl nccl;
  if (!nccl.load()) return nullptr;
  return std::make_unique<cuda::gpu::NcclCollective>(nccl, memories);
}

}  // namespace millrace
