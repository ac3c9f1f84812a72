// Attention, over pages and over the rows of a batch. In float32 a block of threads takes some query heads of
// a row that read the same keys; its thread t is the t-th position of each kAttentionBlock positions. Where
// the pages are of 16 bits or less, tensor cores multiply (attention_tiles.inl). Blocks of positions are
// joined in their order, by the block of threads that has them all, or, where rows are too few to fill the
// device, by a second kernel: the same operations, so the same bits.
#include "backend/cuda/text/attention_seen.inl"
#include "backend/cuda/text/compute.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kAttentionThreads = kAttentionBlock;
constexpr int kMaxBlockHeads =
    kAttentionThreads / kWarp;  // of a block of threads: a warp has the scores of a head

__host__ __device__ inline int64_t padded(int64_t n) { return (n + 7) / 8 * 8; }

// What a block of threads shares.
struct AttentionShared {
  const std::byte** values;  // (kAttentionThreads) nullptr where the row does not see the position
  float* q;                  // (n_block_heads, head_dim padded)
  float* scores;             // (n_block_heads, kAttentionThreads), then weights
  float* parts;              // (2, kAttentionThreads, 8), taken in turns
  float* total;              // (n_block_heads, v_head_dim)
  float* block_max;          // (n_block_heads) each
  float* block_sum;
  float* total_max;
  float* total_sum;

  static size_t n_bytes(const AttentionArguments& a) {
    const int64_t per_head = padded(a.head_dim) + kAttentionThreads + a.v_head_dim + 4;
    return kAttentionThreads * sizeof(std::byte*) +
           static_cast<size_t>(a.n_block_heads * per_head + 2 * kAttentionThreads * 8) * sizeof(float);
  }
  __device__ explicit AttentionShared(const AttentionArguments& a)
      : values(reinterpret_cast<const std::byte**>(shared_memory())),
        q(reinterpret_cast<float*>(values + kAttentionThreads)),
        scores(q + a.n_block_heads * padded(a.head_dim)),
        parts(scores + a.n_block_heads * kAttentionThreads),
        total(parts + 2 * kAttentionThreads * 8),
        block_max(total + a.n_block_heads * a.v_head_dim),
        block_sum(block_max + a.n_block_heads),
        total_max(block_sum + a.n_block_heads),
        total_sum(total_max + a.n_block_heads) {}
};

// The query heads of a block of threads.
struct Heads {
  int64_t kv_head, first;
  int n;
};
__device__ inline Heads heads_of_block(const AttentionArguments& a) {
  const int64_t n_shared = a.n_heads / a.n_kv_heads, kv_head = block_y() / a.n_head_groups;
  const int64_t first = block_y() % a.n_head_groups * a.n_block_heads;
  return {kv_head, kv_head * n_shared + first,
          static_cast<int>(least<int64_t>(a.n_block_heads, n_shared - first))};
}

__device__ inline void score(const AttentionArguments& a, const AttentionShared& shared, const Seen& seen,
                             const Heads& heads, int64_t block) {
  const int t = thread_index();
  const int64_t item = block * kAttentionThreads + t;
  const bool is_seen = item >= seen.begin && item < seen.end;
  float sums[kMaxBlockHeads] = {};
  shared.values[t] = nullptr;
  if (is_seen) {
    const KeyAndValue at = find(a, seen, item, heads.kv_head);
    shared.values[t] = at.value;
    for (int64_t first = 0; first < a.head_dim; first += 8) {
      Eight key;
      decode_stored(a.k_pages.dtype, at.key, first, a.head_dim, key);
      for (int h = 0; h < kMaxBlockHeads; ++h) {
        if (h >= heads.n) continue;
        const float* q = shared.q + h * padded(a.head_dim) + first;
        for (int i = 0; i < 8; ++i) sums[h] = fmaf(q[i], key[i], sums[h]);
      }
    }
  }
  for (int h = 0; h < kMaxBlockHeads; ++h) {
    if (h < heads.n)
      shared.scores[h * kAttentionThreads + t] =
          is_seen ? soft_capped(a.scale * sums[h], a.softcap) : -kInfinity;
  }
  sync_block();
}

// Scores become weights; warp h has head h.
__device__ inline void weigh(const AttentionShared& shared, const Heads& heads) {
  const int h = warp_index();
  if (h < heads.n) {
    float* scores = shared.scores + h * kAttentionThreads;
    float largest = -kInfinity, sum = 0.0f;
    for (int i = lane_index(); i < kAttentionThreads; i += kWarp) largest = fmaxf(largest, scores[i]);
    largest = warp_max(largest);
    for (int i = lane_index(); i < kAttentionThreads; i += kWarp)
      sum += scores[i] = expf(scores[i] - largest);
    sum = warp_sum(sum);
    if (lane_index() == 0) {
      shared.block_max[h] = largest;
      shared.block_sum[h] = sum;
    }
  }
  sync_block();
}

// Calls take(h, i, value) with each weighted sum of values: of dimension i, for head h. Each thread adds
// eight dimensions of every so many positions; the sums of a dimension are added in their order.
template <class Take>
__device__ inline void add_values(const AttentionArguments& a, const AttentionShared& shared,
                                  const Heads& heads, const Take& take) {
  const int t = thread_index(), n_chunks = static_cast<int>(padded(a.v_head_dim) / 8);
  const int n_subsets = kAttentionThreads / n_chunks, chunk = t % n_chunks, subset = t / n_chunks;
  float sums[kMaxBlockHeads][8] = {};
  for (int j = subset; subset < n_subsets && j < kAttentionThreads; j += n_subsets) {
    if (shared.values[j] == nullptr) continue;
    Eight value;
    decode_stored(a.k_pages.dtype, shared.values[j], 8 * chunk, a.v_head_dim, value);
    for (int h = 0; h < kMaxBlockHeads; ++h) {
      if (h >= heads.n) continue;
      const float weight = shared.scores[h * kAttentionThreads + j];
      for (int i = 0; i < 8; ++i) sums[h][i] = fmaf(weight, value[i], sums[h][i]);
    }
  }
  for (int h = 0; h < kMaxBlockHeads; ++h) {
    if (h >= heads.n) continue;
    float* parts = shared.parts + h % 2 * kAttentionThreads * 8;
    for (int i = 0; i < 8; ++i) parts[t * 8 + i] = sums[h][i];
    sync_block();
    for (int64_t i = t; i < a.v_head_dim; i += kAttentionThreads) {
      float sum = 0.0f;
      for (int s = 0; s < n_subsets; ++s) sum += parts[(s * n_chunks + i / 8) * 8 + i % 8];
      take(h, i, sum);
    }
  }
  sync_block();
}

__global__ void attention_kernel(AttentionArguments a) {
  const Seen seen = seen_by(a, block_x());
  const Heads heads = heads_of_block(a);
  const AttentionShared shared(a);
  const int t = thread_index();
  int64_t block = seen.begin / kAttentionThreads,
          end_block = (seen.end + kAttentionThreads - 1) / kAttentionThreads;
  if (a.partials != nullptr) {  // one block of them
    block += block_z();
    if (block >= end_block) return;
    end_block = block + 1;
  }
  for (int64_t i = t; i < heads.n * padded(a.head_dim); i += kAttentionThreads) {
    const int64_t h = i / padded(a.head_dim), at = i % padded(a.head_dim);
    shared.q[i] = at < a.head_dim ? a.q[(seen.row * a.n_heads + heads.first + h) * a.head_dim + at] : 0.0f;
  }
  for (int64_t i = t; i < heads.n * a.v_head_dim; i += kAttentionThreads) shared.total[i] = 0.0f;
  if (t < heads.n) {
    shared.total_max[t] = -kInfinity;
    shared.total_sum[t] = 0.0f;
  }
  sync_block();
  for (; block < end_block; ++block) {
    score(a, shared, seen, heads, block);
    weigh(shared, heads);
    if (a.partials != nullptr) {
      add_values(a, shared, heads, [&](int h, int64_t i, float sum) {
        partial_of(a, seen.row, heads.first + h, block_z())[2 + i] = sum;
      });
      if (t >= heads.n) return;
      float* partial = partial_of(a, seen.row, heads.first + t, block_z());
      partial[0] = shared.block_max[t];
      partial[1] = shared.block_sum[t];
      return;
    }
    add_values(a, shared, heads, [&](int h, int64_t i, float sum) {
      const Join join(shared.total_max[h], shared.total_sum[h], shared.block_max[h], shared.block_sum[h]);
      float& total = shared.total[h * a.v_head_dim + i];
      total = total * join.of_first + sum * join.of_second;
    });
    if (t < heads.n) {
      const Join join(shared.total_max[t], shared.total_sum[t], shared.block_max[t], shared.block_sum[t]);
      shared.total_max[t] = join.max;
      shared.total_sum[t] = join.sum;
    }
    sync_block();
  }
  for (int64_t i = t; i < heads.n * a.v_head_dim; i += kAttentionThreads) {
    const int64_t h = i / a.v_head_dim;
    float factor;
    const float sum = divisor(a, heads.first + h, shared.total_max[h], shared.total_sum[h], factor);
    a.out[(seen.row * a.n_heads + heads.first) * a.v_head_dim + i] = divided(shared.total[i], factor, sum);
  }
}

// A block a row and query head.
__global__ void join_kernel(AttentionArguments a) {
  const Seen seen = seen_by(a, block_x());
  const int64_t head = block_y();
  const int64_t n_blocks =
      (seen.end + kAttentionThreads - 1) / kAttentionThreads - seen.begin / kAttentionThreads;
  for (int64_t i = thread_index(); i < a.v_head_dim; i += n_threads()) {
    float max = -kInfinity, sum = 0.0f, total = 0.0f;
    for (int64_t block = 0; block < n_blocks; ++block) {
      const float* partial = partial_of(a, seen.row, head, block);
      const Join join(max, sum, partial[0], partial[1]);
      total = total * join.of_first + partial[2 + i] * join.of_second;
      max = join.max;
      sum = join.sum;
    }
    float factor;
    const float by = divisor(a, head, max, sum, factor);
    a.out[(seen.row * a.n_heads + head) * a.v_head_dim + i] = divided(total, factor, by);
  }
}

// How many query heads a block of threads takes in float32.
void choose_block_heads(AttentionArguments& a) {
  check(padded(a.v_head_dim) / 8 <= kAttentionThreads, "a thread for every eight dimensions of a value");
  const int64_t n_shared = a.n_heads / a.n_kv_heads;
  a.n_block_heads = static_cast<int>(least<int64_t>(kMaxBlockHeads, n_shared));
  while (a.n_block_heads > 1 && AttentionShared::n_bytes(a) > kMaxSharedBytes) a.n_block_heads /= 2;
  a.n_head_groups = n_blocks_for(n_shared, a.n_block_heads);
}

// `n_items`: that any row sees at most.
void attend(Machine& machine, AttentionArguments& a, int64_t n_items) {
  if (a.n_rows == 0) return;
  const int64_t n_tiles = n_attention_tiles(a);
  if (n_tiles == 0) choose_block_heads(a);
  const int64_t n_busy = n_tiles > 0 ? n_tiles : a.n_rows * a.n_kv_heads * a.n_head_groups;
  // What the rows of a tile see begins and ends in the middle of blocks.
  a.n_blocks = n_blocks_for(n_items + kMaxTileRows, kAttentionBlock) + 1;
  const int64_t n_floats = a.n_rows * a.n_heads * a.n_blocks * (2 + a.v_head_dim);
  constexpr int64_t kMostPartials = int64_t{1} << 26;
  const bool fills_device = n_busy >= 2 * machine.device.n_processors();
  if (!fills_device && n_items > kAttentionBlock && n_floats <= kMostPartials)
    a.partials =
        reinterpret_cast<float*>(machine.scratch.take(static_cast<size_t>(n_floats) * sizeof(float)));
  if (n_tiles > 0) {
    attend_in_tiles(machine, a);
  } else {
    const Grid grid{a.n_rows, a.n_kv_heads * a.n_head_groups, a.partials != nullptr ? a.n_blocks : 1};
    launch(machine, attention_kernel, grid, kAttentionThreads, AttentionShared::n_bytes(a), a);
  }
  if (a.partials != nullptr) launch(machine, join_kernel, {a.n_rows, a.n_heads}, 128, 0, a);
}

}  // namespace

void compute(Machine& machine, const PagedAttention& op) {
  AttentionArguments arguments{.places = Places(op.batch),
                               .n_rows = op.batch.n_rows(),
                               .n_seqs = op.batch.n_seqs(),
                               .q = op.q.f32(),
                               .k_pages = Pages(op.k_pages),
                               .v_pages = Pages(op.v_pages),
                               .entry_pages = Pages(op.entry_pages),
                               .k_rows = nullptr,
                               .v_rows = nullptr,
                               .sinks = floats_of(op.sinks),
                               .selected = ints_of(op.selected),
                               .n_selected = op.selected.dim(1),
                               .out = op.out.f32(),
                               .n_heads = op.q.dim(1),
                               .n_kv_heads = op.k_pages.dim(1),
                               .head_dim = op.q.dim(2),
                               .v_head_dim = op.out.dim(2),
                               .scale = op.scale,
                               .softcap = op.softcap,
                               .window = op.window,
                               .chunk = op.chunk,
                               .reach = 0,
                               .entry_stride = op.entry_stride,
                               .n_block_heads = 0,
                               .n_head_groups = 0,
                               .partials = nullptr,
                               .n_blocks = 0};
  const int64_t n_positions = op.batch.page_tables.dim(1) * op.k_pages.dim(2);
  int64_t n_items = op.window > 0 ? least<int64_t>(op.window, n_positions) : n_positions;
  if (op.entry_pages) {
    n_items += op.selected ? op.selected.dim(1) : n_positions / op.entry_stride;
  } else if (op.selected) {
    n_items = op.selected.dim(1);
  }
  attend(machine, arguments, n_items);
}

void compute(Machine& machine, const BidirectionalAttention& op) {
  AttentionArguments arguments{.places = Places(op.batch),
                               .n_rows = op.batch.n_rows(),
                               .n_seqs = op.batch.n_seqs(),
                               .q = op.q.f32(),
                               .k_pages = {},
                               .v_pages = {},
                               .entry_pages = {},
                               .k_rows = op.k.f32(),
                               .v_rows = op.v.f32(),
                               .sinks = nullptr,
                               .selected = nullptr,
                               .n_selected = 0,
                               .out = op.out.f32(),
                               .n_heads = op.q.dim(1),
                               .n_kv_heads = op.k.dim(1),
                               .head_dim = op.q.dim(2),
                               .v_head_dim = op.v.dim(2),
                               .scale = op.scale,
                               .softcap = op.softcap,
                               .window = 0,
                               .chunk = 0,
                               .reach = op.reach,
                               .entry_stride = 1,
                               .n_block_heads = 0,
                               .n_head_groups = 0,
                               .partials = nullptr,
                               .n_blocks = 0};
  attend(machine, arguments, op.batch.n_rows());
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
