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

// How many strips a task takes of each expert: the longer what lies in one piece, the better it is read
// ahead.
int64_t strips_a_task(const Machine& machine, int64_t n_strips) {
  constexpr int64_t kTasksAThread = 8, kMost = 4;
  return std::clamp<int64_t>(n_strips / (kTasksAThread * machine.pool.n_threads()), 1, kMost);
}

// Tasks of a moe_down take so many rows of its result at most: their sums stay in the second level of cache.
constexpr int64_t kMaxRows = 512;

struct DownScratch {
  DownScratch(Carver& carver, const Kernels& kernels, const Tensor& down, int64_t n_strips, int64_t n_rows)
      : max_columns(std::min(n_rows, kMaxColumns)),
        strip(carver, kernels, {down}, max_columns),
        products(carver.take<float>(max_columns * kMaxStrip)),
        sums(carver.take<float>(n_strips * n_rows * kMaxStrip)) {}

  int64_t max_columns;
  StripScratch strip;
  float* products;  // (max_columns, kMaxStrip)
  float* sums;      // (n_strips, n_rows, kMaxStrip)
};

// Rows [first, first + n) of the result.
struct ResultRange {
  int64_t first;
  int64_t n;
};

// Adds what one expert gives to those of the rows that use it, by weight, to `sums` (range.n, kMaxStrip).
void add_expert(const Kernels& kernels, const MoeDown& op, const Weight& down, const Expert& expert,
                RowRange strip, ResultRange range, const Inputs& inputs, const DownScratch& scratch,
                float* sums) {
  const int64_t n_used = op.experts.dim(1);
  const auto first = std::ranges::lower_bound(expert.slots, range.first * n_used);
  const auto last = std::ranges::lower_bound(expert.slots, (range.first + range.n) * n_used);
  for (auto at = first; at < last; at += std::min<int64_t>(scratch.max_columns, last - at)) {
    const ColumnRange columns{expert.first_column + (at - expert.slots.begin()),
                              std::min<int64_t>(scratch.max_columns, last - at)};
    multiply_strip_of_run(kernels, down, strip, inputs, columns, scratch.strip, scratch.products, kMaxStrip,
                          {0, n_spans_of(inputs.n_in)});
    for (int64_t c = 0; c < columns.n; ++c) {
      float* products = scratch.products + c * kMaxStrip;
      if (op.bias)
        kernels.add(products, op.bias.f32() + expert.index * op.down.dim(1) + strip.first, strip.n);
      const float weight = op.weights ? op.weights.f32()[at[c]] : 1.0f;
      kernels.weighted_add(sums + (at[c] / n_used - range.first) * kMaxStrip, products, weight, strip.n);
    }
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

// What experts give to a row is added in the order of the experts.
void compute(Machine& machine, const MoeDown& op) {
  const int64_t n_rows = op.out.dim(0), n_out = op.out.n_cols();
  if (n_rows == 0) return;
  const Kernels& kernels = machine.kernels;
  const int64_t max_experts = op.down.dim(0);
  const int64_t n_slots = op.experts.n_elems();
  const Strips strips(kernels, n_out);
  const int64_t n_strips = strips_a_task(machine, strips.n_strips());
  const int64_t n_strip_runs = (strips.n_strips() + n_strips - 1) / n_strips;
  const int64_t n_row_runs = (n_rows + kMaxRows - 1) / kMaxRows;
  const InputViews views(kernels, {op.down});
  auto shared = machine.scratch.shared<SharedPart>(views, op.x, op.experts, max_experts);
  machine.scratch.reserve<DownScratch>(kernels, op.down, n_strips, std::min(n_rows, kMaxRows));
  shared.slots.sort(op.experts, max_experts);
  const Inputs inputs =
      prepare_inputs(machine, op.x, views, shared.inputs, {shared.slots.order, static_cast<size_t>(n_slots)});

  const Weight down = machine.read(op.down);
  machine.pool.run(static_cast<int>(n_strip_runs * n_row_runs), [&](int task, int thread) {
    const ResultRange range{task % n_row_runs * kMaxRows,
                            std::min(kMaxRows, n_rows - task % n_row_runs * kMaxRows)};
    const auto scratch = machine.scratch.of_thread<DownScratch>(thread, kernels, op.down, n_strips,
                                                                std::min(n_rows, kMaxRows));
    const int64_t first = task / n_row_runs * n_strips, end = std::min(strips.n_strips(), first + n_strips);
    const auto sums_of = [&](int64_t strip) { return scratch.sums + (strip - first) * range.n * kMaxStrip; };
    std::fill_n(scratch.sums, (end - first) * range.n * kMaxStrip, 0.0f);
    for (const Expert& expert : shared.slots.used()) {
      const Weight weight = down.at(expert.index);
      for (int64_t strip = first; strip < end; ++strip)
        add_expert(kernels, op, weight, expert, strips.at(strip), range, inputs, scratch, sums_of(strip));
    }
    for (int64_t strip = first; strip < end; ++strip) {
      const RowRange rows = strips.at(strip);
      write_strip(kernels, sums_of(strip), range.n, rows.n, op.out.f32() + range.first * n_out + rows.first,
                  n_out);
    }
  });
}

}  // namespace millrace::cpu
