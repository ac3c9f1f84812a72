#include "backend/split/split.h"

#include <algorithm>
#include <iterator>

#include "backend/op_operands.h"
#include "backend/split/memory.h"
#include "backend/stretches.h"

namespace millrace {
namespace split {
namespace {

// Some weights, found by the address of a part of one.
class WeightSet {
 public:
  explicit WeightSet(std::span<const Tensor> weights) : stretches_(stretches_of(weights)) {}

  bool has(const Tensor& weight) const {
    const auto after = std::ranges::upper_bound(stretches_, static_cast<const std::byte*>(weight.data), {},
                                                &std::span<const std::byte>::data);
    if (after == stretches_.begin()) return false;
    const std::span<const std::byte> before = *std::prev(after);
    return weight.data < before.data() + before.size();
  }

 private:
  std::vector<std::span<const std::byte>> stretches_;
};

class SplitBackend final : public Backend {
 public:
  SplitBackend(std::unique_ptr<Backend> program, std::unique_ptr<Backend> device, const SplitPlaces& places)
      : program_(std::move(program)),
        device_(std::move(device)),
        memory_(device_->memory(), places.device_layers),
        on_device_(places.device_weights),
        shared_(places.shared_weights),
        id_(places.id) {
    check(program_->memory().is_of_program() && !device_->memory().is_of_program(), "two memories");
    device_->hold(places.device_weights);
  }

  std::string_view name() const override { return "split"; }
  std::string machine() const override {
    return fmt::format("{} {} and {} {}, {}", program_->name(), program_->machine(), device_->name(),
                       device_->machine(), id_);
  }
  Memory& memory() override { return memory_; }
  int64_t held_bytes() const override { return device_->held_bytes(); }
  // As if the device ran them all.
  int64_t scratch_bytes(std::span<const Op> ops) override { return device_->scratch_bytes(ops); }
  void prepare(std::span<const Op> ops) override { device_->prepare(ops); }

  int64_t copy_weights(std::span<const Tensor> weights, const std::stop_token& stop,
                       const Release& release) override {
    std::vector<Tensor> here;
    std::ranges::copy_if(weights, std::back_inserter(here),
                         [this](const Tensor& weight) { return !is_of_device(weight); });
    return program_->copy_weights(here, stop, release);
  }

  void run(const Op& op) override {
    Op placed = op;
    std::vector<Operand> operands = operands_of(placed);
    std::erase_if(operands, [](const Operand& operand) { return operand.tensor->n_bytes() == 0; });
    last_ = side_of(operands);
    std::erase_if(operands, [](const Operand& operand) { return operand.extent == Extent::model; });
    for (const Operand& operand : operands) {
      if (operand.access != Access::write) bring(*operand.tensor);
    }
    Batch* const batch = batch_of(placed);
    for (Tensor* numbers : batch == nullptr ? std::vector<Tensor*>() : numbers_of(*batch)) {
      bring(*numbers);
      move(*numbers);
    }
    for (const Operand& operand : operands) {
      if (operand.is_written()) note_written(*operand.tensor);
    }
    for (const Operand& operand : operands) move(*operand.tensor);
    (last_ == Side::device ? *device_ : *program_).run(placed);
  }

 private:
  bool is_of_device(const Tensor& weight) const { return on_device_.has(weight) && !shared_.has(weight); }

  Side side_of(const std::vector<Operand>& operands) {
    bool names_device = false, names_program = false;
    for (const Operand& operand : operands) {
      if (operand.extent == Extent::model) {
        names_device |= is_of_device(*operand.tensor);
        names_program |= !on_device_.has(*operand.tensor);
      } else if (memory_.mirror_of(operand.tensor->data) == nullptr) {
        return memory_.side_of(operand.tensor->data);  // pages or states
      }
    }
    return names_program ? Side::program : names_device ? Side::device : last_;
  }

  void bring(const Tensor& tensor) {
    if (Mirror* mirror = memory_.mirror_of(tensor.data)) mirror->bring(tensor.bytes(), last_);
  }
  void note_written(const Tensor& tensor) {
    if (Mirror* mirror = memory_.mirror_of(tensor.data)) mirror->note_written(tensor.bytes(), last_);
  }
  // Points at what the tensor is on the side of the op.
  void move(Tensor& tensor) {
    if (tensor.n_bytes() == 0) return;
    if (const Mirror* mirror = memory_.mirror_of(tensor.data)) {
      tensor.data = mirror->on(last_, tensor.data);
    } else {
      check(memory_.side_of(tensor.data) == last_, "pages and states of one layer");
    }
  }

  std::unique_ptr<Backend> program_, device_;
  SplitMemory memory_;
  WeightSet on_device_, shared_;
  std::string id_;
  Side last_ = Side::program;  // where the newest op runs
};

}  // namespace
}  // namespace split

std::unique_ptr<Backend> make_split_backend(std::unique_ptr<Backend> program, std::unique_ptr<Backend> device,
                                            const SplitPlaces& places) {
  return std::make_unique<split::SplitBackend>(std::move(program), std::move(device), places);
}

}  // namespace millrace
