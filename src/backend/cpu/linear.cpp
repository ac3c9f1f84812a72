// Products with weights. A task is some strips of weight rows times a run of columns.
#include "backend/cpu/inputs.h"
#include "backend/cpu/strip.h"

namespace millrace::cpu {
namespace {

// The grid of tasks: runs of strips times runs of columns.
struct Grid {
  Grid(int n_threads, int64_t n_strips, int64_t n_rows, int64_t max_columns) {
    constexpr int64_t kTasksAThread = 16;   // enough to even out threads of different speed
    constexpr int64_t kFewestColumns = 64;  // fewer would not pay for expanding a strip again
    strips_a_task = std::max<int64_t>(1, n_strips / (kTasksAThread * n_threads));
    n_strip_runs = (n_strips + strips_a_task - 1) / strips_a_task;
    const int64_t n_wanted = std::max<int64_t>(1, 4 * n_threads / n_strip_runs);
    columns_a_task = std::clamp((n_rows + n_wanted - 1) / n_wanted,
                                std::min({kFewestColumns, n_rows, max_columns}), max_columns);
    n_column_runs = (n_rows + columns_a_task - 1) / columns_a_task;
  }
  int n_tasks() const { return static_cast<int>(n_strip_runs * n_column_runs); }

  int64_t strips_a_task;
  int64_t n_strip_runs;
  int64_t columns_a_task;
  int64_t n_column_runs;
};

// What is computed at a time: some strips, one after the other.
struct Part {
  int64_t first_strip;
  int64_t end_strip;
  ColumnRange columns;
  SpanRange spans;
  bool is_last;  // of the strips' spans
};

// How activations are kept in the second level of cache: a task takes some of the columns, or, where those
// would be few, some of their spans.
struct Passes {
  Passes(const InputViews& views, int64_t n_rows, int64_t n_in, bool may_cut_spans)
      : max_columns(std::min(n_rows, views.max_columns(n_in))), n_spans(n_spans_of(n_in)) {
    const int64_t wanted = std::min(n_rows, kMaxColumns);
    if (max_columns >= wanted || !may_cut_spans || !views.are_int8()) return;
    max_columns = wanted;
    const int64_t n_fitting = views.n_cached() / (wanted * kSpan);
    n_passes = (n_spans + n_fitting - 1) / n_fitting;
  }
  SpanRange spans(int64_t pass) const { return {pass * n_spans / n_passes, (pass + 1) * n_spans / n_passes}; }

  int64_t max_columns;
  int64_t n_spans;
  int64_t n_passes = 1;
};

// Whether a strip can be summed up in several passes: its last group has all rows.
bool has_whole_groups(const Kernels& kernels, const Tensor& weight) {
  return weight.dim(0) % kernels.n_lanes == 0;
}

// Where the sums of the strips are that are worked on: a part of each thread, or, between passes, some of the
// op's strips.
struct Sums {
  Sums(Carver& carver, const Passes& passes, int n_threads, int64_t n_strips, int n_products)
      : n_together(n_products > 1 && passes.max_columns <= kFewColumns ? kFewStrips : 1),
        n_slots(passes.n_passes == 1 ? n_threads : std::min<int64_t>(n_strips, std::max(64, 4 * n_threads))),
        slot_elems(n_products * n_together * passes.max_columns * kMaxStrip),
        memory(carver.take<float>(n_slots * slot_elems)) {}

  float* of(int64_t slot) const { return memory + slot * slot_elems; }

  // Of few columns, where all time goes into reading weights, a part is several strips of one weight before
  // those of the other: a strip alone is over before a processor's prefetcher has seen that it is one.
  static constexpr int64_t kFewColumns = 8, kFewStrips = 16;

  int64_t n_together;  // strips of a part, at most
  int64_t n_slots;
  int64_t slot_elems;  // (n_products, n_together, max_columns, kMaxStrip)
  float* memory;
};

// Calls body(part, sums, thread) for each part: all strips times all runs of columns, or all passes over
// them, in order.
template <class Body>
void for_each_part(Machine& machine, int64_t n_strips, int64_t n_rows, const Passes& passes, const Sums& sums,
                   const Body& body) {
  if (passes.n_passes == 1) {
    const Grid grid(machine.pool.n_threads(), n_strips, n_rows, passes.max_columns);
    machine.pool.run(grid.n_tasks(), [&](int task, int thread) {
      const int64_t first_column = task % grid.n_column_runs * grid.columns_a_task;
      const ColumnRange columns{first_column, std::min(grid.columns_a_task, n_rows - first_column)};
      const int64_t first = task / grid.n_column_runs * grid.strips_a_task;
      const int64_t end = std::min(n_strips, first + grid.strips_a_task);
      for (int64_t strip = first; strip < end; strip += sums.n_together) {
        body(Part{strip, std::min(end, strip + sums.n_together), columns, passes.spans(0), true},
             sums.of(thread), thread);
      }
    });
    return;
  }
  for (int64_t column = 0; column < n_rows; column += passes.max_columns) {
    const ColumnRange columns{column, std::min(passes.max_columns, n_rows - column)};
    for (int64_t first = 0; first < n_strips; first += sums.n_slots) {
      const auto n = static_cast<int>(std::min(sums.n_slots, n_strips - first));
      for (int64_t pass = 0; pass < passes.n_passes; ++pass) {
        const bool is_last = pass + 1 == passes.n_passes;
        machine.pool.run(n, [&](int slot, int thread) {
          const int64_t strip = first + slot;
          body(Part{strip, strip + 1, columns, passes.spans(pass), is_last}, sums.of(slot), thread);
        });
      }
    }
  }
}

struct LinearPart {
  LinearPart(Carver& carver, const InputViews& views, const Passes& passes, int n_threads, int64_t n_rows,
             int64_t n_in, int64_t n_strips, int n_products)
      : inputs(carver, views, n_rows, n_in), sums(carver, passes, n_threads, n_strips, n_products) {}

  InputMemory inputs;
  Sums sums;
};

// A part of one strip, rows `range` of one product, with bias, activation, scale and cap.
void compute_part(const Kernels& kernels, const Linear& op, const Product& product, const Weight& weight,
                  RowRange range, const Inputs& inputs, const Part& part, const StripScratch& scratch,
                  float* sums) {
  const ColumnRange columns = part.columns;
  multiply_strip_of_run(kernels, weight, range, inputs, columns, scratch, sums, kMaxStrip, part.spans);
  if (!part.is_last) return;
  const int64_t n_out = product.out.n_cols();
  const auto activate = kernels.activate[static_cast<size_t>(op.activation)];
  const bool activates = op.activation != Activation::none;
  const float* bias = product.bias ? product.bias.f32() + range.first : nullptr;
  if (bias != nullptr || activates || op.scale != 1.0f || op.softcap > 0) {
    for (int64_t c = 0; c < columns.n; ++c) {
      float* out = sums + c * kMaxStrip;
      if (bias != nullptr) kernels.add(out, bias, range.n);
      if (activates) activate(out, range.n);
      if (op.scale != 1.0f) kernels.scale(out, op.scale, range.n);
      if (op.softcap > 0) kernels.softcap(out, op.softcap, range.n);
    }
  }
  write_strip(kernels, sums, columns.n, range.n, product.out.f32() + columns.first * n_out + range.first,
              n_out);
}

// Gates and ups of one strip of rows `range`.
void finish_gated_strip(const Kernels& kernels, const LinearGated& op, RowRange range, ColumnRange columns,
                        float* gates, float* ups) {
  const auto activate = kernels.gate[static_cast<size_t>(op.activation)];
  const float* gate_bias = op.gate_bias ? op.gate_bias.f32() + range.first : nullptr;
  const float* up_bias = op.up_bias ? op.up_bias.f32() + range.first : nullptr;
  for (int64_t c = 0; c < columns.n; ++c) {
    float* gate = gates + c * kMaxStrip;
    float* up = ups + c * kMaxStrip;
    if (gate_bias != nullptr) kernels.add(gate, gate_bias, range.n);
    if (up_bias != nullptr) kernels.add(up, up_bias, range.n);
    clip_gated(gate, up, range.n, op.limit);
    activate(gate, up, gate, range.n);
  }
  const int64_t n_out = op.out.n_cols();
  write_strip(kernels, gates, columns.n, range.n, op.out.f32() + columns.first * n_out + range.first, n_out);
}

void compute_gated_part(const Kernels& kernels, const LinearGated& op, const Weight& gate_weight,
                        const Weight& up_weight, const Strips& strips, const Inputs& inputs, const Part& part,
                        const StripScratch& scratch, float* gates, float* ups) {
  const ColumnRange columns = part.columns;
  const auto for_each_strip = [&](const auto& body) {
    for (int64_t i = 0; i < part.end_strip - part.first_strip; ++i)
      body(strips.at(part.first_strip + i), i * columns.n * kMaxStrip);
  };
  for_each_strip([&](RowRange range, int64_t at) {
    multiply_strip_of_run(kernels, gate_weight, range, inputs, columns, scratch, gates + at, kMaxStrip,
                          part.spans);
  });
  for_each_strip([&](RowRange range, int64_t at) {
    multiply_strip_of_run(kernels, up_weight, range, inputs, columns, scratch, ups + at, kMaxStrip,
                          part.spans);
  });
  if (!part.is_last) return;
  for_each_strip([&](RowRange range, int64_t at) {
    finish_gated_strip(kernels, op, range, columns, gates + at, ups + at);
  });
}

}  // namespace

void compute(Machine& machine, const Linear& op) {
  const int64_t n_rows = op.x.dim(0), n_in = op.x.n_cols();
  if (n_rows == 0) return;
  const Kernels& kernels = machine.kernels;
  // Products beyond n_products are empty tensors: float32, no columns.
  const Tensor &a = op.products[0].weight, &b = op.products[1].weight, &c = op.products[2].weight;
  const auto weights = {a, op.n_products > 1 ? b : a, op.n_products > 2 ? c : a};
  int64_t first_strip[4] = {};  // of each product in the run of all strips
  for (int i = 0; i < op.n_products; ++i)
    first_strip[i + 1] = first_strip[i] + Strips(kernels, op.products[i].weight.dim(0)).n_strips();
  const int64_t n_strips = first_strip[op.n_products];

  const InputViews views(kernels, weights);
  const bool may_cut_spans =
      std::ranges::all_of(weights, [&](const Tensor& weight) { return has_whole_groups(kernels, weight); });
  const Passes passes(views, n_rows, n_in, may_cut_spans);
  const auto memory = machine.scratch.shared<LinearPart>(views, passes, machine.pool.n_threads(), n_rows,
                                                         n_in, n_strips, /*n_products=*/1);
  machine.scratch.reserve<StripScratch>(kernels, weights, passes.max_columns);
  const Inputs inputs = prepare_inputs(machine, op.x, views, memory.inputs);

  const Weight read[3] = {machine.read(a), machine.read(b), machine.read(c)};
  for_each_part(
      machine, n_strips, n_rows, passes, memory.sums, [&](const Part& part, float* sums, int thread) {
        int i = 0;
        while (part.first_strip >= first_strip[i + 1]) ++i;
        const Strips strips(kernels, op.products[i].weight.dim(0));
        compute_part(
            kernels, op, op.products[i], read[i], strips.at(part.first_strip - first_strip[i]), inputs, part,
            machine.scratch.of_thread<StripScratch>(thread, kernels, weights, passes.max_columns), sums);
      });
}

void compute(Machine& machine, const LinearGated& op) {
  const int64_t n_rows = op.x.dim(0), n_in = op.x.n_cols();
  if (n_rows == 0) return;
  const Kernels& kernels = machine.kernels;
  const std::initializer_list<Tensor> weights = {op.gate, op.up};
  const Strips strips(kernels, op.gate.dim(0));
  const InputViews views(kernels, weights);
  const Passes passes(views, n_rows, n_in, has_whole_groups(kernels, op.gate));
  const auto memory = machine.scratch.shared<LinearPart>(views, passes, machine.pool.n_threads(), n_rows,
                                                         n_in, strips.n_strips(), /*n_products=*/2);
  machine.scratch.reserve<StripScratch>(kernels, weights, passes.max_columns);
  const Inputs inputs = prepare_inputs(machine, op.x, views, memory.inputs);
  const Weight gate = machine.read(op.gate), up = machine.read(op.up);
  const Sums& sums = memory.sums;
  for_each_part(machine, strips.n_strips(), n_rows, passes, sums,
                [&](const Part& part, float* gates, int thread) {
                  compute_gated_part(
                      kernels, op, gate, up, strips, inputs, part,
                      machine.scratch.of_thread<StripScratch>(thread, kernels, weights, passes.max_columns),
                      gates, gates + sums.slot_elems / 2);
                });
}

}  // namespace millrace::cpu
