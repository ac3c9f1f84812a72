// What is drawn by logits. The largest of a row are those of its parts, and then of what these have left; a
// draw adds up the weights of blocks in the order of token_weights.h.
#include "backend/cuda/text/compute.inl"
#include "backend/cuda/text/largest.inl"
#include "backend/token_truncation.h"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int64_t kTopPart = 8192;
static_assert(kTopPart >= TopLogits::kMost);

struct TopArguments {
  const float* logits;  // (n_rows, n)
  const int32_t*
      tokens;  // optional (n_rows, n): of the logits, ascending where they are equal; else 0, 1, ...
  int64_t n;
  int64_t n_parts, n_part;  // of each row
  int32_t* top_tokens;      // (n_rows, n_parts, n_top)
  float* top;
  int64_t n_top;
};

struct TopShared {
  SelectShared select;
  int n_unsound;
};

// A block a part. One that is shorter than n_top ends in -infinity.
__global__ void top_kernel(TopArguments a) {
  auto& shared = *reinterpret_cast<TopShared*>(shared_memory());
  auto* chosen = reinterpret_cast<float*>(&shared + 1);
  auto* chosen_tokens = reinterpret_cast<int32_t*>(chosen + a.n_top);
  const int64_t row = block_x() / a.n_parts, begin = block_x() % a.n_parts * a.n_part;
  const int64_t n = least(a.n_part, a.n - begin), n_chosen = least(a.n_top, n);
  const float* logits = a.logits + row * a.n + begin;
  float* top = a.top + block_x() * a.n_top;
  int32_t* top_tokens = a.top_tokens + block_x() * a.n_top;
  if (thread_index() == 0) shared.n_unsound = 0;
  sync_block();
  for (int64_t j = thread_index(); j < n; j += kSelectThreads)
    if (!(logits[j] < kInfinity)) atomic_add(&shared.n_unsound, 1);
  sync_block();
  const bool is_sound = shared.n_unsound == 0;
  for (int64_t i = (is_sound ? n_chosen : 0) + thread_index(); i < a.n_top; i += kSelectThreads) {
    top[i] = is_sound ? -kInfinity : kInfinity;
    top_tokens[i] = -1;
  }
  if (!is_sound) return;
  choose_largest(logits, n, n_chosen, shared.select, [&](int64_t at, int64_t j) {
    chosen[at] = logits[j];
    chosen_tokens[at] = a.tokens != nullptr ? a.tokens[row * a.n + j] : static_cast<int32_t>(begin + j);
  });
  sync_block();
  for (int64_t i = thread_index(); i < n_chosen; i += kSelectThreads) {
    int64_t place = 0;
    for (int64_t j = 0; j < n_chosen; ++j)
      place += chosen[j] > chosen[i] || (chosen[j] == chosen[i] && j < i) ? 1 : 0;
    top[place] = chosen[i];
    top_tokens[place] = chosen_tokens[i];
  }
}

struct DrawArguments {
  const float* logits;  // (n_rows, n_vocab)
  const int32_t* top_tokens;
  const float* top;  // (n_rows, n_top)
  const float* temperatures;
  const float* truncations;
  const int32_t* uniforms;
  double* lanes;  // (n_rows, n_blocks, kWeightLanes)
  int64_t n_rows, n_vocab, n_top, n_blocks;
  int32_t* tokens;
  int32_t* sums;

  __device__ float max_of(int64_t row) const { return top[row * n_top]; }
  __device__ bool is_drawn(int64_t row) const {
    return temperatures[row] > 0.0f && max_of(row) > -kInfinity && max_of(row) < kInfinity;
  }
  __device__ float weight(int64_t row, int64_t token) const {
    return weight_of((logits[row * n_vocab + token] - max_of(row)) / temperatures[row]);
  }
  __device__ Truncation truncation(int64_t row) const { return truncation_of(truncations + 3 * row); }
  __device__ double uniform(int64_t row) const { return double_of_halves(uniforms + 2 * row); }
  __device__ TopOfRow top_of(int64_t row, double sum) const {
    return {.tokens = top_tokens + row * n_top,
            .logits = top + row * n_top,
            .n = n_top,
            .n_vocab = n_vocab,
            .temperature = temperatures[row],
            .sum = sum};
  }
};

// A thread a lane of a block of weights.
__global__ void weight_lanes_kernel(DrawArguments a) {
  const int64_t at = block_x() * n_threads() + thread_index(), block = at / kWeightLanes;
  const int64_t row = block / a.n_blocks, begin = block % a.n_blocks * kWeightBlock;
  if (row >= a.n_rows || !a.is_drawn(row) || !a.truncation(row).needs_sum()) return;
  double sum = 0.0;
  for (int64_t i = begin + at % kWeightLanes; i < least(a.n_vocab, begin + kWeightBlock); i += kWeightLanes)
    sum += static_cast<double>(a.weight(row, i));
  a.lanes[at] = sum;
}

struct DrawShared {
  double sum;
  DrawEnd block;
  float weights[kWeightBlock];
};

// Of the weights of all; `sums` (n_blocks) gets those of blocks.
__device__ inline void add_up_blocks(const DrawArguments& a, DrawShared& shared, double* sums) {
  for (int64_t block = thread_index(); block < a.n_blocks; block += n_threads()) {
    const double* lanes = a.lanes + (block_x() * a.n_blocks + block) * kWeightLanes;
    double sum = 0.0;
    for (int64_t lane = 0; lane < kWeightLanes; ++lane) sum += lanes[lane];
    sums[block] = sum;
  }
  sync_block();
  if (thread_index() == 0) {
    double sum = 0.0;
    for (int64_t block = 0; block < a.n_blocks; ++block) sum += sums[block];
    shared.sum = sum;
  }
  sync_block();
}

__device__ inline void draw_of_all(const DrawArguments& a, DrawShared& shared, const double* sums) {
  const int64_t row = block_x();
  const double target = a.uniform(row) * shared.sum;
  if (thread_index() == 0) shared.block = draw_end(sums, a.n_blocks, 0.0, target);
  sync_block();
  const int64_t begin = shared.block.item * kWeightBlock, n = least(kWeightBlock, a.n_vocab - begin);
  for (int64_t i = thread_index(); i < n; i += n_threads()) shared.weights[i] = a.weight(row, begin + i);
  sync_block();
  if (thread_index() == 0) {
    const DrawEnd end = draw_end(shared.weights, n, shared.block.before, target);
    a.tokens[row] = static_cast<int32_t>(begin + end.item);
  }
}

// `candidates` (2, n_top): as the largest logits come, and in the order in which they are added up.
__device__ inline void draw_of_top(const DrawArguments& a, const DrawShared& shared, Candidate* candidates) {
  const int64_t row = block_x();
  const TopOfRow top = a.top_of(row, shared.sum);
  const Truncation truncation = a.truncation(row);
  const int64_t n = top.n_candidates(truncation);
  Candidate* ordered = candidates + a.n_top;
  for (int64_t i = thread_index(); i < n; i += n_threads()) candidates[i] = top.candidate(i);
  sync_block();
  for (int64_t i = thread_index(); i < n; i += n_threads()) {
    int64_t place = truncation.has_order() ? i : 0;
    for (int64_t j = 0; !truncation.has_order() && j < n; ++j)
      place += truncation.is_before(candidates[j], candidates[i]) ? 1 : 0;
    ordered[place] = candidates[i];
  }
  sync_block();
  if (thread_index() == 0) {
    const Kept kept = truncate(ordered, top, truncation);
    a.tokens[row] = token_drawn_of(ordered, kept, a.uniform(row));
  }
}

// A block a row.
__global__ void draw_kernel(DrawArguments a) {
  auto& shared = *reinterpret_cast<DrawShared*>(shared_memory());
  auto* sums = reinterpret_cast<double*>(&shared + 1);
  auto* candidates = reinterpret_cast<Candidate*>(sums + a.n_blocks);
  const int64_t row = block_x();
  if (!a.is_drawn(row)) {
    if (thread_index() == 0) a.tokens[row] = -1, write_halves(0.0, a.sums + 2 * row);
    return;
  }
  const Truncation truncation = a.truncation(row);
  if (thread_index() == 0) shared.sum = 0.0;
  sync_block();
  if (truncation.needs_sum()) add_up_blocks(a, shared, sums);
  if (thread_index() == 0) write_halves(shared.sum, a.sums + 2 * row);
  if (truncation.keeps_all()) {
    draw_of_all(a, shared, sums);
  } else {
    draw_of_top(a, shared, candidates);
  }
}

struct FeedArguments {
  const int32_t* top;    // (n_drawn, n_top)
  const int32_t* drawn;  // optional (n_drawn)
  int32_t* tokens;       // (n_rows)
  int64_t n_top, n_rows;
};

// A thread a row.
__global__ void feed_kernel(FeedArguments a) {
  const int64_t i = block_x() * n_threads() + thread_index();
  if (i >= a.n_rows || a.tokens[i] >= 0) return;
  const int64_t row = ~a.tokens[i];
  const int32_t likeliest = a.top[row * a.n_top], drawn = a.drawn != nullptr ? a.drawn[row] : -1;
  a.tokens[i] = most(0, drawn >= 0 ? drawn : likeliest);
}

}  // namespace

void compute(Machine& machine, const TopLogits& op) {
  const int64_t n_rows = op.logits.dim(0), n_top = op.top.dim(1);
  const int64_t n_parts = n_blocks_for(op.logits.dim(1), kTopPart), n_left = n_rows * n_parts * n_top;
  const size_t shared_bytes =
      sizeof(TopShared) + static_cast<size_t>(n_top) * (sizeof(float) + sizeof(int32_t));
  TopArguments arguments{.logits = op.logits.f32(),
                         .tokens = nullptr,
                         .n = op.logits.dim(1),
                         .n_parts = n_parts,
                         .n_part = kTopPart,
                         .top_tokens = op.tokens.i32(),
                         .top = op.top.f32(),
                         .n_top = n_top};
  if (n_parts > 1) {
    TopArguments of_parts = arguments;
    of_parts.top = reinterpret_cast<float*>(
        machine.scratch.take(static_cast<size_t>(n_left) * (sizeof(float) + sizeof(int32_t))));
    of_parts.top_tokens = reinterpret_cast<int32_t*>(of_parts.top + n_left);
    launch(machine, top_kernel, {n_rows * n_parts}, kSelectThreads, shared_bytes, of_parts);
    arguments.logits = of_parts.top;
    arguments.tokens = of_parts.top_tokens;
    arguments.n = arguments.n_part = n_parts * n_top;
    arguments.n_parts = 1;
  }
  launch(machine, top_kernel, {n_rows}, kSelectThreads, shared_bytes, arguments);
}

void compute(Machine& machine, const DrawTokens& op) {
  const int64_t n_rows = op.logits.dim(0), n_vocab = op.logits.dim(1), n_blocks = n_weight_blocks(n_vocab);
  const int64_t n_lanes = n_rows * n_blocks * kWeightLanes;
  const DrawArguments arguments{
      .logits = op.logits.f32(),
      .top_tokens = op.top_tokens.i32(),
      .top = op.top.f32(),
      .temperatures = op.temperatures.f32(),
      .truncations = op.truncations.f32(),
      .uniforms = op.uniforms.i32(),
      .lanes = reinterpret_cast<double*>(machine.scratch.take(static_cast<size_t>(n_lanes) * sizeof(double))),
      .n_rows = n_rows,
      .n_vocab = n_vocab,
      .n_top = op.top.dim(1),
      .n_blocks = n_blocks,
      .tokens = op.tokens.i32(),
      .sums = op.sums.i32()};
  constexpr int kThreads = 256;
  launch(machine, weight_lanes_kernel, {n_blocks_for(n_lanes, kThreads)}, kThreads, 0, arguments);
  const size_t shared_bytes = sizeof(DrawShared) + static_cast<size_t>(n_blocks) * sizeof(double) +
                              2 * static_cast<size_t>(op.top.dim(1)) * sizeof(Candidate);
  launch(machine, draw_kernel, {n_rows}, kThreads, shared_bytes, arguments);
}

void compute(Machine& machine, const FeedTokens& op) {
  constexpr int kThreads = 128;
  const int64_t n_rows = op.tokens.dim(0);
  launch(machine, feed_kernel, {n_blocks_for(n_rows, kThreads)}, kThreads, 0,
         FeedArguments{.top = op.top.i32(),
                       .drawn = ints_of(op.drawn),
                       .tokens = op.tokens.i32(),
                       .n_top = op.top.dim(1),
                       .n_rows = n_rows});
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
