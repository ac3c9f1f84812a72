// Attention on tensor cores, for pages whose type is not float32. Keys and values in bfloat16 are multiplied
// in bfloat16, all others in float16, which keeps three bits more and what float16 and blocks can hold; sums
// are float32.
//
// A query is a head of a row. The queries of a sequence that read the same keys, head after head and row
// after row, are cut into tiles of 16, the rows of an instruction. A block of threads has one tile, which its
// four warps share, or several. It walks over the positions in steps: of a step it has keys and values in
// shared memory, while those of the next are on their way.
//
// The order of additions is one for every query, whatever tile it is in: a score adds the products of
// dimensions 16 at a time; blocks of kAttentionBlock positions have a maximum, a sum and values of their own,
// to which the steps add in order, and each instruction 16 positions. Steps and blocks begin at multiples of
// their length. What other queries of the tile see and this one does not has the weight 0, which changes no
// bit of a sum.
#include "backend/cuda/text/attention_seen.inl"
#include "backend/cuda/text/compute.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kQueries = 16, kKeys = 8;  // of an instruction
constexpr int kTileWarps = 4, kTileThreads = kTileWarps * kWarp;

struct InBf16 {
  __device__ static uint32_t pair(float low, float high) { return bf16_pair(low, high); }
  __device__ static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_add(d, a, b);
  }
};
struct InF16 {
  __device__ static uint32_t pair(float low, float high) { return f16_pair(low, high); }
  __device__ static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_add_f16(d, a, b);
  }
};

// How the warps of a block divide its work: kSharing of them share a tile. Each has a share of the scores of
// a step, and of the values kDims dimensions.
template <int kSharing_, int kDims_, int kStep_>
struct Form {
  static constexpr int kSharing = kSharing_, kDims = kDims_, kStep = kStep_;
  static constexpr int kAllQueries = kTileWarps / kSharing * kQueries, kAllDims = kSharing * kDims;
  static constexpr int kKeyTiles = kStep / kKeys, kOwnKeyTiles = kKeyTiles / kSharing;
  static constexpr int kDimTiles = kDims / kKeys;
  static constexpr int kScoreCols = kSharing > 1 ? kStep + 8 : 0;  // in shared memory
  static constexpr int kRowLanes =
      kAllDims < 256 ? kAllDims / 8 : kWarp;  // that bring a row of keys or values
  static_assert(kAttentionBlock % kStep == 0 && kStep % 16 == 0 && kDims % 16 == 0);
};

struct TileArguments {
  AttentionArguments attention;
  int n_shared;   // query heads that read the same keys
  int key_bytes;  // of a key in shared memory, 16 more than whole pieces of 32 dimensions:
                  // rows that are read together then lie in different banks
  int value_bytes;
  int n_stages;          // steps in shared memory: 2, or 1 where there is no room
  bool has_own_lists;    // rows do not count what they see alike: no two share a block of threads
  bool are_copied;       // rows are multiplied as they lie
  int64_t n_row_blocks;  // blocks of threads for a row, where it has its own
};

// --- shared memory -----------------------------------------------------------------------------------------

constexpr int kPlaceBytes = 2 * sizeof(KeyAndValue);  // of a key of two steps

template <class Form>
int tile_bytes(const TileArguments& t) {
  const int queries = Form::kAllQueries * (t.key_bytes + Form::kScoreCols * static_cast<int>(sizeof(float)));
  return queries + Form::kStep * (t.n_stages * (t.key_bytes + t.value_bytes) + kPlaceBytes);
}

template <class Form>
struct TileShared {
  std::byte* queries;   // (kAllQueries) rows of key_bytes
  std::byte* stages;    // (n_stages): kStep rows of key_bytes, then of value_bytes
  float* scores;        // (kAllQueries, kScoreCols)
  KeyAndValue* places;  // (2, kStep)
  int stage_bytes;

  __device__ explicit TileShared(const TileArguments& t)
      : queries(shared_memory()),
        stages(queries + Form::kAllQueries * t.key_bytes),
        scores(reinterpret_cast<float*>(stages + t.n_stages * Form::kStep * (t.key_bytes + t.value_bytes))),
        places(reinterpret_cast<KeyAndValue*>(scores + Form::kAllQueries * Form::kScoreCols)),
        stage_bytes(Form::kStep * (t.key_bytes + t.value_bytes)) {}
};

// --- which queries -----------------------------------------------------------------------------------------

// Of a block of threads: [first, first + n) of those of a sequence, or of a row, counted from first_row on.
struct Queries {
  int64_t first_row;
  int first, n, n_shared;

  __device__ int64_t row(int i) const { return first_row + (first + i) / n_shared; }
  __device__ int head(int i) const { return (first + i) % n_shared; }
};

// Sequence s has the blocks of threads from row_begin[s] * n_shared / n_each + s on: enough for its rows, and
// no two have the same.
__device__ inline Queries queries_of_block(const TileArguments& t, int n_each) {
  const AttentionArguments& a = t.attention;
  const int64_t block = n_blocks() - 1 - block_x();  // the last rows of a prompt see the most: they are first
  if (t.has_own_lists) {
    const int first = static_cast<int>(block % t.n_row_blocks) * n_each;
    return {block / t.n_row_blocks, first, least(n_each, t.n_shared - first), t.n_shared};
  }
  const auto first_block = [&](int64_t seq) {
    return a.places.row_begin[seq] * int64_t{t.n_shared} / n_each + seq;
  };
  int64_t low = 0, high = a.n_seqs;
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (first_block(middle) <= block ? low : high) = middle;
  }
  const int64_t row = a.places.row_begin[low];
  const int64_t first = (block - first_block(low)) * n_each;
  const int64_t n = (a.places.row_begin[low + 1] - row) * t.n_shared - first;
  return {row, static_cast<int>(first), static_cast<int>(least<int64_t>(n_each, n)), t.n_shared};
}

// --- keys and values to shared memory ----------------------------------------------------------------------

template <class Number>
__device__ inline Bytes16 rounded(const Eight& values) {
  Bytes16 out;
  for (int i = 0; i < 4; ++i) out.words[i] = Number::pair(values[2 * i], values[2 * i + 1]);
  return out;
}

// n dimensions of a row, and zeros up to n_bytes; zeros where there is no row.
template <class Number, int kLanes>
__device__ inline void bring_row(const TileArguments& t, const std::byte* from, int64_t n, std::byte* to,
                                 int n_bytes) {
  const int first = thread_index() % kLanes * 16;
  if (t.are_copied) {
    for (int at = first; at < n_bytes; at += kLanes * 16) {
      if (from != nullptr && at / 2 < n) {
        copy16(to + at, from + at);
      } else {
        store16(to + at, Bytes16{});
      }
    }
    return;
  }
  MILLRACE_KEEP_LOOP
  for (int at = first; at < n_bytes; at += kLanes * 16) {
    Eight values = {};
    if (from != nullptr && at / 2 < n) decode_stored(t.attention.k_pages.dtype, from, at / 2, n, values);
    store16(to + at, rounded<Number>(values));
  }
}

template <class Number, class Form>
__device__ inline void bring_step(const TileArguments& t, const TileShared<Form>& shared, int step) {
  constexpr int kRows = kTileThreads / Form::kRowLanes;  // at once
  const AttentionArguments& a = t.attention;
  std::byte* keys = shared.stages + step % t.n_stages * shared.stage_bytes;
  std::byte* values = keys + Form::kStep * t.key_bytes;
  MILLRACE_KEEP_LOOP
  for (int i = thread_index() / Form::kRowLanes; i < Form::kStep; i += kRows) {
    const KeyAndValue from = shared.places[step % 2 * Form::kStep + i];
    bring_row<Number, Form::kRowLanes>(t, from.key, a.head_dim, keys + i * t.key_bytes, t.key_bytes - 16);
    if (t.value_bytes == 0) continue;
    bring_row<Number, Form::kRowLanes>(t, from.value, a.v_head_dim, values + i * t.value_bytes,
                                       t.value_bytes - 16);
  }
  commit_copies();
}

// Items [begin, end).
struct Range {
  int begin, end;
};

template <class Form>
__device__ inline void find_step(const TileArguments& t, const TileShared<Form>& shared, const Seen& seen,
                                 const Range& range, int step) {
  const int i = thread_index(), item = step * Form::kStep + i;
  if (i >= Form::kStep) return;
  KeyAndValue& place = shared.places[step % 2 * Form::kStep + i];
  place = {nullptr, nullptr};
  if (item >= range.begin && item < range.end) place = find(t.attention, seen, item, block_y());
}

template <class Number, class Form>
__device__ inline void bring_queries(const TileArguments& t, const TileShared<Form>& shared,
                                     const Queries& queries) {
  const AttentionArguments& a = t.attention;
  MILLRACE_KEEP_LOOP
  for (int i = thread_index() / Form::kRowLanes; i < Form::kAllQueries; i += kTileThreads / Form::kRowLanes) {
    const int64_t head = block_y() * t.n_shared + (i < queries.n ? queries.head(i) : 0);
    const auto* from =
        reinterpret_cast<const std::byte*>(a.q + (queries.row(i) * a.n_heads + head) * a.head_dim);
    for (int at = thread_index() % Form::kRowLanes * 16; at < t.key_bytes - 16; at += Form::kRowLanes * 16) {
      Eight values = {};
      if (i < queries.n && at / 2 < a.head_dim) Decoder<Dtype::f32>::run(from, at / 2, a.head_dim, values);
      for (float& value : values) value *= a.scale;
      store16(shared.queries + i * t.key_bytes + at, rounded<Number>(values));
    }
  }
}

// --- a warp and its tile -----------------------------------------------------------------------------------

// Lane 4 * g + t has the queries g and g + 8 of the tile: index 0 and 1 of what there are two of. Of four
// numbers of an instruction, 0 and 1 belong to the one, 2 and 3 to the other.
template <class Number, class Form>
class WarpTile {
 public:
  __device__ WarpTile(const TileArguments& t, const TileShared<Form>& shared, const Queries& queries)
      : t_(t), shared_(shared), queries_(queries) {
    MILLRACE_UNROLL
    for (int i = 0; i < 2; ++i) {
      seen_[i] = {0, 0};
      if (!is_there(i)) continue;
      const Seen seen = seen_by(t.attention, queries.row(query(i)));
      seen_[i] = {static_cast<int>(seen.begin), static_cast<int>(seen.end)};
    }
  }

  // `has_hidden`: whether a query of the block of threads does not see all of the step.
  __device__ void add_step(int step, bool has_hidden) {
    float scores[Form::kKeyTiles][4];
    const std::byte* keys = shared_.stages + step % t_.n_stages * shared_.stage_bytes;
    score(keys, scores);
    cap_and_hide(step * Form::kStep, has_hidden, scores);
    weigh(scores);
    add_values(t_.value_bytes == 0 ? keys : keys + Form::kStep * t_.key_bytes, scores);
  }

  // The block of positions becomes a part of the total.
  __device__ void join_block() {
    MILLRACE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const Join join(total_max_[i], total_sum_[i], max_[i], quad_sum(sum_[i]));
      total_max_[i] = join.max;
      total_sum_[i] = join.sum;
      MILLRACE_UNROLL
      for (int j = 0; j < 2 * Form::kDimTiles; ++j) {
        float& total = total_[j / 2][2 * i + j % 2];
        total = total * join.of_first + values_[j / 2][2 * i + j % 2] * join.of_second;
      }
    }
    begin_block();
  }

  // Or it is kept for the kernel that joins.
  __device__ void write_partial(int block) const {
    const AttentionArguments& a = t_.attention;
    MILLRACE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const float sum = quad_sum(sum_[i]);
      const int first = seen_[i].begin / kAttentionBlock;
      if (!is_there(i) || block < first || block * kAttentionBlock >= seen_[i].end) continue;
      float* partial = partial_of(a, queries_.row(query(i)), head(i), block - first);
      if (part() == 0 && lane_index() % 4 == 0) {  // all have the same
        partial[0] = max_[i];
        partial[1] = sum;
      }
      write(partial + 2, [&](int j) { return values_[j / 2][2 * i + j % 2]; });
    }
  }

  __device__ void write_total() const {
    const AttentionArguments& a = t_.attention;
    MILLRACE_UNROLL
    for (int i = 0; i < 2; ++i) {
      if (!is_there(i)) continue;
      float factor;
      const float sum = divisor(a, head(i), total_max_[i], total_sum_[i], factor);
      write(a.out + (queries_.row(query(i)) * a.n_heads + head(i)) * a.v_head_dim,
            [&](int j) { return divided(total_[j / 2][2 * i + j % 2], factor, sum); });
    }
  }

 private:
  __device__ static int part() { return warp_index() % Form::kSharing; }
  __device__ static int query(int i) {
    return warp_index() / Form::kSharing * kQueries + lane_index() / 4 + 8 * i;
  }
  __device__ bool is_there(int i) const { return query(i) < queries_.n; }
  __device__ int64_t head(int i) const { return block_y() * t_.n_shared + queries_.head(query(i)); }

  __device__ void begin_block() {
    MILLRACE_UNROLL
    for (int i = 0; i < 2; ++i) max_[i] = -kInfinity, sum_[i] = 0.0f;
    MILLRACE_UNROLL
    for (int i = 0; i < Form::kDimTiles * 4; ++i) values_[i / 4][i % 4] = 0.0f;
  }

  // Products of the tile's queries with the keys of a step: with a share of them, which the warps exchange.
  __device__ void score(const std::byte* keys, float (&scores)[Form::kKeyTiles][4]) {
    float own[Form::kOwnKeyTiles][4] = {};
    const int key_bytes = t_.key_bytes;
    const std::byte* queries = shared_.queries + warp_index() / Form::kSharing * kQueries * key_bytes;
    const std::byte* own_keys = keys + part() * Form::kOwnKeyTiles * kKeys * key_bytes;
    converge_warp();
    for (int at = 0; at < key_bytes - 16; at += 64) {  // 32 dimensions
      const Bytes16 low = load_matrices(queries + at, key_bytes, 8 * key_bytes, 16),
                    high = load_matrices(queries + at + 32, key_bytes, 8 * key_bytes, 16);
      MILLRACE_UNROLL
      for (int i = 0; i < Form::kOwnKeyTiles; ++i) {
        const Bytes16 key = load_matrices(own_keys + i * kKeys * key_bytes + at, key_bytes, 16, 32);
        Number::multiply(own[i], low.words, {key.words[0], key.words[1]});
        Number::multiply(own[i], high.words, {key.words[2], key.words[3]});
      }
    }
    if constexpr (Form::kSharing == 1) {
      MILLRACE_UNROLL
      for (int i = 0; i < Form::kKeyTiles * 4; ++i) scores[i / 4][i % 4] = own[i / 4][i % 4];
      return;
    }
    const int g = lane_index() / 4, t = lane_index() % 4;
    float* all = shared_.scores + (warp_index() / Form::kSharing * kQueries + g) * Form::kScoreCols + 2 * t;
    const auto place = [&](int tile, int i) { return i / 2 * 8 * Form::kScoreCols + tile * kKeys + i % 2; };
    MILLRACE_UNROLL
    for (int i = 0; i < Form::kOwnKeyTiles * 4; ++i)
      all[place(part() * Form::kOwnKeyTiles + i / 4, i % 4)] = own[i / 4][i % 4];
    sync_block();
    MILLRACE_UNROLL
    for (int i = 0; i < Form::kKeyTiles * 4; ++i) scores[i / 4][i % 4] = all[place(i / 4, i % 4)];
  }

  __device__ void cap_and_hide(int first_item, bool has_hidden, float (&scores)[Form::kKeyTiles][4]) const {
    const float softcap = t_.attention.softcap;
    if (softcap > 0.0f) {
      MILLRACE_UNROLL
      for (int i = 0; i < Form::kKeyTiles * 4; ++i)
        scores[i / 4][i % 4] = soft_capped(scores[i / 4][i % 4], softcap);
    }
    if (!has_hidden) return;
    first_item += 2 * (lane_index() % 4);
    MILLRACE_UNROLL
    for (int i = 0; i < Form::kKeyTiles * 4; ++i) {
      const int item = first_item + i / 4 * kKeys + i % 2;
      const Range& seen = seen_[i % 4 / 2];
      if (item < seen.begin || item >= seen.end) scores[i / 4][i % 4] = -kInfinity;
    }
  }

  // Scores become weights; what the block has so far, what it is by the new maximum.
  __device__ void weigh(float (&scores)[Form::kKeyTiles][4]) {
    MILLRACE_UNROLL
    for (int i = 0; i < 2; ++i) {
      float largest = -kInfinity, sum = 0.0f;
      MILLRACE_UNROLL
      for (int j = 0; j < 2 * Form::kKeyTiles; ++j) largest = fmaxf(largest, scores[j / 2][2 * i + j % 2]);
      largest = fmaxf(max_[i], quad_max(largest));
      const float from = largest == -kInfinity ? 0.0f : largest;  // nothing is seen yet
      MILLRACE_UNROLL
      for (int j = 0; j < 2 * Form::kKeyTiles; ++j) {
        float& each = scores[j / 2][2 * i + j % 2];
        each = expf(each - from);
        sum += each;
      }
      const float factor = expf(max_[i] - from);
      max_[i] = largest;
      sum_[i] = sum_[i] * factor + sum;
      MILLRACE_UNROLL
      for (int j = 0; j < 2 * Form::kDimTiles; ++j) values_[j / 2][2 * i + j % 2] *= factor;
    }
  }

  __device__ void add_values(const std::byte* values, const float (&weights)[Form::kKeyTiles][4]) {
    const int row_bytes = t_.value_bytes == 0 ? t_.key_bytes : t_.value_bytes;
    values += part() * Form::kDims * 2;
    converge_warp();
    MILLRACE_UNROLL
    for (int i = 0; i < Form::kKeyTiles; i += 2) {
      const auto& low = weights[i];
      const auto& high = weights[i + 1];
      const uint32_t of_queries[4] = {Number::pair(low[0], low[1]), Number::pair(low[2], low[3]),
                                      Number::pair(high[0], high[1]), Number::pair(high[2], high[3])};
      MILLRACE_UNROLL
      for (int j = 0; j < Form::kDimTiles; j += 2) {
        const Bytes16 value =
            load_transposed(values + i * kKeys * row_bytes + j * 16, row_bytes, 8 * row_bytes, 16);
        Number::multiply(values_[j], of_queries, {value.words[0], value.words[1]});
        Number::multiply(values_[j + 1], of_queries, {value.words[2], value.words[3]});
      }
    }
  }

  // The dimensions that the lane has of a query: value(0), value(1), ...
  template <class Value>
  __device__ void write(float* out, const Value& value) const {
    const int first = part() * Form::kDims + 2 * (lane_index() % 4);
    MILLRACE_UNROLL
    for (int j = 0; j < 2 * Form::kDimTiles; ++j) {
      const int dim = first + j / 2 * 8 + j % 2;
      if (dim < t_.attention.v_head_dim) out[dim] = value(j);
    }
  }

  const TileArguments& t_;
  const TileShared<Form>& shared_;
  const Queries& queries_;
  Range seen_[2];
  // Of the block of positions so far: a maximum, a lane's part of the sum, values. Then of all before it.
  float max_[2] = {-kInfinity, -kInfinity}, sum_[2] = {}, values_[Form::kDimTiles][4] = {};
  float total_max_[2] = {-kInfinity, -kInfinity}, total_sum_[2] = {}, total_[Form::kDimTiles][4] = {};
};

template <class Number, class Form>
__device__ inline void attend_block(const TileArguments& t, const Queries& queries) {
  constexpr int kBlockSteps = kAttentionBlock / Form::kStep;
  const bool is_divided = t.attention.partials != nullptr;
  const Seen first = seen_by(t.attention, queries.row(0)),
             last = seen_by(t.attention, queries.row(queries.n - 1));
  // What some query sees, and what all see.
  const Range seen{static_cast<int>(first.begin), static_cast<int>(last.end)};
  const Range by_all{static_cast<int>(last.begin), static_cast<int>(first.end)};
  int step = seen.begin / Form::kStep, end = (seen.end + Form::kStep - 1) / Form::kStep;
  if (is_divided) {
    const int block = seen.begin / kAttentionBlock + static_cast<int>(block_z());
    step = most(step, block * kBlockSteps);
    end = least(end, (block + 1) * kBlockSteps);
    if (step >= end) return;
  }

  const TileShared<Form> shared(t);
  find_step(t, shared, first, seen, step);
  bring_queries<Number>(t, shared, queries);
  WarpTile<Number, Form> tile(t, shared, queries);
  // Of two steps in shared memory one is on its way while the one before it is added.
  for (int coming = step; coming < end + t.n_stages - 1; ++coming) {
    if (t.n_stages > 1) wait_copies<0>();
    sync_block();  // the step before is there, and nobody reads any more what this one overwrites
    if (coming < end) bring_step<Number>(t, shared, coming);
    find_step(t, shared, first, seen, coming + 1);
    if (t.n_stages == 1) {
      wait_copies<0>();
      sync_block();
    }
    const int now = coming - t.n_stages + 1, begin_item = now * Form::kStep;
    if (now < step) continue;
    tile.add_step(now, begin_item < by_all.begin || begin_item + Form::kStep > by_all.end);
    if (!is_divided && (now + 1 == end || (now + 1) % kBlockSteps == 0)) tile.join_block();
  }
  if (is_divided) {
    tile.write_partial((end - 1) / kBlockSteps);
  } else {
    tile.write_total();
  }
}

// Many: the form for more than a tile of queries.
template <class Number, class Many, class Few>
__global__ void __launch_bounds__(kTileThreads, 2) tiles_kernel(TileArguments t) {
  const Queries queries = queries_of_block(t, Many::kAllQueries);
  if (queries.n <= 0) return;
  if (queries.n > kQueries) {
    attend_block<Number, Many>(t, queries);
  } else {
    attend_block<Number, Few>(t, queries);
  }
}

// --- on the host -------------------------------------------------------------------------------------------

// Calls use(many, few) with the forms for values of so many dimensions.
template <class Use>
void with_forms(int64_t v_head_dim, const Use& use) {
  if (v_head_dim <= 64) return use(Form<1, 64, 64>(), Form<4, 16, 64>());
  if (v_head_dim <= 128) return use(Form<1, 128, 64>(), Form<4, 32, 64>());
  if (v_head_dim <= 256) return use(Form<2, 128, 32>(), Form<4, 64, 32>());
  use(Form<4, 128, 32>(), Form<4, 128, 32>());
}
constexpr int kMaxDims = 512;

struct TilePlan {
  TileArguments arguments;
  Grid grid;
  size_t shared_bytes;  // more than a block may have: there is no kernel
};

template <class Many, class Few>
TilePlan plan(const AttentionArguments& a) {
  const bool has_values = a.v_pages.data != nullptr;
  const Dtype dtype = a.k_pages.dtype;
  const int key_dims = static_cast<int>((a.head_dim + 31) / 32 * 32);
  const int n_shared = static_cast<int>(a.n_heads / a.n_kv_heads);
  const auto is_aligned = [](const Pages& pages) {
    return pages.row_bytes % 16 == 0 && reinterpret_cast<uintptr_t>(pages.data) % 16 == 0;
  };
  TilePlan out{
      .arguments = {.attention = a,
                    .n_shared = n_shared,
                    .key_bytes = 2 * (has_values ? key_dims : most(key_dims, Many::kAllDims)) + 16,
                    .value_bytes = has_values ? 2 * Many::kAllDims + 16 : 0,
                    .n_stages = 2,
                    .has_own_lists = a.selected != nullptr || a.entry_pages.data != nullptr,
                    .are_copied = (dtype == Dtype::bf16 || dtype == Dtype::f16) && is_aligned(a.k_pages) &&
                                  is_aligned(a.v_pages) && is_aligned(a.entry_pages),
                    .n_row_blocks = n_blocks_for(n_shared, Many::kAllQueries)},
      .grid = {},
      .shared_bytes = 0};
  TileArguments& t = out.arguments;
  const auto n_bytes = [&] { return static_cast<size_t>(most(tile_bytes<Many>(t), tile_bytes<Few>(t))); };
  if (n_bytes() > kMaxSharedBytes) t.n_stages = 1;
  out.shared_bytes = n_bytes();
  const int64_t n_tiles =
      t.has_own_lists ? a.n_rows * t.n_row_blocks : a.n_rows * n_shared / Many::kAllQueries + a.n_seqs;
  out.grid = {n_tiles, a.n_kv_heads, a.partials != nullptr ? a.n_blocks : 1};
  return out;
}

template <class Number>
void launch_tiles(Machine& machine, const AttentionArguments& a) {
  with_forms(a.v_head_dim, [&](auto many, auto few) {
    using Many = decltype(many);
    using Few = decltype(few);
    static_assert(Many::kStep == Few::kStep && Many::kAllDims == Few::kAllDims);
    static_assert(Few::kAllQueries == kQueries && Many::kAllQueries <= kMaxTileRows);
    const TilePlan launched = plan<Many, Few>(a);
    launch(machine, tiles_kernel<Number, Many, Few>, launched.grid, kTileThreads, launched.shared_bytes,
           launched.arguments);
  });
}

}  // namespace

int64_t n_attention_tiles(const AttentionArguments& a) {
  if (a.k_pages.dtype == Dtype::f32 || a.v_head_dim > kMaxDims) return 0;
  int64_t n = 0;
  with_forms(a.v_head_dim, [&](auto many, auto few) {
    const TilePlan planned = plan<decltype(many), decltype(few)>(a);
    if (planned.shared_bytes <= kMaxSharedBytes) n = planned.grid.x * planned.grid.y;
  });
  return n;
}

void attend_in_tiles(Machine& machine, const AttentionArguments& a) {
  if (a.k_pages.dtype == Dtype::bf16) {
    launch_tiles<InBf16>(machine, a);
  } else {
    launch_tiles<InF16>(machine, a);
  }
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
