// The CUDA runtime as a Device.
#include "backend/cuda/backend.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/gpu/library.h"
#include "backend/cuda/gpu/threads.h"
#include "backend/cuda/text/compute.inl"

namespace millrace {
namespace cuda::gpu {

void expect_success(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  const ErrorKind kind = status == cudaErrorMemoryAllocation ? ErrorKind::does_not_fit : ErrorKind::runtime;
  fail(kind, "CUDA: {} failed: {}", what, cudaGetErrorString(status));
}

namespace {

cudaStream_t new_stream() {
  cudaStream_t stream = nullptr;
  expect_success(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  return stream;
}

class GpuGraph final : public Graph {
 public:
  GpuGraph(cudaGraph_t captured, cudaStream_t stream) : stream_(stream) {
    const cudaError_t status = cudaGraphInstantiate(&graph_, captured, 0);
    cudaGraphDestroy(captured);
    expect_success(status, "a graph");
  }
  GpuGraph(const GpuGraph&) = delete;
  GpuGraph& operator=(const GpuGraph&) = delete;
  ~GpuGraph() override { cudaGraphExecDestroy(graph_); }

  void launch() override { expect_success(cudaGraphLaunch(graph_, stream_), "the launch of a graph"); }

 private:
  cudaGraphExec_t graph_ = nullptr;
  cudaStream_t stream_;
};

// Its room is pinned: a copy from or to other memory of the program's would be waited for.
class GpuTransfer final : public Transfer {
 public:
  GpuTransfer(Device& gpu, size_t n_bytes) : gpu_(gpu), n_bytes_(n_bytes) {
    gpu_.stream();  // this thread is on its GPU now
    expect_success(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming), "an event");
    const cudaError_t status = cudaMallocHost(&room_, n_bytes);
    if (status != cudaSuccess) cudaEventDestroy(done_);
    expect_success(status, "an allocation of pinned memory");
  }
  GpuTransfer(const GpuTransfer&) = delete;
  GpuTransfer& operator=(const GpuTransfer&) = delete;
  ~GpuTransfer() override {
    cudaEventSynchronize(done_);
    cudaFreeHost(room_);
    cudaEventDestroy(done_);
  }

  std::span<std::byte> room() override { return {static_cast<std::byte*>(room_), n_bytes_}; }
  void write(std::byte* to, std::span<const std::byte> from) override {
    gpu_.copy(from.data(), to, from.size());
    mark();
  }
  void read(const std::byte* from, std::span<std::byte> to) override {
    gpu_.copy(from, to.data(), to.size());
    mark();
  }
  void wait() override { expect_success(cudaEventSynchronize(done_), "a kernel"); }

 private:
  void mark() {
    expect_success(cudaEventRecord(done_, static_cast<cudaStream_t>(gpu_.stream())), "an event");
  }

  Device& gpu_;
  size_t n_bytes_;
  void* room_ = nullptr;
  cudaEvent_t done_ = nullptr;  // after the last copy
};

class Gpu final : public Device {
 public:
  explicit Gpu(int number) : number_(number) {
    use();
    stream_ = new_stream();
    cudaDeviceProp properties{};
    expect_success(cudaGetDeviceProperties(&properties, number), "a query");
    n_processors_ = properties.multiProcessorCount;
    model_ = fmt::format("{} sm_{}{}", properties.name, properties.major, properties.minor);
  }
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;
  ~Gpu() override { cudaStreamDestroy(stream_); }

  std::byte* allocate(size_t n_bytes) override {
    use();
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, n_bytes);
    if (status == cudaErrorMemoryAllocation) {
      fail(ErrorKind::does_not_fit, "cannot allocate {} bytes of memory on the GPU, which has {} left",
           n_bytes, free_bytes());
    }
    expect_success(status, "an allocation");
    expect_success(cudaMemsetAsync(memory, 0, n_bytes, stream_), "clearing of memory");
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory, size_t /*n_bytes*/) override { cudaFree(memory); }

  void write(std::byte* to, std::span<const std::byte> from) override {
    copy(from.data(), to, from.size());
    wait();
  }
  void read(const std::byte* from, std::span<std::byte> to) override {
    copy(from, to.data(), to.size());
    wait();
  }
  // The addresses say which way.
  void copy(const std::byte* from, std::byte* to, size_t n_bytes) override {
    if (n_bytes == 0) return;
    use();
    expect_success(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDefault, stream_), "a copy");
  }

  std::unique_ptr<Transfer> transfer(size_t n_bytes) override {
    return std::make_unique<GpuTransfer>(*this, n_bytes);
  }

  void* stream() override {
    use();
    return stream_;
  }
  int n_processors() const override { return n_processors_; }
  std::string model() const override { return model_; }
  int64_t free_bytes() const override {
    use();
    size_t n_free = 0, n_all = 0;
    expect_success(cudaMemGetInfo(&n_free, &n_all), "a query of memory");
    return static_cast<int64_t>(n_free);
  }
  void wait() override { expect_success(cudaStreamSynchronize(stream_), "a kernel"); }
  void begin_capture() override {
    expect_success(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "a capture");
  }
  std::unique_ptr<Graph> end_capture() override {
    cudaGraph_t captured = nullptr;
    expect_success(cudaStreamEndCapture(stream_, &captured), "a capture");
    return std::make_unique<GpuGraph>(captured, stream_);
  }

 private:
  // Of the thread that calls it, which stays so.
  void use() const { expect_success(cudaSetDevice(number_), "the choice of a GPU"); }

  int number_;
  cudaStream_t stream_ = nullptr;
  int n_processors_ = 0;
  std::string model_;
};

}  // namespace
}  // namespace cuda::gpu

bool has_gpu() {
  int n_devices = 0;
  return cudaGetDeviceCount(&n_devices) == cudaSuccess && n_devices > 0;
}

std::unique_ptr<Backend> make_cuda_backend(int gpu) {
  int n_devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&n_devices);
  if (status != cudaSuccess || n_devices == 0) {
    fail(ErrorKind::runtime, "no GPU that CUDA can use: {}",
         status == cudaSuccess ? "there is none" : cudaGetErrorString(status));
  }
  if (gpu >= n_devices)
    fail(ErrorKind::runtime, "{} GPUs are asked for, this machine has {}", gpu + 1, n_devices);
  // Far more than the caches hold, and about a millisecond each.
  const auto measure = [](cuda::Machine& machine) {
    DeviceLimits limits =
        cuda::gpu::measure_limits(machine, {.bytes_a_processor = 8 << 20, .n_rounds = 2048});
    limits.bf16_flops_per_second =
        std::max(limits.bf16_flops_per_second, cuda::gpu::library_flops_per_second(machine.device));
    return limits;
  };
  return cuda::make_backend(std::make_unique<cuda::gpu::Gpu>(gpu),
                            {.run = cuda::gpu::run, .measure_limits = measure});
}

}  // namespace millrace
