#include "backend/ranks/ranks.h"

#include <algorithm>
#include <map>
#include <utility>

#include "backend/op_operands.h"
#include "backend/ranks/first_gather.h"
#include "backend/ranks/memory.h"
#include "backend/ranks/sides.h"
#include "backend/ranks/weights.h"

namespace millrace {
namespace ranks {
namespace {

// How the ranks run an op.
struct Division {
  Op op;
  std::vector<const Slices*> slices;  // of the operands of all its sides, in their order; nullptr: whole
  bool gives_sum = false;
  bool gives_result = false;
};

// What is gathered of a tensor to which every rank gives as much; and of a result, of which each has columns,
// with what it gives itself.
int64_t gathered_bytes(const Tensor& tensor, int n_ranks) { return n_ranks * tensor.n_bytes(); }
int64_t columns_bytes(const Tensor& out, const Slices& slices) {
  return out.n_bytes() / slices.n_units * slices.most_units();
}
int64_t gathered_bytes(const Tensor& out, const Slices& slices) {
  return (std::ssize(slices.runs) + 1) * columns_bytes(out, slices);
}

// One rank, on its thread.
class Rank {
 public:
  Rank(int number, Backend& backend, const Plan& plan, const RanksMemory& memory, Collective& collective)
      : number_(number),
        n_ranks_(plan.n_ranks),
        backend_(backend),
        memory_(memory),
        collective_(collective),
        weights_(plan, number, backend) {}

  RankWeights& weights() { return weights_; }
  // Of what is gathered. It only grows.
  std::byte* scratch(int64_t n_bytes) {
    if (static_cast<size_t>(n_bytes) > scratch_.n_bytes()) {
      scratch_ = Buffer();  // first give back, then take
      scratch_ = Buffer(static_cast<size_t>(n_bytes), backend_.memory());
    }
    return scratch_.data();
  }

  void run(const Division& division) {
    Op op = division.op;
    cut(op, division.slices);
    place(op);
    if (division.gives_result) return run_result(std::get<Linear>(op), division);
    if (division.gives_sum && number_ > 0) leave_out_biases(op);  // one rank adds them
    backend_.run(op);
    if (!division.gives_sum) return;
    for (const Operand& operand : operands_of(op)) {
      if (operand.access == Access::write) sum(*operand.tensor);
    }
  }

 private:
  static void leave_out_biases(Op& op) {
    if (auto* linear = std::get_if<Linear>(&op)) {
      for (Product& product : linear->products) product.bias = Tensor();
    } else {
      std::get<MoeDown>(op).bias = Tensor();
    }
  }

  // Shapes of what is cut, and addresses of weights that are.
  void cut(Op& op, const std::vector<const Slices*>& slices) const {
    size_t i = 0;
    for (const Side& side : sides_of(op)) {
      for (const CutOperand& operand : side.operands) {
        const Slices* const each = slices[i++];
        if (each == nullptr) continue;
        Tensor& tensor = *operand.tensor;
        if (operand.extent == Extent::model) tensor.data = weights_.part(tensor.data).data;
        auto& length = tensor.shape[static_cast<size_t>(operand.axis)];
        length = each->local(length, number_);
      }
    }
  }

  // Addresses of what lies in the memory of ranks.
  void place(Op& op) const {
    std::vector<Tensor*> tensors;
    for (const Operand& operand : operands_of(op)) {
      if (operand.extent != Extent::model) tensors.push_back(operand.tensor);
    }
    if (Batch* batch = batch_of(op)) {
      for (Tensor* numbers : numbers_of(*batch)) tensors.push_back(numbers);
    }
    for (Tensor* tensor : tensors) {
      if (!*tensor || tensor->n_bytes() == 0) continue;
      const KeptTensor* const kept = memory_.kept(tensor->data);
      tensor->data =
          kept == nullptr ? memory_.on(number_, tensor->data) : kept->on[static_cast<size_t>(number_)].data();
    }
  }

  // tensor = the sum of what the ranks have there, in their order.
  void sum(const Tensor& tensor) {
    if (tensor.n_bytes() == 0) return;
    std::byte* const all = scratch(gathered_bytes(tensor, n_ranks_));
    collective_.all_gather(number_, tensor.bytes(), all);
    backend_.memory().copy(all, tensor.data, static_cast<size_t>(tensor.n_bytes()));
    const Tensor total = tensor.reshaped({tensor.n_rows(), tensor.n_cols()});
    for (int64_t rank = 1; rank < n_ranks_; ++rank) {
      Tensor part = total;
      part.data = all + rank * tensor.n_bytes();
      backend_.run(Add{.x = total, .y = part});
    }
  }

  // Of each rank some columns; then all have all of them.
  void run_result(Linear& linear, const Division& division) {
    Tensor& out = linear.products[0].out;
    const Tensor& whole = std::get<Linear>(division.op).products[0].out;
    const int64_t n_rows = out.dim(0), row_bytes = whole.row_bytes();
    if (n_rows == 0) return;
    const Slices& slices = *division.slices.front();
    const auto width = [&](int64_t units) { return row_bytes / slices.n_units * units; };
    const int64_t part_bytes = columns_bytes(whole, slices);
    std::byte* const to = std::exchange(out.data, scratch(gathered_bytes(whole, slices)));
    backend_.run(linear);
    const std::byte* part = out.data + part_bytes;
    collective_.all_gather(number_, {out.data, static_cast<size_t>(part_bytes)}, out.data + part_bytes);
    for (const auto& [begin, end] : slices.runs) {
      const int64_t n_bytes = width(end - begin);
      for (int64_t row = 0; row < n_rows; ++row)
        backend_.memory().copy(part + row * n_bytes, to + row * row_bytes + width(begin),
                               static_cast<size_t>(n_bytes));
      part += part_bytes;
    }
  }

  const int number_, n_ranks_;
  Backend& backend_;
  const RanksMemory& memory_;
  Collective& collective_;
  RankWeights weights_;
  Buffer scratch_;
};

class RanksBackend final : public Backend {
 public:
  RanksBackend(std::vector<std::unique_ptr<Backend>> ranks, Plan plan, std::unique_ptr<Collective> collective,
               GiveBack give_back)
      : backends_(std::move(ranks)),
        plan_(std::move(plan)),
        collective_(std::move(collective)),
        give_back_(std::move(give_back)),
        workers_(
            plan_.n_ranks, [this] { collective_->give_up(); }, [this] { begin_again(); }),
        memory_(memories(), plan_, workers_) {
    check(std::ssize(backends_) == plan_.n_ranks, "a plan for as many ranks");
    for (int rank = 0; rank < plan_.n_ranks; ++rank)
      ranks_.push_back(
          std::make_unique<Rank>(rank, *backends_[static_cast<size_t>(rank)], plan_, memory_, *collective_));
    gather_first(*collective_, memories(), workers_);
  }
  RanksBackend(const RanksBackend&) = delete;
  RanksBackend& operator=(const RanksBackend&) = delete;
  ~RanksBackend() override { workers_.wait(); }

  std::string_view name() const override { return "ranks"; }
  std::string machine() const override {
    return fmt::format("{} of {} {}", plan_.n_ranks, backends_.front()->name(), backends_.front()->machine());
  }
  Memory& memory() override { return memory_; }
  // On the threads that go on with them. Of weights that the plan does not know no op will ask.
  void hold(std::span<const Tensor> /*weights*/) override {
    each_rank([](Rank& rank) { rank.weights().hold_whole(); });
    for (const WeightGroup& group : groups_of(plan_)) {
      each_rank([&](Rank& rank) { rank.weights().hold(group); });
      workers_.finish();
      for (const Plan::Weight* weight : group) {
        const bool is_given_back =
            give_back_ && plan_.is_replaced(*weight) && give_back_(weight->whole.bytes());
        if (is_given_back && backends_.front()->memory().is_of_program())
          n_replaced_bytes_ += weight->whole.n_bytes();
      }
    }
  }
  int64_t held_bytes() const override {
    int64_t n_bytes = n_replaced_bytes_;
    for (const auto& backend : backends_) n_bytes += backend->held_bytes();
    return n_bytes;
  }

  int64_t scratch_bytes(std::span<const Op> ops) override {
    return gathered_bytes(ops) + backends_.front()->scratch_bytes(ops);  // as if each ran them whole
  }
  void prepare(std::span<const Op> ops) override {
    const int64_t n_bytes = gathered_bytes(ops);
    each_rank([n_bytes](Rank& rank) { rank.scratch(n_bytes); });
    workers_.finish();
    for (const auto& backend : backends_) backend->prepare(ops);
  }

  // Of what each rank names as a part of the program's; what all name is left where it lies.
  int64_t copy_weights(std::span<const Tensor> weights, const std::stop_token& stop,
                       const Release& release) override {
    int64_t n_bytes = 0;
    for (int rank = 0; rank < plan_.n_ranks; ++rank) {
      std::vector<Tensor> parts;
      for (const Tensor& weight : weights) {
        const Plan::Weight* const found = plan_.find(weight);
        if (found != nullptr && found->cut.is_view(weight)) parts.push_back(found->cut.view(weight, rank));
      }
      n_bytes += backends_[static_cast<size_t>(rank)]->copy_weights(parts, stop, release);
    }
    return n_bytes;
  }

  std::optional<DeviceLimits> measure_limits() override {
    workers_.finish();
    std::optional<DeviceLimits> limits = backends_.front()->measure_limits();
    if (limits) {
      limits->read_bytes_per_second *= plan_.n_ranks;
      limits->bf16_flops_per_second *= plan_.n_ranks;
    }
    return limits;
  }

  void run(const Op& op) override {
    workers_.give([this, division = std::make_shared<const Division>(divide(op))](int rank) {
      ranks_[static_cast<size_t>(rank)]->run(*division);
    });
  }

 private:
  // A step has failed. Where memory was short that is all; where a device has failed, it says so again.
  void begin_again() {
    for (const auto& backend : backends_) backend->memory().wait();
    collective_->begin_again();
  }

  void each_rank(const std::function<void(Rank&)>& task) {
    workers_.give([this, task](int rank) { task(*ranks_[static_cast<size_t>(rank)]); });
  }

  int64_t gathered_bytes(std::span<const Op> ops) const {
    int64_t most = 0;
    for (Op op : ops) {
      for (const Side& side : sides_of(op)) {
        for (const CutOperand& operand : side.operands) {
          const Plan::Weight* const weight =
              operand.extent == Extent::model ? plan_.find(*operand.tensor) : nullptr;
          if (weight == nullptr || weight->cut.axis != operand.axis) continue;
          if (side.gives_sum || weight->gives_result) most = std::max(most, gathered_bytes(op, *weight));
        }
      }
    }
    return most;
  }
  int64_t gathered_bytes(Op& op, const Plan::Weight& weight) const {
    int64_t most = 0;
    for (const Operand& operand : operands_of(op)) {
      if (operand.access != Access::write) continue;
      most = std::max(most, weight.gives_result ? ranks::gathered_bytes(*operand.tensor, weight.cut.slices)
                                                : ranks::gathered_bytes(*operand.tensor, plan_.n_ranks));
    }
    return most;
  }

  std::vector<Memory*> memories() const {
    std::vector<Memory*> all;
    for (const auto& backend : backends_) all.push_back(&backend->memory());
    return all;
  }

  Division divide(const Op& op) {
    Division division{.op = op, .slices = {}};
    std::map<const Tensor*, const Slices*> cut;
    for (const Side& side : sides_of(division.op)) {
      const Slices* const slices = slices_of(side, division);
      for (const CutOperand& operand : side.operands) {
        division.slices.push_back(slices == nullptr ? nullptr : slices_of(operand, side));
        if (division.slices.back() != nullptr) cut[operand.tensor] = division.slices.back();
      }
      division.gives_sum |= slices != nullptr && side.gives_sum;
    }
    note_written(division, cut);
    return division;
  }

  // How a side is cut: its weights say so, or what it reads. nullptr: it is whole.
  const Slices* slices_of(const Side& side, Division& division) const {
    const Slices* found = nullptr;
    for (const CutOperand& operand : side.operands) {
      if (operand.extent == Extent::rows && operand.access != Access::write) {
        found = found == nullptr ? layout_of(*operand.tensor) : found;
      } else if (operand.extent == Extent::model) {
        const Plan::Weight* const weight = plan_.find(*operand.tensor);
        if (weight == nullptr || weight->cut.axis != operand.axis) continue;
        found = &weight->cut.slices;
        division.gives_result |= weight->gives_result;
      }
    }
    return found;
  }

  // Of an operand of a side that is cut: its own, or those of another of its group, or of any.
  const Slices* slices_of(const CutOperand& operand, const Side& side) const {
    const auto own = [this](const CutOperand& each) -> const Slices* {
      if (each.extent == Extent::model) return &plan_.find(*each.tensor)->cut.slices;
      if (each.extent == Extent::whole) return &memory_.kept(each.tensor->data)->cut->slices;
      return each.access == Access::write ? nullptr : layout_of(*each.tensor);
    };
    if (const Slices* slices = own(operand)) return slices;
    for (const bool is_of_group : {true, false}) {
      for (const CutOperand& each : side.operands) {
        if (each.group != operand.group && is_of_group) continue;
        if (const Slices* slices = own(each)) return slices;
      }
    }
    check(false, "an op whose parts are known");
    return nullptr;
  }

  // Nothing has no layout: where it would lie may be what another tensor left.
  const Slices* layout_of(const Tensor& tensor) const {
    if (tensor.n_bytes() == 0) return nullptr;
    const auto found = layouts_.find(tensor.data);
    return found == layouts_.end() ? nullptr : found->second;
  }

  void note_written(Division& division, const std::map<const Tensor*, const Slices*>& cut) {
    const std::vector<Operand> operands = operands_of(division.op);
    for (const Operand& operand : operands) {
      const bool is_read = operand.extent != Extent::model && operand.access != Access::write;
      check(!is_read || cut.contains(operand.tensor) || layout_of(*operand.tensor) == nullptr,
            "an op that reads whole rows gets them");
    }
    for (const Operand& operand : operands) {
      if (operand.access != Access::write) continue;
      const Tensor& tensor = *operand.tensor;
      layouts_.erase(layouts_.lower_bound(tensor.data), layouts_.lower_bound(tensor.data + tensor.n_bytes()));
      if (cut.contains(&tensor) && !division.gives_result) layouts_[tensor.data] = cut.at(&tensor);
    }
  }

  std::vector<std::unique_ptr<Backend>> backends_;
  const Plan plan_;
  std::unique_ptr<Collective> collective_;
  const GiveBack give_back_;
  int64_t n_replaced_bytes_ = 0;  // by copies in the program's memory
  Workers workers_;
  RanksMemory memory_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::map<const std::byte*, const Slices*> layouts_;  // of activations that are cut
};

}  // namespace
}  // namespace ranks

std::unique_ptr<Backend> make_ranks_backend(std::vector<std::unique_ptr<Backend>> ranks, ranks::Plan plan,
                                            std::unique_ptr<Collective> collective, GiveBack give_back) {
  return std::make_unique<ranks::RanksBackend>(std::move(ranks), std::move(plan), std::move(collective),
                                               std::move(give_back));
}

}  // namespace millrace
