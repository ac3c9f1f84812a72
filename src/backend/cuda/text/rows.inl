// Ops that treat every row by itself and have no weight matrix.
#include "backend/cuda/text/compute.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kRowThreads = 256;
constexpr size_t kPartialBytes = kRowThreads / kWarp * sizeof(float);

__device__ inline float* partials() { return reinterpret_cast<float*>(shared_memory()); }

struct AddArguments {
  float* x;
  const float* y;
  int64_t n;
  float x_scale, y_scale;
};

__global__ void add_kernel(AddArguments a) {
  const int64_t i = block_x() * n_threads() + thread_index();
  if (i < a.n) a.x[i] = fmaf(a.y_scale, a.y[i], a.x_scale * a.x[i]);
}

struct NormArguments {
  float* x;          // (n_vectors, n_cols)
  const float* add;  // optional, the same
  const float* weight;
  const float* bias;
  float* out;
  int64_t n_cols;
  int64_t n_weights;  // vectors of weight and bias, which follow each other from vector to vector
  NormKind kind;
  float eps, add_scale;
};

// A block of threads a vector.
__global__ void norm_kernel(NormArguments a) {
  const int64_t first = block_x() * a.n_cols, first_weight = block_x() % a.n_weights * a.n_cols;
  float* x = a.x + first;
  const auto count = static_cast<float>(a.n_cols);
  float sum = 0.0f;
  for (int64_t i = thread_index(); i < a.n_cols; i += n_threads()) {
    if (a.add != nullptr) x[i] = fmaf(a.add_scale, a.add[first + i], x[i]);
    sum += x[i];
  }
  const float mean = a.kind == NormKind::layer ? block_sum(sum, partials()) / count : 0.0f;
  float squares = 0.0f;
  for (int64_t i = thread_index(); i < a.n_cols; i += n_threads())
    squares = fmaf(x[i] - mean, x[i] - mean, squares);
  const float scale = 1.0f / sqrtf(block_sum(squares, partials()) / count + a.eps);
  for (int64_t i = thread_index(); i < a.n_cols; i += n_threads()) {
    const float weight = a.weight != nullptr ? a.weight[first_weight + i] : 1.0f;
    const float bias = a.bias != nullptr ? a.bias[first_weight + i] : 0.0f;
    a.out[first + i] = (x[i] - mean) * scale * weight + bias;
  }
}

struct MatchArguments {
  const float* x;
  const float* like;
  float* out;
  int64_t n_cols;
};

__global__ void match_kernel(MatchArguments a) {
  const int64_t first = block_x() * a.n_cols;
  float wanted = 0.0f, found = 0.0f;
  for (int64_t i = thread_index(); i < a.n_cols; i += n_threads()) {
    wanted = fmaf(a.like[first + i], a.like[first + i], wanted);
    found = fmaf(a.x[first + i], a.x[first + i], found);
  }
  const auto count = static_cast<float>(a.n_cols);
  const float wanted_rms = sqrtf(block_sum(wanted, partials()) / count);
  const float found_rms = sqrtf(most(block_sum(found, partials()) / count, kLeastMeanSquare));
  const float scale = wanted_rms / found_rms;
  for (int64_t i = thread_index(); i < a.n_cols; i += n_threads()) a.out[first + i] = a.x[first + i] * scale;
}

struct MixArguments {
  const float* x[MixStreams::kMaxStreams];
  const float* y[MixStreams::kMaxStreams];
  float* out[MixStreams::kMaxStreams];
  const float* weights;
  int n_streams, n_inputs;
  int64_t n_cols, n;
  float offset;
};

__global__ void mix_kernel(MixArguments a) {
  const int64_t at = block_x() * n_threads() + thread_index();
  if (at >= a.n) return;
  const float* weights = a.weights + at / a.n_cols * a.n_streams * a.n_inputs;
  for (int i = 0; i < a.n_streams; ++i) {
    float sum = a.x[i][at];
    for (int j = 0; j < a.n_inputs; ++j) sum = fmaf(weights[i * a.n_inputs + j] + a.offset, a.y[j][at], sum);
    a.out[i][at] = sum;
  }
}

struct GateArguments {
  const float* gate;
  int64_t gate_stride;  // from row to row: 0 where one is for all
  const float* x;
  float* out;
  int64_t n_cols;
  Activation activation;
  float cutoff;
};

// A block a row.
__global__ void gate_kernel(GateArguments a) {
  const float* gate = a.gate + block_x() * a.gate_stride;
  const int64_t first = block_x() * a.n_cols;
  const bool is_cut = a.cutoff > -kInfinity;
  float least_gate = 0.0f;
  if (is_cut) {
    const auto count = static_cast<float>(a.n_cols);
    float sum = 0.0f, squares = 0.0f;
    for (int64_t i = thread_index(); i < a.n_cols; i += n_threads()) sum += gate[i];
    const float mean = block_sum(sum, partials()) / count;
    for (int64_t i = thread_index(); i < a.n_cols; i += n_threads())
      squares = fmaf(gate[i] - mean, gate[i] - mean, squares);
    least_gate = mean + a.cutoff * sqrtf(block_sum(squares, partials()) / count);
  }
  for (int64_t i = thread_index(); i < a.n_cols; i += n_threads()) {
    const float g = is_cut ? most(0.0f, gate[i] - least_gate) : gate[i];
    a.out[first + i] = activate(a.activation, g) * a.x[first + i];
  }
}

// Copies n_cols elements of each row.
struct CopyArguments {
  const float* from;
  int64_t from_stride;
  const int32_t* rows;  // optional: row i comes from row rows[i], of n_from
  int64_t n_from;
  float* to;
  int64_t n_cols, n;
};

__global__ void copy_kernel(CopyArguments a) {
  const int64_t i = block_x() * n_threads() + thread_index();
  if (i >= a.n) return;
  const int64_t row = i / a.n_cols, from = a.rows != nullptr ? a.rows[row] : row;
  require(from >= 0 && from < a.n_from);
  a.to[i] = a.from[from * a.from_stride + i % a.n_cols];
}

void copy(Machine& machine, const CopyArguments& arguments) {
  launch(machine, copy_kernel, {n_blocks_for(arguments.n, kRowThreads)}, kRowThreads, 0, arguments);
}

struct MeanArguments {
  const float* x;
  int64_t n_rows, n_cols;
  const int32_t* begin;
  const int32_t* end;
  float* out;
};

__global__ void mean_kernel(MeanArguments a) {
  const int32_t begin = a.begin[block_x()], end = a.end[block_x()];
  require(begin >= 0 && begin < end && end <= a.n_rows);
  for (int64_t c = thread_index(); c < a.n_cols; c += n_threads()) {
    float sum = 0.0f;
    for (int64_t r = begin; r < end; ++r) sum += a.x[r * a.n_cols + c];
    a.out[block_x() * a.n_cols + c] = sum / static_cast<float>(end - begin);
  }
}

struct CollapseArguments {
  const float* x;     // (n_rows, n, hidden)
  const float* mix;   // optional (n_rows, n_mix)
  const float* base;  // (n_mix)
  const float* scale;
  float* out;
  float* post;  // optional (n_rows, n)
  float* comb;  // (n_rows, n, n)
  int64_t n, n_mix, hidden;
  float eps;
  int32_t n_iterations;
};

// Divides the n elements from `first` on, `stride` apart, by their sum + eps.
__device__ inline void divide_by_sum(float* first, int64_t n, int64_t stride, float eps) {
  float sum = eps;
  for (int64_t j = 0; j < n; ++j) sum += first[j * stride];
  for (int64_t j = 0; j < n; ++j) first[j * stride] /= sum;
}

// Thread i of the first n takes row i, then column i and so on.
__device__ inline void balance(const CollapseArguments& a, float* matrix) {
  const int64_t i = thread_index();
  float* row = matrix + i * a.n;
  if (i < a.n) {
    float largest = row[0], sum = 0.0f;
    for (int64_t j = 1; j < a.n; ++j) largest = most(largest, row[j]);
    for (int64_t j = 0; j < a.n; ++j) sum += row[j] = expf(row[j] - largest);
    for (int64_t j = 0; j < a.n; ++j) row[j] = row[j] / sum + a.eps;
  }
  for (int32_t step = 0; step < a.n_iterations; ++step) {
    if (step > 0 && i < a.n) divide_by_sum(row, a.n, 1, a.eps);
    sync_block();
    if (i < a.n) divide_by_sum(matrix + i, a.n, a.n, a.eps);
    sync_block();
  }
}

__global__ void collapse_kernel(CollapseArguments a) {
  auto* pre = reinterpret_cast<float*>(shared_memory());  // (n), then the matrix (n, n)
  float* matrix = pre + a.n;
  const float* mix = a.mix + block_x() * a.n_mix;
  const auto logit = [&](int64_t i, int kind) { return mix[i] * a.scale[kind] + a.base[i]; };
  const auto sigmoid = [](float x) { return 1.0f / (1.0f + expf(-x)); };
  for (int64_t s = thread_index(); s < a.n; s += n_threads()) {
    pre[s] = a.mix != nullptr ? sigmoid(logit(s, 0)) + a.eps : 1.0f / static_cast<float>(a.n);
    if (a.post != nullptr) a.post[block_x() * a.n + s] = 2.0f * sigmoid(logit(a.n + s, 1));
  }
  if (a.post != nullptr) {
    for (int64_t i = thread_index(); i < a.n * a.n; i += n_threads()) matrix[i] = logit(2 * a.n + i, 2);
  }
  sync_block();
  const float* x = a.x + block_x() * a.n * a.hidden;
  for (int64_t i = thread_index(); i < a.hidden; i += n_threads()) {
    float sum = 0.0f;
    for (int64_t s = 0; s < a.n; ++s) sum = fmaf(pre[s], x[s * a.hidden + i], sum);
    a.out[block_x() * a.hidden + i] = sum;
  }
  if (a.post == nullptr) return;
  balance(a, matrix);
  for (int64_t i = thread_index(); i < a.n * a.n; i += n_threads())
    a.comb[block_x() * a.n * a.n + i] = matrix[i];
}

struct ExpandArguments {
  const float* before;  // x as it was
  float* x;             // (n_rows, n, hidden)
  const float* branch;
  const float* post;
  const float* comb;
  int64_t n, hidden, n_elems;
};

__global__ void expand_kernel(ExpandArguments a) {
  const int64_t at = block_x() * n_threads() + thread_index();
  if (at >= a.n_elems) return;
  const int64_t row = at / (a.n * a.hidden), stream = at / a.hidden % a.n, col = at % a.hidden;
  float sum = a.post[row * a.n + stream] * a.branch[row * a.hidden + col];
  for (int64_t from = 0; from < a.n; ++from)
    sum = fmaf(a.comb[(row * a.n + from) * a.n + stream], a.before[(row * a.n + from) * a.hidden + col], sum);
  a.x[at] = sum;
}

}  // namespace

void compute(Machine& machine, const Add& op) {
  launch(machine, add_kernel, {n_blocks_for(op.x.n_elems(), kRowThreads)}, kRowThreads, 0,
         AddArguments{op.x.f32(), op.y.f32(), op.x.n_elems(), op.x_scale, op.y_scale});
}

void compute(Machine& machine, const Norm& op) {
  // Heads are short: one warp has few idle lanes. As every number of threads here, it depends on the model
  // alone.
  const int n_threads = op.x.n_cols() <= 512 ? kWarp : kRowThreads;
  launch(machine, norm_kernel, {op.x.n_rows()}, n_threads, kPartialBytes,
         NormArguments{.x = op.x.f32(),
                       .add = floats_of(op.add),
                       .weight = floats_of(op.weight),
                       .bias = floats_of(op.bias),
                       .out = op.out.f32(),
                       .n_cols = op.x.n_cols(),
                       .n_weights = op.weight.n_dims == 2 ? op.weight.dim(0) : 1,
                       .kind = op.kind,
                       .eps = op.eps,
                       .add_scale = op.add_scale});
}

void compute(Machine& machine, const MatchRms& op) {
  launch(machine, match_kernel, {op.x.dim(0)}, kRowThreads, kPartialBytes,
         MatchArguments{op.x.f32(), op.like.f32(), op.out.f32(), op.x.n_cols()});
}

void compute(Machine& machine, const MixStreams& op) {
  MixArguments arguments{.x = {},
                         .y = {},
                         .out = {},
                         .weights = op.weights.f32(),
                         .n_streams = op.n_streams,
                         .n_inputs = op.n_inputs,
                         .n_cols = op.x[0].n_cols(),
                         .n = op.x[0].n_elems(),
                         .offset = op.offset};
  for (int i = 0; i < op.n_streams; ++i) {
    arguments.x[i] = op.x[i].f32();
    arguments.out[i] = op.out[i].f32();
  }
  for (int j = 0; j < op.n_inputs; ++j) arguments.y[j] = op.y[j].f32();
  launch(machine, mix_kernel, {n_blocks_for(arguments.n, kRowThreads)}, kRowThreads, 0, arguments);
}

void compute(Machine& machine, const Gate& op) {
  launch(machine, gate_kernel, {op.x.dim(0)}, kRowThreads, kPartialBytes,
         GateArguments{.gate = op.gate.f32(),
                       .gate_stride = op.gate.n_dims == 1 ? 0 : op.x.n_cols(),
                       .x = op.x.f32(),
                       .out = op.out.f32(),
                       .n_cols = op.x.n_cols(),
                       .activation = op.activation,
                       .cutoff = op.cutoff});
}

void compute(Machine& machine, const Split& op) {
  const int64_t n_rows = op.x.dim(0), n_first = op.first.n_cols(), n_cols = op.x.n_cols();
  copy(machine, {.from = op.x.f32(),
                 .from_stride = n_cols,
                 .rows = nullptr,
                 .n_from = n_rows,
                 .to = op.first.f32(),
                 .n_cols = n_first,
                 .n = op.first.n_elems()});
  copy(machine, {.from = op.x.f32() + n_first,
                 .from_stride = n_cols,
                 .rows = nullptr,
                 .n_from = n_rows,
                 .to = op.second.f32(),
                 .n_cols = n_cols - n_first,
                 .n = op.second.n_elems()});
}

void compute(Machine& machine, const GatherRows& op) {
  copy(machine, {.from = op.x.f32(),
                 .from_stride = op.x.n_cols(),
                 .rows = op.rows.i32(),
                 .n_from = op.x.dim(0),
                 .to = op.out.f32(),
                 .n_cols = op.x.n_cols(),
                 .n = op.out.n_elems()});
}

void compute(Machine& machine, const MeanRows& op) {
  launch(machine, mean_kernel, {op.out.dim(0)}, kRowThreads, 0,
         MeanArguments{.x = op.x.f32(),
                       .n_rows = op.x.dim(0),
                       .n_cols = op.x.n_cols(),
                       .begin = op.begin.i32(),
                       .end = op.end.i32(),
                       .out = op.out.f32()});
}

void compute(Machine& machine, const HyperCollapse& op) {
  const int64_t n = op.x.dim(1);
  check(n <= kRowThreads, "a thread a stream");
  launch(machine, collapse_kernel, {op.x.dim(0)}, kRowThreads, static_cast<size_t>(n + n * n) * sizeof(float),
         CollapseArguments{.x = op.x.f32(),
                           .mix = floats_of(op.mix),
                           .base = floats_of(op.base),
                           .scale = floats_of(op.scale),
                           .out = op.out.f32(),
                           .post = floats_of(op.post),
                           .comb = floats_of(op.comb),
                           .n = n,
                           .n_mix = op.mix ? op.mix.dim(1) : 0,
                           .hidden = op.x.dim(2),
                           .eps = op.eps,
                           .n_iterations = most(op.n_iterations, 1)});
}

void compute(Machine& machine, const HyperExpand& op) {
  const auto n_bytes = static_cast<size_t>(op.x.n_bytes());
  std::byte* before = machine.scratch.take(n_bytes);
  if (!machine.is_measuring()) machine.device.copy(op.x.data, before, n_bytes);
  launch(machine, expand_kernel, {n_blocks_for(op.x.n_elems(), kRowThreads)}, kRowThreads, 0,
         ExpandArguments{.before = reinterpret_cast<const float*>(before),
                         .x = op.x.f32(),
                         .branch = op.branch.f32(),
                         .post = op.post.f32(),
                         .comb = op.comb.f32(),
                         .n = op.x.dim(1),
                         .hidden = op.x.dim(2),
                         .n_elems = op.x.n_elems()});
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
