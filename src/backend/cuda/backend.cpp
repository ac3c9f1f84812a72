#include "backend/cuda/backend.h"

#include <map>

#include "backend/op_operands.h"
#include "backend/op_shapes.h"
#include "backend/stretches.h"
#include "base/error.h"
#include "tensor/by_address.h"

namespace millrace::cuda {
namespace {

class CudaRecording final : public Backend::Recording {
 public:
  CudaRecording(std::unique_ptr<Graph> graph, const Machine& machine)
      : graph_(std::move(graph)), machine_(machine), n_moves_(machine.n_moves()) {}

  // Its kernels name the scratch memory where it was.
  bool run() override {
    if (machine_.n_moves() != n_moves_) return false;
    graph_->launch();
    return true;
  }

 private:
  std::unique_ptr<Graph> graph_;
  const Machine& machine_;
  int64_t n_moves_;
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<Device> device, const Kernels& kernels)
      : device_(std::move(device)),
        kernels_(kernels),
        machine_{*device_, Scratch(device_.get()), Scratch(device_.get())} {}

  std::string_view name() const override { return "cuda"; }
  std::string machine() const override { return device_->model(); }
  Memory& memory() override { return *device_; }

  void run(const Op& op) override {
    check_shapes(op);
    Op on_device = op;
    for (const Operand& operand : operands_of(on_device)) {
      if (operand.extent == Extent::model) operand.tensor->data = held_place(operand.tensor->data);
    }
    kernels_.run(machine_, on_device);
  }

  int64_t scratch_bytes(std::span<const Op> ops) override {
    const Machine measured = measure(ops);
    return static_cast<int64_t>(measured.scratch.n_most_bytes() + measured.inputs.n_most_bytes());
  }
  void prepare(std::span<const Op> ops) override {
    const Machine measured = measure(ops);
    machine_.scratch.reserve(measured.scratch.n_most_bytes());
    machine_.inputs.reserve(measured.inputs.n_most_bytes());
  }
  bool computes_later() const override { return true; }

  bool can_record() const override { return true; }
  std::unique_ptr<Recording> record(const std::function<void()>& ops) override {
    device_->begin_capture();
    try {
      ops();
    } catch (...) {
      abandon_capture();
      throw;
    }
    return std::make_unique<CudaRecording>(device_->end_capture(), machine_);
  }

  std::optional<DeviceLimits> measure_limits() override { return kernels_.measure_limits(machine_); }

  void hold(std::span<const Tensor> weights) override {
    std::vector<std::span<const std::byte>> stretches = stretches_of(weights);
    std::erase_if(stretches, [this](const auto& stretch) { return held(stretch) != nullptr; });
    if (stretches.empty()) return;
    const Buffer& buffer = buffers_.emplace_back(copied_bytes(stretches), *device_);
    std::byte* to = buffer.data();
    for (const std::span<const std::byte>& stretch : stretches) {
      device_->write(to, stretch);
      held_.insert_or_assign(stretch.data(), std::span(to, stretch.size()));
      to += copied_bytes({&stretch, 1});
    }
  }

  int64_t held_bytes() const override {
    size_t n_bytes = 0;
    for (const Buffer& buffer : buffers_) n_bytes += buffer.n_bytes();
    return static_cast<int64_t>(n_bytes);
  }

 private:
  // Has run all of them without kernels.
  Machine measure(std::span<const Op> ops) {
    Machine machine{*device_, Scratch(nullptr), Scratch(nullptr)};
    for (Op op : ops) {
      for (const Operand& operand : operands_of(op)) {
        if (*operand.tensor) operand.tensor->data = reinterpret_cast<std::byte*>(kNowhere);
      }
      kernels_.run(machine, op);
    }
    return machine;
  }

  void abandon_capture() {
    try {
      device_->end_capture();
    } catch (const Error&) {  // the error that matters is under way
    }
  }

  using Held = std::map<const std::byte*, std::span<std::byte>>;  // copies, by where the program has them

  // What is held that all of `stretch` lies in, else nullptr.
  const Held::value_type* held(std::span<const std::byte> stretch) const {
    const auto* const last = last_until(held_, stretch.data());
    const bool is_within =
        last != nullptr && stretch.data() + stretch.size() <= last->first + last->second.size();
    return is_within ? last : nullptr;
  }
  // Where the weight at `from` of the program's memory lies on the device: it or a part of it is held.
  std::byte* held_place(const std::byte* from) const {
    const auto* const found = held({from, 1});
    check(found != nullptr, "a weight that is held");
    return found->second.data() + (from - found->first);
  }

  std::unique_ptr<Device> device_;
  Kernels kernels_;
  Machine machine_;
  std::vector<Buffer> buffers_;  // of what is held
  Held held_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(std::unique_ptr<Device> device, const Kernels& kernels) {
  return std::make_unique<CudaBackend>(std::move(device), kernels);
}

}  // namespace millrace::cuda
