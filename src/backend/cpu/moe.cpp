// Mixtures of experts: slots (row * n_used + j) are grouped by expert, and the weights of an expert are read
// once for all of its slots. The columns of a product are the slots in this order.
#include <numeric>
#include <span>

#include "backend/cpu/inputs.h"
#include "backend/cpu/strip.h"

namespace millrace::cpu {
namespace {

struct Expert {
  int32_t index;
  int64_t first_column;
  std::span<const int32_t> slots;  // ascending, at least one
};

// The slots of each expert that has any; a stable counting sort.
struct SlotsByExpert {
  SlotsByExpert(Carver& carver, int64_t n_slots, int64_t max_experts)
      : order(carver.take<int32_t>(n_slots)),
        begin(carver.take<int32_t>(max_experts + 1)),
        experts(carver.take<Expert>(max_experts)),
        n_experts(0) {}

  void sort(const Tensor& experts_of, int64_t max_experts) {
    const int64_t n_slots = experts_of.n_elems();
    const int32_t* expert_of = experts_of.i32();
    std::fill_n(begin, max_experts + 1, 0);
    for (int64_t slot = 0; slot < n_slots; ++slot) {
      check(expert_of[slot] >= 0 && expert_of[slot] < max_experts, "an expert that is not there");
      ++begin[expert_of[slot] + 1];
    }
    std::partial_sum(begin, begin + max_experts + 1, begin);
    n_experts = 0;
    for (int32_t e = 0; e < max_experts; ++e) {
      const auto n = static_cast<size_t>(begin[e + 1] - begin[e]);
      if (n > 0) experts[n_experts++] = {e, begin[e], std::span<const int32_t>(order + begin[e], n)};
    }
    for (int64_t slot = 0; slot < n_slots; ++slot)
      order[begin[expert_of[slot]]++] = static_cast<int32_t>(slot);
  }

  std::span<const Expert> used() const { return {experts, static_cast<size_t>(n_experts)}; }

  int32_t* order;
  int32_t* begin;
  Expert* experts;
  int64_t n_experts;
};

struct SharedPart {
  SharedPart(Carver& carver, InputViews views, const Tensor& x, const Tensor& experts, int64_t max_experts)
      : inputs(carver, views, experts.n_elems(), x.n_cols()),
        slots(carver, experts.n_elems(), max_experts),
        rows(carver.take<int32_t>(experts.n_elems())) {}

  InputMemory inputs;
  SlotsByExpert slots;
  int32_t* rows;  // of x, of each column
};

// The products of one slot with rows `range` of its expert, on their way to the activation.
void finish_products(const Kernels& kernels, const MoeGated& op, int32_t expert, int32_t slot, RowRange range,
                     float* gate, float* up) {
  if (op.weights) {
    kernels.scale(gate, op.weights.f32()[slot], range.n);
    kernels.scale(up, op.weights.f32()[slot], range.n);
  }
  const int64_t first = expert * op.gate.dim(1) + range.first;
  if (op.gate_bias) kernels.add(gate, op.gate_bias.f32() + first, range.n);
  if (op.up_bias) kernels.add(up, op.up_bias.f32() + first, range.n);
  clip_gated(gate, up, range.n, op.limit);
  if (op.up_offset != 0) {
    for (int64_t i = 0; i < range.n; ++i) up[i] += op.up_offset;
  }
}

// Of one expert, (n_ff, n_in) each.
struct ExpertWeights {
  Weight gate;
  Weight up;
};

// Rows `range` of one expert, for all of its slots.
void compute_gated_strip(const Kernels& kernels, const MoeGated& op, const ExpertWeights& weights,
                         const Expert& expert, RowRange range, const Inputs& inputs,
                         const GatedScratch& scratch) {
  const auto multiply = [&](const Weight& weight, ColumnRange columns, float* out) {
    multiply_strip(kernels, weight, range, inputs, columns, scratch.strip, out, kMaxStrip);
  };
  const int64_t n_ff = op.out.n_cols();
  const auto activate = kernels.gate[static_cast<size_t>(op.activation)];
  const auto n_slots = static_cast<int64_t>(expert.slots.size());
  for (int64_t first = 0; first < n_slots; first += kMaxColumns) {
    const ColumnRange columns{expert.first_column + first, std::min(kMaxColumns, n_slots - first)};
    multiply(weights.gate, columns, scratch.gate);
    multiply(weights.up, columns, scratch.up);
    for (int64_t c = 0; c < columns.n; ++c) {
      float* gate = scratch.gate + c * kMaxStrip;
      float* up = scratch.up + c * kMaxStrip;
      const int32_t slot = expert.slots[static_cast<size_t>(first + c)];
      finish_products(kernels, op, expert.index, slot, range, gate, up);
      activate(gate, up, op.out.f32() + slot * n_ff + range.first, range.n);
    }
  }
}

// Rows of a moe_down are cut so that a task holds the products of at most so many slots.
constexpr int64_t kMaxSlots = 4096;

struct DownScratch {
  DownScratch(Carver& carver, const Kernels& kernels, const Tensor& down, int64_t max_slots)
      : strip(carver, kernels, {down}, std::min(max_slots, kMaxColumns)),
        staging(carver.take<float>(std::min(max_slots, kMaxColumns) * kMaxStrip)),
        products(carver.take<float>(max_slots * kMaxStrip)) {}

  StripScratch strip;
  float* staging;   // (kMaxColumns, kMaxStrip)
  float* products;  // (max_slots, kMaxStrip)
};

struct SlotRange {
  int64_t begin;
  int64_t end;
};

// The products of the slots of one expert that are in `range`, each to its place in scratch.products.
void multiply_expert(const Kernels& kernels, const MoeDown& op, const Weight& down, const Expert& expert,
                     RowRange rows, SlotRange range, const Inputs& inputs, const DownScratch& scratch) {
  const auto first = std::ranges::lower_bound(expert.slots, range.begin);
  const auto last = std::ranges::lower_bound(expert.slots, range.end);
  for (auto at = first; at < last; at += std::min<int64_t>(kMaxColumns, last - at)) {
    const ColumnRange columns{expert.first_column + (at - expert.slots.begin()),
                              std::min<int64_t>(kMaxColumns, last - at)};
    multiply_strip(kernels, down.at(expert.index), rows, inputs, columns, scratch.strip, scratch.staging,
                   kMaxStrip);
    for (int64_t c = 0; c < columns.n; ++c) {
      float* products = scratch.products + (at[c] - range.begin) * kMaxStrip;
      std::copy_n(scratch.staging + c * kMaxStrip, rows.n, products);
      if (op.bias) kernels.add(products, op.bias.f32() + expert.index * op.down.dim(1) + rows.first, rows.n);
    }
  }
}

void sum_slots(const Kernels& kernels, const MoeDown& op, RowRange rows, SlotRange range,
               const DownScratch& scratch) {
  const int64_t n_used = op.experts.dim(1);
  for (int64_t slot = range.begin; slot < range.end; ++slot) {
    float* out = op.out.f32() + slot / n_used * op.out.n_cols() + rows.first;
    if (slot % n_used == 0) std::fill_n(out, rows.n, 0.0f);
    const float weight = op.weights ? op.weights.f32()[slot] : 1.0f;
    kernels.weighted_add(out, scratch.products + (slot - range.begin) * kMaxStrip, weight, rows.n);
  }
}

}  // namespace

void compute(Machine& machine, const MoeGated& op) {
  if (op.x.dim(0) == 0) return;
  const Kernels& kernels = machine.kernels;
  const int64_t max_experts = op.gate.dim(0);
  const Tensor& up = op.up ? op.up : op.gate;
  const InputViews views(kernels, {op.gate, up});
  auto shared = machine.scratch.shared<SharedPart>(views, op.x, op.experts, max_experts);
  const int64_t max_columns = std::min(op.experts.n_elems(), kMaxColumns);
  machine.scratch.reserve<GatedScratch>(kernels, op.gate, up, max_columns);
  shared.slots.sort(op.experts, max_experts);
  const int64_t n_slots = op.experts.n_elems();
  const int64_t n_used = op.experts.dim(1);
  for (int64_t i = 0; i < n_slots; ++i) shared.rows[i] = static_cast<int32_t>(shared.slots.order[i] / n_used);
  const Inputs inputs =
      prepare_inputs(machine, op.x, views, shared.inputs, {shared.rows, static_cast<size_t>(n_slots)});

  const std::span experts = shared.slots.used();
  const int64_t n_ff = op.out.n_cols();
  const Strips strips(kernels, n_ff);
  const Weight gates = machine.read(op.gate), ups = machine.read(up);
  const int64_t n_tasks = static_cast<int64_t>(experts.size()) * strips.n_strips();
  machine.pool.run(static_cast<int>(n_tasks), [&](int task, int thread) {
    const Expert& expert = experts[static_cast<size_t>(task / strips.n_strips())];
    const Weight gate = gates.at(expert.index);
    const ExpertWeights weights{gate.slice(0, n_ff),
                                op.up ? ups.at(expert.index) : gate.slice(n_ff, 2 * n_ff)};
    compute_gated_strip(kernels, op, weights, expert, strips.at(task % strips.n_strips()), inputs,
                        machine.scratch.of_thread<GatedScratch>(thread, kernels, op.gate, up, max_columns));
  });
}

void compute(Machine& machine, const MoeDown& op) {
  if (op.out.dim(0) == 0) return;
  const Kernels& kernels = machine.kernels;
  const int64_t max_experts = op.down.dim(0);
  const int64_t n_slots = op.experts.n_elems();
  const int64_t n_used = op.experts.dim(1);
  const InputViews views(kernels, {op.down});
  auto shared = machine.scratch.shared<SharedPart>(views, op.x, op.experts, max_experts);
  const int64_t max_slots = std::min(n_slots, std::max<int64_t>(1, kMaxSlots / n_used) * n_used);
  machine.scratch.reserve<DownScratch>(kernels, op.down, max_slots);
  shared.slots.sort(op.experts, max_experts);
  const Inputs inputs =
      prepare_inputs(machine, op.x, views, shared.inputs, {shared.slots.order, static_cast<size_t>(n_slots)});

  const Strips strips(kernels, op.down.dim(1));
  const Weight down = machine.read(op.down);
  const int64_t n_runs = (n_slots + max_slots - 1) / max_slots;
  machine.pool.run(static_cast<int>(strips.n_strips() * n_runs), [&](int task, int thread) {
    const auto scratch = machine.scratch.of_thread<DownScratch>(thread, kernels, op.down, max_slots);
    const RowRange rows = strips.at(task / n_runs);
    const SlotRange range{.begin = task % n_runs * max_slots,
                          .end = std::min(n_slots, (task % n_runs + 1) * max_slots)};
    for (const Expert& expert : shared.slots.used())
      multiply_expert(kernels, op, down, expert, rows, range, inputs, scratch);
    sum_slots(kernels, op, rows, range, scratch);
  });
}

}  // namespace millrace::cpu
