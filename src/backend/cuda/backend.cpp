#include "backend/cuda/backend.h"

#include <algorithm>
#include <map>

#include "backend/op_operands.h"
#include "backend/op_shapes.h"

namespace millrace::cuda {
namespace {

class CudaBackend final : public Backend {
 public:
  CudaBackend(std::unique_ptr<Device> device, Run kernels)
      : device_(std::move(device)),
        kernels_(kernels),
        machine_{*device_, Scratch(*device_), Scratch(*device_)} {}

  std::string_view name() const override { return "cuda"; }
  std::string machine() const override { return device_->model(); }
  Memory& memory() override { return *device_; }

  void run(const Op& op) override {
    check_shapes(op);
    Op on_device = op;
    for (const Operand& operand : operands_of(on_device)) {
      if (operand.extent == Extent::model) operand.tensor->data = held(operand.tensor->data);
    }
    kernels_(machine_, on_device);
  }

  void hold(std::span<const Tensor> weights) override {
    std::map<const std::byte*, const std::byte*> runs;  // of bytes: where they begin and end
    for (const Tensor& weight : weights) {
      const std::byte*& end = runs[weight.data];
      end = std::max<const std::byte*>(end, weight.data + weight.n_bytes());
    }
    for (auto run = runs.begin(); run != runs.end();) {
      const std::byte *const begin = run->first, *end = run->second;
      while (++run != runs.end() && run->first < end) end = std::max(end, run->second);
      Buffer buffer(static_cast<size_t>(end - begin), *device_);
      device_->write(buffer.data(), {begin, end});
      held_.insert_or_assign(begin, std::move(buffer));
    }
  }

 private:
  // Where the weight at `from` of the program's memory lies on the device: it or a part of it is held.
  std::byte* held(const std::byte* from) const {
    const auto after = held_.upper_bound(from);
    check(after != held_.begin(), "a weight that is held");
    const auto& [begin, buffer] = *std::prev(after);
    check(from < begin + buffer.n_bytes(), "a weight that is held");
    return buffer.data() + (from - begin);
  }

  std::unique_ptr<Device> device_;
  Run kernels_;
  Machine machine_;
  std::map<const std::byte*, Buffer> held_;  // by where the program has them
};

}  // namespace

std::unique_ptr<Backend> make_backend(std::unique_ptr<Device> device, Run kernels) {
  return std::make_unique<CudaBackend>(std::move(device), kernels);
}

}  // namespace millrace::cuda
