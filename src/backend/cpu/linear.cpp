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

// Calls body(strip, columns, thread) for each strip and run of at most max_columns columns.
template <class Body>
void for_each_strip(Machine& machine, int64_t n_strips, int64_t n_rows, int64_t max_columns,
                    const Body& body) {
  const Grid grid(machine.pool.n_threads(), n_strips, n_rows, max_columns);
  machine.pool.run(grid.n_tasks(), [&](int task, int thread) {
    const int64_t first_column = task % grid.n_column_runs * grid.columns_a_task;
    const ColumnRange columns{first_column, std::min(grid.columns_a_task, n_rows - first_column)};
    const int64_t first = task / grid.n_column_runs * grid.strips_a_task;
    const int64_t end = std::min(n_strips, first + grid.strips_a_task);
    for (int64_t strip = first; strip < end; ++strip) body(strip, columns, thread);
  });
}

struct LinearScratch {
  LinearScratch(Carver& carver, const Kernels& kernels, std::initializer_list<Tensor> weights,
                int64_t max_columns)
      : strip(carver, kernels, weights, max_columns), products(carver.take<float>(max_columns * kMaxStrip)) {}

  StripScratch strip;
  float* products;  // (max_columns, kMaxStrip)
};

// Rows `range` of one product for some columns, with bias, activation, scale and cap.
void compute_strip(const Kernels& kernels, const Linear& op, const Product& product, const Weight& weight,
                   RowRange range, const Inputs& inputs, ColumnRange columns, const LinearScratch& scratch) {
  const int64_t n_out = product.out.n_cols();
  multiply_strip(kernels, weight, range, inputs, columns, scratch.strip, scratch.products, kMaxStrip);
  const auto activate = kernels.activate[static_cast<size_t>(op.activation)];
  const bool activates = op.activation != Activation::none;
  const float* bias = product.bias ? product.bias.f32() + range.first : nullptr;
  if (bias != nullptr || activates || op.scale != 1.0f || op.softcap > 0) {
    for (int64_t c = 0; c < columns.n; ++c) {
      float* out = scratch.products + c * kMaxStrip;
      if (bias != nullptr) kernels.add(out, bias, range.n);
      if (activates) activate(out, range.n);
      if (op.scale != 1.0f) kernels.scale(out, op.scale, range.n);
      if (op.softcap > 0) kernels.softcap(out, op.softcap, range.n);
    }
  }
  write_strip(kernels, scratch.products, columns.n, range.n,
              product.out.f32() + columns.first * n_out + range.first, n_out);
}

void compute_gated_strip(const Kernels& kernels, const LinearGated& op, const Weight& gate_weight,
                         const Weight& up_weight, RowRange range, const Inputs& inputs, ColumnRange columns,
                         const GatedScratch& scratch) {
  multiply_strip(kernels, gate_weight, range, inputs, columns, scratch.strip, scratch.gate, kMaxStrip);
  multiply_strip(kernels, up_weight, range, inputs, columns, scratch.strip, scratch.up, kMaxStrip);
  const auto activate = kernels.gate[static_cast<size_t>(op.activation)];
  const float* gate_bias = op.gate_bias ? op.gate_bias.f32() + range.first : nullptr;
  const float* up_bias = op.up_bias ? op.up_bias.f32() + range.first : nullptr;
  for (int64_t c = 0; c < columns.n; ++c) {
    float* gate = scratch.gate + c * kMaxStrip;
    float* up = scratch.up + c * kMaxStrip;
    if (gate_bias != nullptr) kernels.add(gate, gate_bias, range.n);
    if (up_bias != nullptr) kernels.add(up, up_bias, range.n);
    clip_gated(gate, up, range.n, op.limit);
    activate(gate, up, gate, range.n);
  }
  const int64_t n_out = op.out.n_cols();
  write_strip(kernels, scratch.gate, columns.n, range.n, op.out.f32() + columns.first * n_out + range.first,
              n_out);
}

}  // namespace

void compute(Machine& machine, const Linear& op) {
  const int64_t n_rows = op.x.dim(0);
  if (n_rows == 0) return;
  const Kernels& kernels = machine.kernels;
  // Products beyond n_products are empty tensors: float32, no columns.
  const Tensor &a = op.products[0].weight, &b = op.products[1].weight, &c = op.products[2].weight;
  const auto weights = {a, op.n_products > 1 ? b : a, op.n_products > 2 ? c : a};
  const InputViews views(kernels, weights);
  const auto memory = machine.scratch.shared<InputMemory>(views, n_rows, op.x.n_cols());
  const int64_t max_columns = std::min(n_rows, views.max_columns(op.x.n_cols()));
  machine.scratch.reserve<LinearScratch>(kernels, weights, max_columns);
  const Inputs inputs = prepare_inputs(machine, op.x, views, memory);

  const Weight read[3] = {machine.read(a), machine.read(b), machine.read(c)};
  int64_t first_strip[4] = {};  // of each product in the run of all strips
  for (int i = 0; i < op.n_products; ++i)
    first_strip[i + 1] = first_strip[i] + Strips(kernels, op.products[i].weight.dim(0)).n_strips();
  for_each_strip(machine, first_strip[op.n_products], n_rows, max_columns,
                 [&](int64_t strip, ColumnRange columns, int thread) {
                   int i = 0;
                   while (strip >= first_strip[i + 1]) ++i;
                   const Strips strips(kernels, op.products[i].weight.dim(0));
                   compute_strip(
                       kernels, op, op.products[i], read[i], strips.at(strip - first_strip[i]), inputs,
                       columns,
                       machine.scratch.of_thread<LinearScratch>(thread, kernels, weights, max_columns));
                 });
}

void compute(Machine& machine, const LinearGated& op) {
  const int64_t n_rows = op.x.dim(0);
  if (n_rows == 0) return;
  const Kernels& kernels = machine.kernels;
  const InputViews views(kernels, {op.gate, op.up});
  const auto memory = machine.scratch.shared<InputMemory>(views, n_rows, op.x.n_cols());
  const int64_t max_columns = std::min(n_rows, views.max_columns(op.x.n_cols()));
  machine.scratch.reserve<GatedScratch>(kernels, op.gate, op.up, max_columns);
  const Inputs inputs = prepare_inputs(machine, op.x, views, memory);
  const Strips strips(kernels, op.gate.dim(0));
  const Weight gate = machine.read(op.gate), up = machine.read(op.up);
  for_each_strip(machine, strips.n_strips(), n_rows, max_columns,
                 [&](int64_t strip, ColumnRange columns, int thread) {
                   compute_gated_strip(
                       kernels, op, gate, up, strips.at(strip), inputs, columns,
                       machine.scratch.of_thread<GatedScratch>(thread, kernels, op.gate, op.up, max_columns));
                 });
}

}  // namespace millrace::cpu
