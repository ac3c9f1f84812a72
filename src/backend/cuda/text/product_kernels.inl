#include "backend/cuda/text/product.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kWarpsABlock = 4;

struct ProductArguments {
  Product product;
  const int32_t* order;
  const Tile* tiles;
};

// Columns of the tile that this block computes, at most kColumns.
template <int kColumns>
__device__ inline Tile tile_of_block(const ProductArguments& a) {
  const Product& p = a.product;
  if (a.tiles != nullptr) return a.tiles[block_x()];
  if (p.columns == Columns::of_experts) {
    const auto slot = static_cast<int32_t>(block_x());
    return {p.experts[slot], slot, 1};
  }
  if (p.columns == Columns::of_heads) {
    const int64_t n_rows = p.n_columns / p.n_matrices, head = block_x() % p.n_matrices;
    const int64_t row = block_x() / p.n_matrices * kColumns;
    return {static_cast<int32_t>(head), static_cast<int32_t>(row * p.n_matrices + head),
            static_cast<int32_t>(least<int64_t>(kColumns, n_rows - row))};
  }
  const int64_t first = block_x() * kColumns;
  return {0, static_cast<int32_t>(first),
          static_cast<int32_t>(least<int64_t>(kColumns, p.n_columns - first))};
}

__device__ inline int64_t column_of(const ProductArguments& a, const Tile& tile, int i) {
  if (a.order != nullptr) return a.order[tile.first + i];
  return tile.first + i * (a.product.columns == Columns::of_heads ? a.product.n_matrices : 1);
}

__device__ inline void write_output(const Product& p, int32_t matrix, int64_t column, int64_t out,
                                    float sum) {
  float y = p.weigh != nullptr ? p.weigh[column] * sum : sum;
  if (p.bias != nullptr) y += p.bias[matrix * p.bias_stride + out];
  p.out[column * p.out_stride + out] = soft_capped(p.scale * activate(p.activation, y), p.softcap);
}

// kRows outputs of kColumns columns a warp.
template <Dtype kType, int kRows, int kColumns>
__global__ void product_kernel(ProductArguments a) {
  const Product& p = a.product;
  const int64_t first_out = (block_y() * kWarpsABlock + warp_index()) * kRows;
  const Tile tile = tile_of_block<kColumns>(a);
  if (first_out >= p.n_out || tile.n == 0) return;
  require(tile.matrix >= 0 && tile.matrix < p.n_matrices);

  const std::byte* rows[kRows];
  for (int r = 0; r < kRows; ++r)
    rows[r] = p.weight + tile.matrix * p.matrix_bytes + least(first_out + r, p.n_out - 1) * p.row_bytes;
  const std::byte* columns[kColumns];
  for (int c = 0; c < kColumns; ++c) {
    const int64_t column = column_of(a, tile, least(c, tile.n - 1));
    columns[c] = reinterpret_cast<const std::byte*>(p.x + column / p.n_sharing * p.x_stride);
  }
  float sums[kRows][kColumns] = {};
  for (int64_t first = 8 * lane_index(); first < p.n_in; first += 8 * kWarp) {
    Eight weights[kRows];
    for (int r = 0; r < kRows; ++r) Decoder<kType>::run(rows[r], first, p.n_in, weights[r]);
    for (int c = 0; c < kColumns; ++c) {
      if (c >= tile.n) continue;
      Eight x;
      Decoder<Dtype::f32>::run(columns[c], first, p.n_in, x);
      for (int r = 0; r < kRows; ++r)
        for (int i = 0; i < 8; ++i) sums[r][c] = fmaf(weights[r][i], x[i], sums[r][c]);
    }
  }
  // Lane r * kColumns + c keeps what it writes.
  static_assert(kRows * kColumns <= kWarp);
  float own = 0.0f;
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      if (c >= tile.n) continue;
      const float sum = warp_sum(sums[r][c]);
      if (lane_index() == r * kColumns + c) own = sum;
    }
  }
  const int r = lane_index() / kColumns, c = lane_index() % kColumns;
  if (r < kRows && c < tile.n && first_out + r < p.n_out)
    write_output(p, tile.matrix, column_of(a, tile, c), first_out + r, own);
}

template <int kRows, int kColumns>
void launch_product(Machine& machine, const ProductArguments& arguments, int64_t n_tiles) {
  const Product& p = arguments.product;
  const Grid grid{n_tiles, n_blocks_for(p.n_out, kWarpsABlock * kRows)};
  with_weight_type(p.dtype, [&](auto type) {
    launch(machine, product_kernel<type.value, kRows, kColumns>, grid, kWarpsABlock * kWarp, 0, arguments);
  });
}

struct GroupArguments {
  const int32_t* experts;  // (n_slots)
  int64_t n_slots, n_experts, max_tiles;
  int32_t* order;
  Tile* tiles;
};

// One block. A thread an expert counts its slots; their sums say where each expert's slots and tiles begin.
__global__ void group_kernel(GroupArguments a) {
  auto* n_of = reinterpret_cast<int32_t*>(shared_memory());  // (n_experts)
  for (int64_t e = thread_index(); e < a.n_experts; e += n_threads()) {
    int32_t n = 0;
    for (int64_t slot = 0; slot < a.n_slots; ++slot) n += a.experts[slot] == e ? 1 : 0;
    n_of[e] = n;
  }
  sync_block();
  for (int64_t e = thread_index(); e < a.n_experts; e += n_threads()) {
    int32_t first = 0, tile = 0;
    for (int64_t before = 0; before < e; ++before) {
      first += n_of[before];
      tile += (n_of[before] + kTileColumns - 1) / kTileColumns;
    }
    int32_t at = first;
    for (int64_t slot = 0; slot < a.n_slots; ++slot) {
      if (a.experts[slot] == e) a.order[at++] = static_cast<int32_t>(slot);
    }
    for (int32_t i = 0; i < n_of[e]; i += kTileColumns)
      a.tiles[tile++] = {static_cast<int32_t>(e), first + i, least(kTileColumns, n_of[e] - i)};
    if (e != a.n_experts - 1) continue;
    require(at == a.n_slots);  // every expert is there
    while (tile < a.max_tiles) a.tiles[tile++] = {0, 0, 0};
  }
}

}  // namespace

void multiply(Machine& machine, const Product& product, const ExpertOrder* order) {
  if (product.n_columns == 0) return;
  const bool has_order = order != nullptr && order->max_tiles > 0;
  ProductArguments arguments{product, has_order ? order->order : nullptr, has_order ? order->tiles : nullptr};
  if (has_order) return launch_product<4, kTileColumns>(machine, arguments, order->max_tiles);
  if (product.columns == Columns::of_experts)
    return launch_product<2, 1>(machine, arguments, product.n_columns);
  const int64_t n_rows = product.n_columns / product.n_matrices;  // that share a matrix
  if (n_rows == 1) return launch_product<2, 1>(machine, arguments, product.n_matrices);
  launch_product<4, kTileColumns>(machine, arguments,
                                  n_blocks_for(n_rows, kTileColumns) * product.n_matrices);
}

ExpertOrder::ExpertOrder(Machine& machine, const Tensor& experts, int64_t n_experts, int64_t n_floats) {
  const int64_t n_slots = experts.n_elems();
  constexpr int64_t kFewSlots = 16;
  if (n_slots > kFewSlots) max_tiles = n_slots / kTileColumns + least(n_slots, n_experts);
  const int64_t order_bytes = max_tiles > 0 ? aligned(n_slots * 4) : 0;
  const int64_t tile_bytes = aligned(max_tiles * static_cast<int64_t>(sizeof(Tile)));
  std::byte* memory = machine.scratch.take(static_cast<size_t>(order_bytes + tile_bytes + n_floats * 4));
  floats = reinterpret_cast<float*>(memory + order_bytes + tile_bytes);
  if (max_tiles == 0) return;
  order = reinterpret_cast<int32_t*>(memory);
  tiles = reinterpret_cast<Tile*>(memory + order_bytes);
  launch(machine, group_kernel, {1}, 256, static_cast<size_t>(n_experts) * sizeof(int32_t),
         GroupArguments{.experts = experts.i32(),
                        .n_slots = n_slots,
                        .n_experts = n_experts,
                        .max_tiles = max_tiles,
                        .order = order,
                        .tiles = tiles});
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
