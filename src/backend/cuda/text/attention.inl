// Attention, over pages and over the rows of a batch. A block of threads takes some query heads of a row that
// read the same keys; its thread t is the t-th position of each kAttentionBlock positions. Blocks of
// positions are joined in their order, by the block of threads that has them all, or, where rows are too few
// to fill the device, by a second kernel: the same operations, so the same bits.
#include "backend/cuda/text/compute.inl"
#include "backend/cuda/text/pages.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kAttentionThreads = kAttentionBlock;
constexpr int kMaxBlockHeads =
    kAttentionThreads / kWarp;  // of a block of threads: a warp has the scores of a head

struct AttentionArguments {
  Places places;
  const float* q;  // (n_rows, n_heads, head_dim)
  Pages k_pages, v_pages, entry_pages;
  const float* k_rows;  // (n_rows, n_kv_heads, head_dim), where there are no pages
  const float* v_rows;
  const float* sinks;
  const int32_t* selected;  // optional (n_rows, n_selected)
  int64_t n_selected;
  float* out;  // (n_rows, n_heads, v_head_dim)
  int64_t n_heads, n_kv_heads, head_dim, v_head_dim;
  float scale, softcap;
  int64_t window, chunk, reach, entry_stride;
  int n_block_heads;  // query heads of a block of threads
  int64_t n_head_groups;
  float* partials;   // (n_rows, n_heads, n_blocks, 2 + v_head_dim), where blocks of positions are divided
  int64_t n_blocks;  // of positions, at most
};

// What a row sees: items [begin, end), which are positions, places in its list, or entries and then
// positions.
struct Seen {
  int64_t row, seq, begin, end;
  int64_t n_entries;       // the first items are
  int64_t first_position;  // of the item after them
};

// Of the list of a row, which ends in -1.
__device__ inline int64_t n_listed(const AttentionArguments& a, int64_t row) {
  const int32_t* list = a.selected + row * a.n_selected;
  int64_t low = 0, high = a.n_selected;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (list[middle] >= 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ inline Seen seen_by(const AttentionArguments& a, int64_t row) {
  const int64_t seq = a.places.seq_of_row[row], position = a.places.positions[row];
  if (a.k_rows != nullptr) {
    const int64_t first = a.places.row_begin[seq], n = a.places.row_begin[seq + 1] - first, at = row - first;
    if (a.reach == 0) return {row, seq, 0, n, 0, 0};
    return {row, seq, most<int64_t>(0, at - a.reach), least<int64_t>(n, at + a.reach + 1), 0, 0};
  }
  const int64_t by_window = a.window > 0 ? most<int64_t>(0, position - a.window + 1) : 0;
  const int64_t first = most(by_window, a.chunk > 0 ? position / a.chunk * a.chunk : 0);
  if (a.entry_pages) {
    const int64_t n = a.selected != nullptr ? n_listed(a, row) : (position + 1) / a.entry_stride;
    return {row, seq, 0, n + position + 1 - first, n, first};
  }
  if (a.selected != nullptr) return {row, seq, 0, n_listed(a, row), 0, 0};
  return {row, seq, first, position + 1, 0, 0};
}

struct KeyAndValue {
  const std::byte* key;
  const std::byte* value;
};

__device__ inline KeyAndValue find(const AttentionArguments& a, const Seen& seen, int64_t item,
                                   int64_t head) {
  if (a.k_rows != nullptr) {
    const int64_t at = (a.places.row_begin[seen.seq] + item) * a.n_kv_heads + head;
    return {reinterpret_cast<const std::byte*>(a.k_rows + at * a.head_dim),
            reinterpret_cast<const std::byte*>(a.v_rows + at * a.v_head_dim)};
  }
  if (item < seen.n_entries) {
    const int64_t entry = a.selected != nullptr ? a.selected[seen.row * a.n_selected + item] : item;
    const std::byte* key =
        entry_row(a.entry_pages, a.places, seen.seq, entry, a.entry_stride, a.k_pages.page_size);
    return {key, key};
  }
  int64_t position = item;
  if (a.entry_pages) {
    position = seen.first_position + item - seen.n_entries;
  } else if (a.selected != nullptr) {
    position = a.selected[seen.row * a.n_selected + item];
  }
  const std::byte* key = page_row(a.k_pages, a.places, seen.seq, position, head);
  return {key, a.v_pages ? page_row(a.v_pages, a.places, seen.seq, position, head) : key};
}

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

template <Dtype kType>
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
      Decoder<kType>::run(at.key, first, a.head_dim, key);
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
template <Dtype kType, class Take>
__device__ inline void add_values(const AttentionArguments& a, const AttentionShared& shared,
                                  const Heads& heads, const Take& take) {
  const int t = thread_index(), n_chunks = static_cast<int>(padded(a.v_head_dim) / 8);
  const int n_subsets = kAttentionThreads / n_chunks, chunk = t % n_chunks, subset = t / n_chunks;
  float sums[kMaxBlockHeads][8] = {};
  for (int j = subset; subset < n_subsets && j < kAttentionThreads; j += n_subsets) {
    if (shared.values[j] == nullptr) continue;
    Eight value;
    Decoder<kType>::run(shared.values[j], 8 * chunk, a.v_head_dim, value);
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

// Two runs of positions become one.
struct Join {
  float max, sum;
  float of_first, of_second;  // what their values are multiplied by

  __device__ Join(float first_max, float first_sum, float second_max, float second_sum)
      : max(fmaxf(first_max, second_max)),
        of_first(expf(first_max - max)),
        of_second(expf(second_max - max)) {
    sum = first_sum * of_first + second_sum * of_second;
  }
};

// The sink of a head comes last; then the values are divided by the sum.
__device__ inline float divisor(const AttentionArguments& a, int64_t head, float max, float sum,
                                float& factor) {
  factor = 1.0f;
  if (a.sinks == nullptr) return sum;
  const Join with_sink(max, sum, a.sinks[head], 1.0f);
  factor = with_sink.of_first;
  return with_sink.sum;
}

__device__ inline float* partial_of(const AttentionArguments& a, int64_t row, int64_t head, int64_t block) {
  return a.partials + ((row * a.n_heads + head) * a.n_blocks + block) * (2 + a.v_head_dim);
}

template <Dtype kType>
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
    score<kType>(a, shared, seen, heads, block);
    weigh(shared, heads);
    if (a.partials != nullptr) {
      add_values<kType>(a, shared, heads, [&](int h, int64_t i, float sum) {
        partial_of(a, seen.row, heads.first + h, block_z())[2 + i] = sum;
      });
      if (t >= heads.n) return;
      float* partial = partial_of(a, seen.row, heads.first + t, block_z());
      partial[0] = shared.block_max[t];
      partial[1] = shared.block_sum[t];
      return;
    }
    add_values<kType>(a, shared, heads, [&](int h, int64_t i, float sum) {
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
    a.out[(seen.row * a.n_heads + heads.first) * a.v_head_dim + i] = shared.total[i] * factor / sum;
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
    a.out[(seen.row * a.n_heads + head) * a.v_head_dim + i] = total * factor / by;
  }
}

template <Dtype kType>
void launch_attention(Machine& machine, const AttentionArguments& a, int64_t n_rows) {
  const bool is_divided = a.partials != nullptr;
  const Grid grid{n_rows, a.n_kv_heads * a.n_head_groups, is_divided ? a.n_blocks : 1};
  launch(machine, attention_kernel<kType>, grid, kAttentionThreads, AttentionShared::n_bytes(a), a);
  if (is_divided) launch(machine, join_kernel, {n_rows, a.n_heads}, 128, 0, a);
}

// `n_items`: that any row sees at most.
void attend(Machine& machine, AttentionArguments& a, Dtype dtype, int64_t n_rows, int64_t n_items) {
  if (n_rows == 0) return;
  check(padded(a.v_head_dim) / 8 <= kAttentionThreads, "a thread for every eight dimensions of a value");
  const int64_t n_shared = a.n_heads / a.n_kv_heads;
  a.n_block_heads = static_cast<int>(least<int64_t>(kMaxBlockHeads, n_shared));
  while (a.n_block_heads > 1 && AttentionShared::n_bytes(a) > kMaxSharedBytes) a.n_block_heads /= 2;
  a.n_head_groups = n_blocks_for(n_shared, a.n_block_heads);
  a.n_blocks = n_blocks_for(n_items, kAttentionThreads) + 1;  // a window may begin in the middle of a block
  const int64_t n_floats = n_rows * a.n_heads * a.n_blocks * (2 + a.v_head_dim);
  constexpr int64_t kMostPartials = int64_t{1} << 26;
  const bool fills_device = n_rows * a.n_kv_heads * a.n_head_groups >= 2 * machine.device.n_processors();
  if (!fills_device && n_items > kAttentionThreads && n_floats <= kMostPartials)
    a.partials =
        reinterpret_cast<float*>(machine.scratch.take(static_cast<size_t>(n_floats) * sizeof(float)));
  switch (dtype) {
    case Dtype::f32:
      return launch_attention<Dtype::f32>(machine, a, n_rows);
    case Dtype::f16:
      return launch_attention<Dtype::f16>(machine, a, n_rows);
    case Dtype::bf16:
      return launch_attention<Dtype::bf16>(machine, a, n_rows);
    case Dtype::q8_0:
      return launch_attention<Dtype::q8_0>(machine, a, n_rows);
    case Dtype::q4_0:
      return launch_attention<Dtype::q4_0>(machine, a, n_rows);
    default:
      check(false, "a type that pages may have");
  }
}

}  // namespace

void compute(Machine& machine, const PagedAttention& op) {
  AttentionArguments arguments{.places = Places(op.batch),
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
  attend(machine, arguments, op.k_pages.dtype, op.batch.n_rows(), n_items);
}

void compute(Machine& machine, const BidirectionalAttention& op) {
  AttentionArguments arguments{.places = Places(op.batch),
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
  attend(machine, arguments, Dtype::f32, op.batch.n_rows(), op.batch.n_rows());
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
