// causal_conv and gated_delta_rule: a sequence's rows one after another, from its slot of the state.
#include "backend/cuda/text/compute.inl"
#include "backend/cuda/text/pages.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kStateThreads = 128;

struct Slots {
  const int32_t* from;  // (n_seqs)
  const int32_t* to;
  int64_t n_slots;

  Slots(const Batch& batch, int64_t n) : from(batch.state_from.i32()), to(batch.state_to.i32()), n_slots(n) {}
};

// The states of a sequence, `n` elements a slot: `before` is nullptr at its beginning.
struct State {
  const float* before;
  float* after;

  __device__ State(const Slots& slots, int64_t seq, float* state, int64_t n) {
    const int64_t from = slots.from[seq], to = slots.to[seq];
    require(from >= -1 && from < slots.n_slots && to >= 0 && to < slots.n_slots);
    before = from < 0 ? nullptr : state + from * n;
    after = state + to * n;
  }
};

struct ConvArguments {
  const int32_t* row_begin;
  Slots slots;
  const float* x;       // (n_rows, n_channels)
  const float* weight;  // (n_channels, n_taps)
  float* state;         // (n_slots, n_taps - 1, n_channels)
  float* out;
  int64_t n_channels, n_taps;
};

// A thread a channel.
__global__ void conv_kernel(ConvArguments a) {
  const int64_t seq = block_y(), c = block_x() * n_threads() + thread_index();
  const int64_t begin = a.row_begin[seq], n_rows = a.row_begin[seq + 1] - begin, n_kept = a.n_taps - 1;
  if (n_rows == 0 || c >= a.n_channels) return;
  const State state(a.slots, seq, a.state, n_kept * a.n_channels);
  // What is kept from before, then the rows of the batch.
  const auto input = [&](int64_t i) {
    if (i >= n_kept) return a.x[(begin + i - n_kept) * a.n_channels + c];
    return state.before != nullptr ? state.before[i * a.n_channels + c] : 0.0f;
  };
  for (int64_t r = 0; r < n_rows; ++r) {
    float sum = 0.0f;
    for (int64_t j = 0; j < a.n_taps; ++j) sum = fmaf(a.weight[c * a.n_taps + j], input(r + j), sum);
    a.out[(begin + r) * a.n_channels + c] = activate(Activation::silu, sum);
  }
  for (int64_t i = 0; i < n_kept; ++i) state.after[i * a.n_channels + c] = input(n_rows + i);
}

struct RuleArguments {
  const int32_t* row_begin;
  Slots slots;
  const float* q;
  const float* k;
  const float* v;
  const float* beta;
  const float* decay;
  const float* decay_bias;
  const float* rate;
  float* state;  // (n_slots, n_v_heads, k_head_dim, v_head_dim)
  float* out;
  int64_t n_k_heads, n_v_heads, k_head_dim, v_head_dim, n_decays;
  float floor;
  KeyHeads key_heads;
};

// Of one row, for all threads of a block: unit vectors and decays (k_head_dim each).
struct RuleShared {
  float* q;
  float* k;
  float* decay;
  float* partial;  // of each warp

  __device__ explicit RuleShared(const RuleArguments& a)
      : q(reinterpret_cast<float*>(shared_memory())),
        k(q + a.k_head_dim),
        decay(k + a.k_head_dim),
        partial(decay + a.k_head_dim) {}
};

__device__ inline void read_unit(const float* from, int64_t n, float scale, float* to, float* partial) {
  float squares = 0.0f;
  for (int64_t i = thread_index(); i < n; i += n_threads()) squares = fmaf(from[i], from[i], squares);
  const float by = scale / sqrtf(block_sum(squares, partial) + 1e-6f);
  for (int64_t i = thread_index(); i < n; i += n_threads()) to[i] = from[i] * by;
}

__device__ inline float decay_of(const RuleArguments& a, int64_t row, int64_t head, int64_t i) {
  const int64_t at = head * a.n_decays + (a.n_decays == 1 ? 0 : i);
  const float x = a.decay[row * a.n_v_heads * a.n_decays + at] + a.decay_bias[at];
  const float rate = a.rate[head];
  if (a.floor < 0.0f) return expf(a.floor * activate(Activation::sigmoid, -rate * x));
  return expf(rate * (most(x, 0.0f) + log1pf(expf(-fabsf(x)))));
}

// A block takes kStateThreads value dimensions of a head of a sequence; a thread has a column of the state.
__global__ void rule_kernel(RuleArguments a) {
  const int64_t head = block_x(), seq = block_y(), j = block_z() * kStateThreads + thread_index();
  const int64_t begin = a.row_begin[seq], end = a.row_begin[seq + 1];
  if (begin == end) return;
  const RuleShared shared(a);
  const int64_t n_sharing = a.n_v_heads / a.n_k_heads;
  const int64_t key = a.key_heads == KeyHeads::tiled ? head % a.n_k_heads : head / n_sharing;
  const State all(a.slots, seq, a.state, a.n_v_heads * a.k_head_dim * a.v_head_dim);
  const int64_t first = head * a.k_head_dim * a.v_head_dim + j;
  const float q_scale = 1.0f / sqrtf(static_cast<float>(a.k_head_dim));
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = (row * a.n_k_heads + key) * a.k_head_dim;
    read_unit(a.q + at, a.k_head_dim, q_scale, shared.q, shared.partial);
    read_unit(a.k + at, a.k_head_dim, 1.0f, shared.k, shared.partial);
    for (int64_t i = thread_index(); i < a.k_head_dim; i += n_threads())
      shared.decay[i] = decay_of(a, row, head, i);
    sync_block();
    if (j < a.v_head_dim) {
      const float* before = row == begin ? all.before : all.after;
      const auto decayed = [&](int64_t i) {
        return before == nullptr ? 0.0f : before[first + i * a.v_head_dim] * shared.decay[i];
      };
      const int64_t out = (row * a.n_v_heads + head) * a.v_head_dim + j;
      float found = 0.0f, sum = 0.0f;
      for (int64_t i = 0; i < a.k_head_dim; ++i) found = fmaf(decayed(i), shared.k[i], found);
      const float delta =
          activate(Activation::sigmoid, a.beta[row * a.n_v_heads + head]) * (a.v[out] - found);
      for (int64_t i = 0; i < a.k_head_dim; ++i) {
        const float updated = fmaf(shared.k[i], delta, decayed(i));
        all.after[first + i * a.v_head_dim] = updated;
        sum = fmaf(updated, shared.q[i], sum);
      }
      a.out[out] = sum;
    }
  }
}

}  // namespace

void compute(Machine& machine, const CausalConv& op) {
  const int64_t n_channels = op.x.dim(1);
  launch(machine, conv_kernel, {n_blocks_for(n_channels, kStateThreads), op.batch.n_seqs()}, kStateThreads, 0,
         ConvArguments{.row_begin = op.batch.row_begin.i32(),
                       .slots = Slots(op.batch, op.state.dim(0)),
                       .x = op.x.f32(),
                       .weight = op.weight.f32(),
                       .state = op.state.f32(),
                       .out = op.out.f32(),
                       .n_channels = n_channels,
                       .n_taps = op.weight.dim(1)});
}

void compute(Machine& machine, const GatedDeltaRule& op) {
  const int64_t n_v_heads = op.v.dim(1), k_head_dim = op.k.dim(2), v_head_dim = op.v.dim(2);
  const auto shared_floats = static_cast<size_t>(3 * k_head_dim + kStateThreads / kWarp);
  launch(machine, rule_kernel, {n_v_heads, op.batch.n_seqs(), n_blocks_for(v_head_dim, kStateThreads)},
         kStateThreads, shared_floats * sizeof(float),
         RuleArguments{.row_begin = op.batch.row_begin.i32(),
                       .slots = Slots(op.batch, op.state.dim(0)),
                       .q = op.q.f32(),
                       .k = op.k.f32(),
                       .v = op.v.f32(),
                       .beta = op.beta.f32(),
                       .decay = op.decay.f32(),
                       .decay_bias = op.decay_bias.f32(),
                       .rate = op.rate.f32(),
                       .state = op.state.f32(),
                       .out = op.out.f32(),
                       .n_k_heads = op.k.dim(1),
                       .n_v_heads = n_v_heads,
                       .k_head_dim = k_head_dim,
                       .v_head_dim = v_head_dim,
                       .n_decays = op.decay.dim(2),
                       .floor = op.floor,
                       .key_heads = op.key_heads});
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
