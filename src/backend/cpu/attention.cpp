// Attention over pages, and over the rows of the batch. A tile is some rows of one sequence with the query
// heads of one key-value head; it is computed block by block of positions and the blocks are joined in order.
// Where there are too few tiles to fill the threads (decoding a long context) the blocks of a tile go to
// different threads, and are joined afterwards: the same operations, so the same bits.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/compute.h"
#include "backend/cpu/pages.h"

namespace millrace::cpu {
namespace {

static_assert(kAttentionPositions == kAttentionBlock);

struct Sizes {
  int64_t n_queries;  // of the largest tile
  int64_t head_dim;
  int64_t v_head_dim;
};

// Results of a tile over one or several blocks.
struct Partial {
  Partial(Carver& carver, const Sizes& sizes)
      : max(carver.take<float>(sizes.n_queries)),
        sum(carver.take<float>(sizes.n_queries)),
        out(carver.take<float>(sizes.n_queries * padded(static_cast<int>(sizes.v_head_dim)))) {}

  float* max;
  float* sum;
  float* out;  // (n_queries, v_head_dim padded), not yet divided by the sum
};

size_t partial_bytes(const Sizes& sizes) {
  Carver measure;
  (void)Partial(measure, sizes);
  return measure.used_bytes();
}

// What a thread needs for one block, and to join blocks.
struct BlockScratch {
  BlockScratch(Carver& carver, const Sizes& s)
      : k_rows(carver.take<const std::byte*>(kAttentionBlock)),
        v_rows(carver.take<const std::byte*>(kAttentionBlock)),
        queries(carver.take<const float*>(s.n_queries)),
        begin(carver.take<int32_t>(s.n_queries)),
        end(carver.take<int32_t>(s.n_queries)),
        q_panel(carver.take<float>(int64_t{padded_queries(static_cast<int>(s.n_queries))} *
                                   padded_keys(static_cast<int>(s.head_dim)))),
        k_panel(carver.take<float>(kAttentionBlock * padded_keys(static_cast<int>(s.head_dim)))),
        v_panel(carver.take<float>(kAttentionBlock * padded(static_cast<int>(s.v_head_dim)))),
        scores(carver.take<float>((s.n_queries + 1) * kAttentionBlock)),
        block(carver, s),
        total(carver, s) {}

  const std::byte** k_rows;
  const std::byte** v_rows;
  const float** queries;
  int32_t* begin;
  int32_t* end;
  float* q_panel;
  float* k_panel;
  float* v_panel;
  float* scores;
  Partial block;
  Partial total;
};

constexpr int64_t kTilesAThread = 4;  // enough to even out threads of different speed

struct Tile {
  int64_t seq;
  int64_t row_begin;
  int64_t row_end;
};

struct Positions {
  int64_t begin;
  int64_t end;
};

// Where the keys and values of a causal op lie, and which positions of its sequence a row sees.
class PagedKeys {
 public:
  using Op = PagedAttention;
  explicit PagedKeys(const Op& op) : op_(op) {}

  int64_t n_heads() const { return op_.k_pages.dim(1); }
  int64_t head_dim() const { return op_.k_pages.dim(3); }
  int64_t v_head_dim() const { return op_.out.dim(2); }
  Dtype dtype() const { return op_.k_pages.dtype; }
  // Positions, or with a selection places in its list.
  Positions visible(int64_t row) const {
    const int64_t position = op_.batch.positions.i32()[row];
    if (selects_positions()) {
      const int64_t n = n_selected(row);
      check(n > 0 && selected_at(row, n - 1) <= position, "a row sees something, and nothing in the future");
      return {0, n};
    }
    const int64_t by_window = op_.window > 0 ? std::max<int64_t>(0, position - op_.window + 1) : 0;
    const int64_t by_chunk = op_.chunk > 0 ? position / op_.chunk * op_.chunk : 0;
    return {std::max(by_window, by_chunk), position + 1};
  }
  int64_t selected_at(int64_t row, int64_t i) const {
    return op_.selected.i32()[row * op_.selected.dim(1) + i];
  }
  bool selects_positions() const { return op_.selected && !op_.entry_pages; }
  // Entries that a row sees before the positions, and where its i-th one lies.
  int64_t n_entries(int64_t row) const {
    if (!op_.entry_pages) return 0;
    return op_.selected ? n_selected(row) : (op_.batch.positions.i32()[row] + 1) / op_.entry_stride;
  }
  const std::byte* entry_at(int64_t row, int64_t i) const {
    const int64_t entry = op_.selected ? selected_at(row, i) : i;
    check((entry + 1) * op_.entry_stride <= op_.batch.positions.i32()[row] + 1, "an entry of the past");
    const EntryReader entries(op_.entry_pages, op_.batch, op_.batch.seq_of_row.i32()[row],
                              {op_.entry_stride, op_.k_pages.dim(2)});
    return entries.at(entry);
  }
  // A row with a selection is the only one of its tile.
  bool is_alone() const { return static_cast<bool>(op_.selected); }
  // The logit that a query head shares its weight with, or nullptr.
  const float* sink(int64_t head) const { return op_.sinks ? op_.sinks.f32() + head : nullptr; }

  struct Sequence {
    PageReader k, v;
  };
  Sequence sequence(int64_t seq) const {
    const Tensor& v_pages = op_.v_pages ? op_.v_pages : op_.k_pages;
    return {PageReader(op_.k_pages, op_.batch, seq), PageReader(v_pages, op_.batch, seq)};
  }

 private:
  int64_t n_selected(int64_t row) const {
    const int32_t* list = op_.selected.i32() + row * op_.selected.dim(1);
    return std::partition_point(list, list + op_.selected.dim(1), [](int32_t j) { return j >= 0; }) - list;
  }

  const Op& op_;
};

// The same of an op whose keys and values are rows of the batch.
class RowKeys {
 public:
  using Op = BidirectionalAttention;
  explicit RowKeys(const Op& op) : op_(op) {}

  int64_t n_heads() const { return op_.k.dim(1); }
  int64_t head_dim() const { return op_.k.dim(2); }
  int64_t v_head_dim() const { return op_.v.dim(2); }
  Dtype dtype() const { return Dtype::f32; }
  Positions visible(int64_t row) const {
    const int32_t seq = op_.batch.seq_of_row.i32()[row];
    const int64_t first = op_.batch.row_begin.i32()[seq];
    const int64_t n = op_.batch.row_begin.i32()[seq + 1] - first;
    const int64_t reach = op_.reach > 0 ? op_.reach : n;
    return {std::max<int64_t>(0, row - first - reach), std::min(n, row - first + reach + 1)};
  }
  bool selects_positions() const { return false; }
  int64_t selected_at(int64_t, int64_t i) const { return i; }
  int64_t n_entries(int64_t) const { return 0; }
  const std::byte* entry_at(int64_t, int64_t) const { return nullptr; }
  bool is_alone() const { return false; }
  const float* sink(int64_t) const { return nullptr; }

  struct Reader {
    const Tensor& rows;
    int64_t first;
    const std::byte* at(int64_t position, int64_t head) const {
      return rows.row((first + position) * rows.dim(1) + head);
    }
    void at_each(int64_t begin, int64_t end, int64_t head, const std::byte** out) const {
      for (; begin < end; ++begin) *out++ = at(begin, head);
    }
  };
  struct Sequence {
    Reader k, v;
  };
  Sequence sequence(int64_t seq) const {
    const int64_t first = op_.batch.row_begin.i32()[seq];
    return {{op_.k, first}, {op_.v, first}};
  }

 private:
  const Op& op_;
};

template <class Keys>
class Attention {
 public:
  using Op = typename Keys::Op;
  Attention(const Kernels& kernels, int n_threads, const Op& op)
      : kernels_(kernels),
        op_(op),
        keys_(op),
        n_shared_(op.q.dim(1) / keys_.n_heads()),
        rows_a_tile_(keys_.is_alone() ? 1 : std::max<int64_t>(1, queries_a_tile(n_threads) / n_shared_)) {}

  Sizes sizes() const {
    const int64_t max_rows = std::min(rows_a_tile_, op_.batch.n_rows());
    return {max_rows * n_shared_, keys_.head_dim(), keys_.v_head_dim()};
  }
  int64_t n_kv_heads() const { return keys_.n_heads(); }

  // At most this many tiles: sequences of less than a tile each have one.
  int64_t max_tiles() const { return op_.batch.n_rows() / rows_a_tile_ + op_.batch.n_seqs(); }
  int64_t fill_tiles(Tile* tiles) const {
    int64_t n = 0;
    for (int64_t seq = 0; seq < op_.batch.n_seqs(); ++seq) {
      const int64_t end = op_.batch.row_begin.i32()[seq + 1];
      for (int64_t r = op_.batch.row_begin.i32()[seq]; r < end; r += rows_a_tile_)
        tiles[n++] = {seq, r, std::min(end, r + rows_a_tile_)};
    }
    return n;
  }

  // Blocks of entries have negative numbers, -1 the last; then come those of positions.
  int64_t first_block(const Tile& tile) const {
    const int64_t n_entry_blocks = entry_blocks(tile);
    return n_entry_blocks > 0 ? -n_entry_blocks : first_position_block(tile.row_begin);
  }
  int64_t end_block(const Tile& tile) const { return last_block(tile.row_end - 1) + 1; }
  // Between entries and a window there may be blocks that no row sees.
  bool sees(const Tile& tile, int64_t block) const {
    if (block < 0) return block >= -entry_blocks(tile);
    return block >= first_position_block(tile.row_begin) && block < end_block(tile);
  }

  // What all blocks of a tile read.
  void begin_tile(const Tile& tile, int64_t kv_head, const BlockScratch& scratch) const {
    const int64_t n = n_queries(tile);
    for (int64_t q = 0; q < n; ++q)
      scratch.queries[q] = op_.q.f32() + head_index(tile, kv_head, q) * op_.q.dim(2);
    const auto lay_out = pages().lay_out_queries;
    if (lay_out == nullptr) return;
    lay_out({.head_dim = static_cast<int>(keys_.head_dim()),
             .n = static_cast<int>(n),
             .queries = scratch.queries,
             .panel = scratch.q_panel});
  }

  // Computes one block of the tile that has begun into `out`.
  void compute_block(const Tile& tile, int64_t kv_head, int64_t block, const BlockScratch& scratch,
                     const Partial& out) const {
    fill_ranges(tile, block, scratch);
    const int n_positions = fill_positions(tile, kv_head, block, scratch);
    pages().attend({
        .head_dim = static_cast<int>(keys_.head_dim()),
        .v_head_dim = static_cast<int>(keys_.v_head_dim()),
        .n_positions = n_positions,
        .k_rows = scratch.k_rows,
        .v_rows = scratch.v_rows,
        .n_queries = static_cast<int>(n_queries(tile)),
        .queries = scratch.queries,
        .begin = scratch.begin,
        .end = scratch.end,
        .scale = op_.scale,
        .softcap = op_.softcap,
        .q_panel = scratch.q_panel,
        .k_panel = scratch.k_panel,
        .v_panel = scratch.v_panel,
        .scores = scratch.scores,
        .max = out.max,
        .sum = out.sum,
        .out = out.out,
    });
  }

  // Joins a block into the total of those before it; the first block that a row sees becomes its total.
  void join(const Tile& tile, int64_t block, const Partial& from, const Partial& total) const {
    const int64_t stride = padded(static_cast<int>(keys_.v_head_dim()));
    for (int64_t row = tile.row_begin, q = 0; row < tile.row_end; ++row, q += n_shared_) {
      const Positions seen = range_in(tile, row, block);
      if (seen.begin >= seen.end) continue;
      const int64_t first = keys_.n_entries(row) > 0 ? -entry_blocks(tile) : first_position_block(row);
      for (int64_t i = q; i < q + n_shared_; ++i) {
        if (block == first)
          copy_query(from, i, stride, total);
        else
          join_query(from, i, stride, total);
      }
    }
  }

  void finish(const Tile& tile, int64_t kv_head, const Partial& total) const {
    const int64_t v_head_dim = keys_.v_head_dim();
    const int64_t stride = padded(static_cast<int>(v_head_dim));
    for (int64_t q = 0; q < n_queries(tile); ++q) {
      float* out = op_.out.f32() + head_index(tile, kv_head, q) * v_head_dim;
      std::copy_n(total.out + q * stride, v_head_dim, out);
      const float* sink = keys_.sink(kv_head * n_shared_ + q % n_shared_);
      kernels_.scale(out, last_scale(total.max[q], total.sum[q], sink), v_head_dim);
    }
  }

 private:
  // Keys and values are decoded once for so many. Fewer where threads would lack tiles, and where the scores
  // of all are kept.
  int64_t queries_a_tile(int n_threads) const {
    constexpr int64_t kMost = 256, kFew = 128;
    const int64_t n_tiles = op_.batch.n_rows() * n_shared_ / kMost * keys_.n_heads();
    return pages().lay_out_queries != nullptr && n_tiles >= kTilesAThread * n_threads ? kMost : kFew;
  }

  int64_t first_position_block(int64_t row) const { return keys_.visible(row).begin / kAttentionBlock; }
  int64_t last_block(int64_t row) const { return (keys_.visible(row).end - 1) / kAttentionBlock; }
  int64_t entry_blocks(const Tile& tile) const {
    return (keys_.n_entries(tile.row_end - 1) + kAttentionBlock - 1) / kAttentionBlock;
  }
  // The first place of a block, and what a row sees of the block, counted from there.
  int64_t base_of(const Tile& tile, int64_t block) const {
    return (block < 0 ? block + entry_blocks(tile) : block) * kAttentionBlock;
  }
  Positions range_in(const Tile& tile, int64_t row, int64_t block) const {
    const int64_t base = base_of(tile, block);
    const Positions seen = block < 0 ? Positions{0, keys_.n_entries(row)} : keys_.visible(row);
    return {std::max<int64_t>(0, seen.begin - base), std::min<int64_t>(kAttentionBlock, seen.end - base)};
  }
  // What the joined values are multiplied by: 1 / sum, where the sum and its maximum take in the sink.
  static float last_scale(float max, float sum, const float* sink) {
    if (sink == nullptr) return 1.0f / sum;
    if (*sink <= max) return 1.0f / (sum + std::exp(*sink - max));
    const float shrink = std::exp(max - *sink);
    return shrink / (sum * shrink + 1.0f);
  }
  // Query q of a tile as (row, head) of the op.
  int64_t head_index(const Tile& tile, int64_t kv_head, int64_t q) const {
    return (tile.row_begin + q / n_shared_) * op_.q.dim(1) + kv_head * n_shared_ + q % n_shared_;
  }

  const PageKernels& pages() const { return kernels_.pages[static_cast<size_t>(keys_.dtype())]; }
  int64_t n_queries(const Tile& tile) const { return (tile.row_end - tile.row_begin) * n_shared_; }

  void fill_ranges(const Tile& tile, int64_t block, const BlockScratch& scratch) const {
    for (int64_t row = tile.row_begin, q = 0; row < tile.row_end; ++row, q += n_shared_) {
      const auto [begin, end] = range_in(tile, row, block);
      std::fill_n(scratch.begin + q, n_shared_, begin < end ? static_cast<int32_t>(begin) : 0);
      std::fill_n(scratch.end + q, n_shared_, begin < end ? static_cast<int32_t>(end) : 0);
    }
  }

  void copy_query(const Partial& from, int64_t q, int64_t stride, const Partial& total) const {
    total.max[q] = from.max[q];
    total.sum[q] = from.sum[q];
    std::copy_n(from.out + q * stride, stride, total.out + q * stride);
  }
  void join_query(const Partial& from, int64_t q, int64_t stride, const Partial& total) const {
    kernels_.join({.max = total.max + q,
                   .sum = total.sum + q,
                   .out = total.out + q * stride,
                   .block_max = from.max[q],
                   .block_sum = from.sum[q],
                   .block_out = from.out + q * stride,
                   .v_head_dim = static_cast<int>(keys_.v_head_dim())});
  }

  // Positions before the first visible one may have no page any more: the first visible stands in for them.
  int fill_positions(const Tile& tile, int64_t kv_head, int64_t block, const BlockScratch& scratch) const {
    const int64_t base = base_of(tile, block);
    const int64_t end = range_in(tile, tile.row_end - 1, block).end;
    if (block < 0) {
      for (int64_t j = 0; j < end; ++j)
        scratch.k_rows[j] = scratch.v_rows[j] = keys_.entry_at(tile.row_end - 1, base + j);
      return static_cast<int>(end);
    }
    const int64_t begin = range_in(tile, tile.row_begin, block).begin;
    const auto sequence = keys_.sequence(tile.seq);
    if (keys_.selects_positions()) {
      for (int64_t j = begin; j < end; ++j) {
        const int64_t at = keys_.selected_at(tile.row_begin, base + j);
        scratch.k_rows[j] = sequence.k.at(at, kv_head);
        scratch.v_rows[j] = sequence.v.at(at, kv_head);
      }
    } else {
      sequence.k.at_each(base + begin, base + end, kv_head, scratch.k_rows + begin);
      sequence.v.at_each(base + begin, base + end, kv_head, scratch.v_rows + begin);
    }
    std::fill_n(scratch.k_rows, begin, scratch.k_rows[begin]);
    std::fill_n(scratch.v_rows, begin, scratch.v_rows[begin]);
    return static_cast<int>(end);
  }

  const Kernels& kernels_;
  const Op& op_;
  Keys keys_;
  int64_t n_shared_;  // query heads of a key-value head
  int64_t rows_a_tile_;
};

struct TileList {
  TileList(Carver& carver, int64_t max_tiles) : tiles(carver.take<Tile>(max_tiles)) {}
  Tile* tiles;
};

// A total for each task, and the blocks of a wave.
struct SplitMemory {
  SplitMemory(Carver& carver, int64_t max_tiles, int64_t n_partials, const Sizes& tile_sizes)
      : list(carver, max_tiles),
        partials(carver.take<std::byte>(n_partials * stride_of(tile_sizes))),
        sizes(tile_sizes) {}

  static int64_t stride_of(const Sizes& sizes) { return static_cast<int64_t>(partial_bytes(sizes)); }
  Partial at(int64_t i) const {
    Carver carver(partials + i * stride_of(sizes));
    return Partial(carver, sizes);
  }

  TileList list;
  std::byte* partials;
  Sizes sizes;
};

template <class Keys>
void attend_whole(Machine& machine, const Attention<Keys>& attention, std::span<const Tile> tiles) {
  const int64_t n_kv_heads = attention.n_kv_heads();
  const auto n_tasks = static_cast<int>(static_cast<int64_t>(tiles.size()) * n_kv_heads);
  machine.pool.run(n_tasks, [&](int task, int thread) {
    const Tile& tile = tiles[static_cast<size_t>(task / n_kv_heads)];
    const auto scratch = machine.scratch.of_thread<BlockScratch>(thread, attention.sizes());
    attention.begin_tile(tile, task % n_kv_heads, scratch);
    for (int64_t b = attention.first_block(tile); b < attention.end_block(tile); ++b) {
      if (!attention.sees(tile, b)) continue;
      attention.compute_block(tile, task % n_kv_heads, b, scratch, scratch.block);
      attention.join(tile, b, scratch.block, scratch.total);
    }
    attention.finish(tile, task % n_kv_heads, scratch.total);
  });
}

// Waves of so many blocks that their results fit into bounded memory.
template <class Keys>
void attend_split(Machine& machine, const Attention<Keys>& attention, std::span<const Tile> tiles,
                  const SplitMemory& memory, int64_t blocks_a_wave) {
  const int64_t n_kv_heads = attention.n_kv_heads();
  const int64_t n_tasks = static_cast<int64_t>(tiles.size()) * n_kv_heads;
  const auto tile_of = [&](int64_t task) -> const Tile& {
    return tiles[static_cast<size_t>(task / n_kv_heads)];
  };
  int64_t begin = std::numeric_limits<int64_t>::max(), end = 0;
  for (const Tile& tile : tiles) {
    begin = std::min(begin, attention.first_block(tile));
    end = std::max(end, attention.end_block(tile));
  }
  for (int64_t wave = begin; wave < end; wave += blocks_a_wave) {
    const int64_t n_blocks = std::min(blocks_a_wave, end - wave);
    machine.pool.run(static_cast<int>(n_tasks * n_blocks), [&](int item, int thread) {
      const int64_t task = item / n_blocks, b = item % n_blocks;
      if (!attention.sees(tile_of(task), wave + b)) return;
      const auto scratch = machine.scratch.of_thread<BlockScratch>(thread, attention.sizes());
      attention.begin_tile(tile_of(task), task % n_kv_heads, scratch);
      attention.compute_block(tile_of(task), task % n_kv_heads, wave + b, scratch,
                              memory.at(n_tasks + task * blocks_a_wave + b));
    });
    machine.pool.run(static_cast<int>(n_tasks), [&](int task, int) {
      for (int64_t b = 0; b < n_blocks; ++b) {
        if (attention.sees(tile_of(task), wave + b))
          attention.join(tile_of(task), wave + b, memory.at(n_tasks + task * blocks_a_wave + b),
                         memory.at(task));
      }
    });
  }
  machine.pool.run(static_cast<int>(n_tasks), [&](int task, int) {
    attention.finish(tile_of(task), task % n_kv_heads, memory.at(task));
  });
}

template <class Keys>
void attend(Machine& machine, const typename Keys::Op& op) {
  if (op.batch.n_rows() == 0) return;
  const int n_threads = machine.pool.n_threads();
  const Attention<Keys> attention(machine.kernels, n_threads, op);
  const Sizes sizes = attention.sizes();
  machine.scratch.reserve<BlockScratch>(sizes);
  const int64_t max_tiles = attention.max_tiles();
  auto list = machine.scratch.shared<TileList>(max_tiles);
  const int64_t n_tiles = attention.fill_tiles(list.tiles);
  const int64_t n_tasks = n_tiles * attention.n_kv_heads();

  int64_t n_blocks = 0;  // of the longest tile
  for (int64_t i = 0; i < n_tiles; ++i)
    n_blocks = std::max(n_blocks, attention.end_block(list.tiles[i]) - attention.first_block(list.tiles[i]));
  if (n_threads == 1 || n_blocks < 2 || n_tasks >= kTilesAThread * n_threads)
    return attend_whole(machine, attention, {list.tiles, static_cast<size_t>(n_tiles)});

  constexpr int64_t kWaveBytes = 4 << 20;
  const int64_t fitting = kWaveBytes / (SplitMemory::stride_of(sizes) * n_tasks);
  const int64_t blocks_a_wave =
      std::clamp<int64_t>(fitting, n_threads, std::max<int64_t>(n_blocks, n_threads));
  const auto memory = machine.scratch.shared<SplitMemory>(max_tiles, n_tasks * (1 + blocks_a_wave), sizes);
  (void)attention.fill_tiles(memory.list.tiles);
  attend_split(machine, attention, {memory.list.tiles, static_cast<size_t>(n_tiles)}, memory, blocks_a_wave);
}

}  // namespace

void compute(Machine& machine, const PagedAttention& op) { attend<PagedKeys>(machine, op); }
void compute(Machine& machine, const BidirectionalAttention& op) { attend<RowKeys>(machine, op); }

}  // namespace millrace::cpu
