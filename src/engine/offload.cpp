#include "engine/offload.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <vector>

#include "backend/stretches.h"
#include "base/error.h"
#include "engine/memory.h"
#include "model/weights_of.h"

namespace millrace {
namespace {

struct Choice {
  int64_t n_gpu_layers, n_cpu_moe;
  bool has_tables;
};

class Planner {
 public:
  Planner(const Model& model, const Checkpoint& checkpoint, const RunnerShape& shape, Backend& device)
      : n_layers_(model.shape().n_layers),
        ops_(weights_by_op(model, checkpoint)),
        memory_(shape.memory),
        step_bytes_(Runner::step_bytes(model, shape, &device)) {}

  bool has_experts() const { return std::ranges::any_of(ops_, &OpWeights::is_of_experts); }

  // From the most that the wish allows to the least.
  std::vector<Choice> choices(const OffloadWish& wish) const {
    const int64_t most = std::min(n_layers_, wish.n_gpu_layers.value_or(n_layers_));
    const int64_t least = wish.n_gpu_layers ? most : 0;
    const int64_t few_experts = std::min(n_layers_, wish.n_cpu_moe.value_or(0));
    const bool may_leave = !wish.n_cpu_moe && !wish.n_gpu_layers && has_experts();
    const int64_t many_experts = may_leave ? n_layers_ : few_experts;
    std::vector<Choice> all;
    if (most == n_layers_) all.push_back({most, few_experts, true});
    for (int64_t n = few_experts; n <= many_experts; ++n) all.push_back({most, n, false});
    for (int64_t n = most - 1; n >= least; --n) all.push_back({n, many_experts, false});
    return all;
  }

  Offload plan(const Choice& choice) const {
    Offload plan{.n_layers = n_layers_, .n_gpu_layers = choice.n_gpu_layers};
    const std::vector<bool> is_on_gpu = ops_on_gpu(choice);
    add_weights(is_on_gpu, plan);
    count_experts(is_on_gpu, plan);
    for (int64_t i = 0; i < n_layers_; ++i) plan.places.device_layers.push_back(has(choice, i));
    const SequenceMemory::Shape kept = memory_.of_layers([&](int64_t layer) { return has(choice, layer); });
    plan.on_device.kv_bytes = kept.kv_bytes();
    plan.on_device.state_bytes = kept.state_bytes();
    plan.on_device.arena_bytes = choice.n_gpu_layers > 0 ? step_bytes_ : 0;
    plan.places.id = fmt::format("{} layers, experts of {}, {} weights on the GPU", choice.n_gpu_layers,
                                 plan.n_gpu_expert_layers, plan.places.device_weights.size());
    return plan;
  }

 private:
  bool has(const Choice& choice, int64_t layer) const { return layer >= n_layers_ - choice.n_gpu_layers; }

  // What stands before the layers goes with the first one, what stands behind with the last.
  bool is_on_gpu(const OpWeights& op, const Choice& choice) const {
    if (op.is_table && !choice.has_tables) return false;
    if (op.is_of_experts && op.layer < choice.n_cpu_moe) return false;
    return has(choice, std::clamp<int64_t>(op.layer, 0, n_layers_ - 1));
  }

  std::vector<bool> ops_on_gpu(const Choice& choice) const {
    std::vector<bool> on_gpu;
    std::set<const std::byte*> held;
    for (const OpWeights& op : ops_) {
      on_gpu.push_back(is_on_gpu(op, choice));
      if (!on_gpu.back()) continue;
      for (const Tensor& weight : op.weights) held.insert(weight.data);
    }
    // A table that is the head, too, is there anyway.
    for (size_t i = 0; i < ops_.size(); ++i) {
      if (ops_[i].is_table && held.contains(ops_[i].weights.front().data)) on_gpu[i] = true;
    }
    return on_gpu;
  }

  void add_weights(const std::vector<bool>& is_on_gpu, Offload& plan) const {
    std::set<const std::byte*> of_program;
    std::vector<Tensor>& held = plan.places.device_weights;
    for (size_t i = 0; i < ops_.size(); ++i) {
      for (const Tensor& weight : ops_[i].weights) {
        if (is_on_gpu[i]) {
          held.push_back(weight);
        } else {
          of_program.insert(weight.data);
        }
      }
    }
    std::ranges::copy_if(held, std::back_inserter(plan.places.shared_weights),
                         [&](const Tensor& weight) { return of_program.contains(weight.data); });
    plan.has_all = std::ranges::all_of(is_on_gpu, std::identity());
    plan.on_device.weights_bytes = static_cast<int64_t>(copied_bytes(stretches_of(held)));
  }

  void count_experts(const std::vector<bool>& is_on_gpu, Offload& plan) const {
    std::set<int64_t> layers, gpu_layers;
    for (size_t i = 0; i < ops_.size(); ++i) {
      if (!ops_[i].is_of_experts) continue;
      layers.insert(ops_[i].layer);
      if (is_on_gpu[i]) gpu_layers.insert(ops_[i].layer);
    }
    plan.n_expert_layers = std::ssize(layers);
    plan.n_gpu_expert_layers = std::ssize(gpu_layers);
  }

  const int64_t n_layers_;
  const std::vector<OpWeights> ops_;
  const SequenceMemory::Shape memory_;
  const int64_t step_bytes_;
};

// The first of them that fits; the next always takes less.
std::optional<Offload> first_fitting(const Planner& planner, const std::vector<Choice>& choices,
                                     int64_t free_bytes) {
  const auto fitting = std::ranges::partition_point(
      choices, [&](const Choice& choice) { return planner.plan(choice).n_bytes() > free_bytes; });
  if (fitting == choices.end()) return std::nullopt;
  return planner.plan(*fitting);
}

}  // namespace

std::string Offload::text() const {
  if (n_gpu_layers == 0)
    return fmt::format("on the GPU: nothing, the processor computes all; {:.1f} MiB may be taken there",
                       mib(free_bytes));
  std::string what = "the whole model";
  if (!has_all) {
    what = n_gpu_layers == n_layers ? fmt::format("all {} layers", n_layers)
                                    : fmt::format("the last {} of {} layers", n_gpu_layers, n_layers);
    if (n_expert_layers > 0)
      what += fmt::format(", experts in {} of {} that have some", n_gpu_expert_layers, n_expert_layers);
    what += ", the processor computes the rest";
  }
  return fmt::format("on the GPU: {}; of {:.1f} MiB that may be taken there: {}", what, mib(free_bytes),
                     on_device.text());
}

Offload plan_offload(const Model& model, const Checkpoint& checkpoint, const RunnerShape& shape,
                     const OffloadWish& wish, const OffloadRoom& room) {
  const int64_t free_bytes = std::max<int64_t>(0, room.free_bytes);
  const Planner planner(model, checkpoint, shape, room.device);
  if (wish.n_cpu_moe && !planner.has_experts())
    fail(ErrorKind::usage, "--cpu-moe and --n-cpu-moe: the model has no experts");
  const std::vector<Choice> choices = planner.choices(wish);
  if (std::optional<Offload> plan = first_fitting(planner, choices, free_bytes)) {
    plan->free_bytes = free_bytes;
    return std::move(*plan);
  }
  const Offload asked = planner.plan(choices.back());
  const OffloadWish fewer{.n_gpu_layers = std::nullopt, .n_cpu_moe = wish.n_cpu_moe.value_or(0)};
  const std::optional<Offload> most = first_fitting(planner, planner.choices(fewer), free_bytes);
  fail(ErrorKind::does_not_fit,
       "{} of {} layers need {:.1f} MiB on the GPU ({}), which has {:.1f} MiB free: {} would fit",
       asked.n_gpu_layers, asked.n_layers, mib(asked.n_bytes()), asked.on_device.text(), mib(free_bytes),
       most->n_gpu_layers);
}

std::unique_ptr<Backend> place(const Offload& plan, std::unique_ptr<Backend> device,
                               const std::function<std::unique_ptr<Backend>()>& make_processor) {
  if (plan.n_gpu_layers == 0) return make_processor();
  if (!plan.has_all) return make_split_backend(make_processor(), std::move(device), plan.places);
  device->hold(plan.places.device_weights);
  return device;
}

}  // namespace millrace
