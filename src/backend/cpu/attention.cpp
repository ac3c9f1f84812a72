// Attention over pages. A tile is some rows of one sequence with the query heads of one key-value head; it is
// computed block by block of positions and the blocks are joined in order. Where there are too few tiles to
// fill the threads (decoding a long context) the blocks of a tile go to different threads, and are joined
// afterwards: the same operations, so the same bits.
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
        k_panel(carver.take<float>(int64_t{kAttentionBlock} * padded(static_cast<int>(s.head_dim)))),
        v_panel(carver.take<float>(int64_t{kAttentionBlock} * padded(static_cast<int>(s.v_head_dim)))),
        scores(carver.take<float>(s.n_queries * kAttentionBlock)),
        block(carver, s),
        total(carver, s) {}

  const std::byte** k_rows;
  const std::byte** v_rows;
  const float** queries;
  int32_t* begin;
  int32_t* end;
  float* k_panel;
  float* v_panel;
  float* scores;
  Partial block;
  Partial total;
};

struct Tile {
  int64_t seq;
  int64_t row_begin;
  int64_t row_end;
};

class Attention {
 public:
  Attention(const Kernels& kernels, const PagedAttention& op)
      : kernels_(kernels),
        op_(op),
        n_shared_(op.q.dim(1) / op.k_pages.dim(1)),
        rows_a_tile_(op.selected ? 1 : std::max<int64_t>(1, kQueriesATile / n_shared_)) {}

  Sizes sizes() const {
    const int64_t max_rows = std::min(rows_a_tile_, op_.batch.n_rows());
    return {max_rows * n_shared_, op_.k_pages.dim(3), v_head_dim()};
  }
  int64_t n_kv_heads() const { return op_.k_pages.dim(1); }

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

  int64_t first_block(const Tile& tile) const { return begin_of(tile.row_begin) / kAttentionBlock; }
  int64_t end_block(const Tile& tile) const { return (end_of(tile.row_end - 1) - 1) / kAttentionBlock + 1; }

  // Computes one block of a tile into `out`.
  void compute_block(const Tile& tile, int64_t kv_head, int64_t block, const BlockScratch& scratch,
                     const Partial& out) const {
    const int n_queries = fill_queries(tile, kv_head, block, scratch);
    const int n_positions = fill_positions(tile, kv_head, block, scratch);
    kernels_.attend[static_cast<size_t>(op_.k_pages.dtype)]({
        .head_dim = static_cast<int>(op_.k_pages.dim(3)),
        .v_head_dim = static_cast<int>(v_head_dim()),
        .n_positions = n_positions,
        .k_rows = scratch.k_rows,
        .v_rows = scratch.v_rows,
        .n_queries = n_queries,
        .queries = scratch.queries,
        .begin = scratch.begin,
        .end = scratch.end,
        .scale = op_.scale,
        .softcap = op_.softcap,
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
    const int64_t stride = padded(static_cast<int>(v_head_dim()));
    const int64_t n_queries = (tile.row_end - tile.row_begin) * n_shared_;
    for (int64_t q = 0; q < n_queries; ++q) {
      const int64_t row = tile.row_begin + q / n_shared_;
      const int64_t first = begin_of(row) / kAttentionBlock;
      if (block < first || block > (end_of(row) - 1) / kAttentionBlock) continue;
      if (block == first) {
        total.max[q] = from.max[q];
        total.sum[q] = from.sum[q];
        std::copy_n(from.out + q * stride, stride, total.out + q * stride);
      } else {
        kernels_.join({.max = total.max + q,
                       .sum = total.sum + q,
                       .out = total.out + q * stride,
                       .block_max = from.max[q],
                       .block_sum = from.sum[q],
                       .block_out = from.out + q * stride,
                       .v_head_dim = static_cast<int>(v_head_dim())});
      }
    }
  }

  void finish(const Tile& tile, int64_t kv_head, const Partial& total) const {
    const int64_t stride = padded(static_cast<int>(v_head_dim()));
    for (int64_t q = 0; q < (tile.row_end - tile.row_begin) * n_shared_; ++q) {
      float* out = op_.out.f32() + head_index(tile, kv_head, q) * v_head_dim();
      std::copy_n(total.out + q * stride, v_head_dim(), out);
      const float* sink = op_.sinks ? op_.sinks.f32() + kv_head * n_shared_ + q % n_shared_ : nullptr;
      kernels_.scale(out, last_scale(total.max[q], total.sum[q], sink), v_head_dim());
    }
  }

 private:
  static constexpr int64_t kQueriesATile = 64;  // keys and values are decoded once for so many

  int64_t v_head_dim() const { return op_.out.dim(2); }
  int64_t position(int64_t row) const { return op_.batch.positions.i32()[row]; }

  // What a row sees is a range [begin, end) of places: positions, or with a selection entries of its list,
  // which then is the only row of its tile.
  int64_t begin_of(int64_t row) const { return op_.selected ? 0 : first_visible(row); }
  int64_t end_of(int64_t row) const {
    if (!op_.selected) return position(row) + 1;
    const int32_t* list = op_.selected.i32() + row * op_.selected.dim(1);
    const int32_t* end =
        std::partition_point(list, list + op_.selected.dim(1), [](int32_t j) { return j >= 0; });
    check(end != list && end[-1] <= position(row), "a row sees something, and nothing in the future");
    return end - list;
  }
  int64_t position_at(int64_t row, int64_t place) const {
    return op_.selected ? op_.selected.i32()[row * op_.selected.dim(1) + place] : place;
  }
  int64_t first_visible(int64_t row) const {
    const int64_t by_window = op_.window > 0 ? std::max<int64_t>(0, position(row) - op_.window + 1) : 0;
    const int64_t by_chunk = op_.chunk > 0 ? position(row) / op_.chunk * op_.chunk : 0;
    return std::max(by_window, by_chunk);
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

  int fill_queries(const Tile& tile, int64_t kv_head, int64_t block, const BlockScratch& scratch) const {
    const int64_t n = (tile.row_end - tile.row_begin) * n_shared_;
    const int64_t base = block * kAttentionBlock;
    for (int64_t q = 0; q < n; ++q) {
      const int64_t row = tile.row_begin + q / n_shared_;
      scratch.queries[q] = op_.q.f32() + head_index(tile, kv_head, q) * op_.q.dim(2);
      const int64_t begin = std::max<int64_t>(0, begin_of(row) - base);
      const int64_t end = std::min<int64_t>(kAttentionBlock, end_of(row) - base);
      scratch.begin[q] = begin < end ? static_cast<int32_t>(begin) : 0;
      scratch.end[q] = begin < end ? static_cast<int32_t>(end) : 0;
    }
    return static_cast<int>(n);
  }

  // Positions before the first visible one may have no page any more: the first visible stands in for them.
  int fill_positions(const Tile& tile, int64_t kv_head, int64_t block, const BlockScratch& scratch) const {
    const int64_t base = block * kAttentionBlock;
    const int64_t begin = std::max<int64_t>(0, begin_of(tile.row_begin) - base);
    const int64_t end = std::min<int64_t>(kAttentionBlock, end_of(tile.row_end - 1) - base);
    const PageReader k(op_.k_pages, op_.batch, tile.seq);
    const PageReader v(op_.v_pages ? op_.v_pages : op_.k_pages, op_.batch, tile.seq);
    for (int64_t j = 0; j < end; ++j) {
      const int64_t at = position_at(tile.row_begin, base + std::max(begin, j));
      scratch.k_rows[j] = k.at(at, kv_head);
      scratch.v_rows[j] = v.at(at, kv_head);
    }
    return static_cast<int>(end);
  }

  const Kernels& kernels_;
  const PagedAttention& op_;
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

void attend_whole(Machine& machine, const Attention& attention, std::span<const Tile> tiles) {
  const int64_t n_kv_heads = attention.n_kv_heads();
  const auto n_tasks = static_cast<int>(static_cast<int64_t>(tiles.size()) * n_kv_heads);
  machine.pool.run(n_tasks, [&](int task, int thread) {
    const Tile& tile = tiles[static_cast<size_t>(task / n_kv_heads)];
    const auto scratch = machine.scratch.of_thread<BlockScratch>(thread, attention.sizes());
    for (int64_t b = attention.first_block(tile); b < attention.end_block(tile); ++b) {
      attention.compute_block(tile, task % n_kv_heads, b, scratch, scratch.block);
      attention.join(tile, b, scratch.block, scratch.total);
    }
    attention.finish(tile, task % n_kv_heads, scratch.total);
  });
}

// Waves of so many blocks that their results fit into bounded memory.
void attend_split(Machine& machine, const Attention& attention, std::span<const Tile> tiles,
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
  const auto sees = [&](const Tile& tile, int64_t block) {
    return block >= attention.first_block(tile) && block < attention.end_block(tile);
  };
  for (int64_t wave = begin; wave < end; wave += blocks_a_wave) {
    const int64_t n_blocks = std::min(blocks_a_wave, end - wave);
    machine.pool.run(static_cast<int>(n_tasks * n_blocks), [&](int item, int thread) {
      const int64_t task = item / n_blocks, b = item % n_blocks;
      if (!sees(tile_of(task), wave + b)) return;
      attention.compute_block(tile_of(task), task % n_kv_heads, wave + b,
                              machine.scratch.of_thread<BlockScratch>(thread, attention.sizes()),
                              memory.at(n_tasks + task * blocks_a_wave + b));
    });
    machine.pool.run(static_cast<int>(n_tasks), [&](int task, int) {
      for (int64_t b = 0; b < n_blocks; ++b) {
        if (sees(tile_of(task), wave + b))
          attention.join(tile_of(task), wave + b, memory.at(n_tasks + task * blocks_a_wave + b),
                         memory.at(task));
      }
    });
  }
  machine.pool.run(static_cast<int>(n_tasks), [&](int task, int) {
    attention.finish(tile_of(task), task % n_kv_heads, memory.at(task));
  });
}

}  // namespace

void compute(Machine& machine, const PagedAttention& op) {
  if (op.batch.n_rows() == 0) return;
  const Attention attention(machine.kernels, op);
  const Sizes sizes = attention.sizes();
  machine.scratch.reserve<BlockScratch>(sizes);
  const int64_t max_tiles = attention.max_tiles();
  auto list = machine.scratch.shared<TileList>(max_tiles);
  const int64_t n_tiles = attention.fill_tiles(list.tiles);
  const int64_t n_tasks = n_tiles * attention.n_kv_heads();

  int64_t n_blocks = 0;  // of the longest tile
  for (int64_t i = 0; i < n_tiles; ++i)
    n_blocks = std::max(n_blocks, attention.end_block(list.tiles[i]) - attention.first_block(list.tiles[i]));
  const int n_threads = machine.pool.n_threads();
  if (n_threads == 1 || n_blocks < 2 || n_tasks >= 4 * n_threads)
    return attend_whole(machine, attention, {list.tiles, static_cast<size_t>(n_tiles)});

  constexpr int64_t kWaveBytes = 4 << 20;
  const int64_t fitting = kWaveBytes / (SplitMemory::stride_of(sizes) * n_tasks);
  const int64_t blocks_a_wave =
      std::clamp<int64_t>(fitting, n_threads, std::max<int64_t>(n_blocks, n_threads));
  const auto memory = machine.scratch.shared<SplitMemory>(max_tiles, n_tasks * (1 + blocks_a_wave), sizes);
  (void)attention.fill_tiles(memory.list.tiles);
  attend_split(machine, attention, {memory.list.tiles, static_cast<size_t>(n_tiles)}, memory, blocks_a_wave);
}

}  // namespace millrace::cpu
