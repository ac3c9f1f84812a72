// Products in float32. A warp computes some outputs of some columns: each lane decodes eight elements of
// every 256 of a row and adds their products in order; then the lanes are joined. One column or many, the
// additions of an output are the same.
#include "backend/cuda/text/product.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kWarpsABlock = 4;

// kRows outputs of kColumns columns a warp. Weights are float32, or of any format.
template <bool kIsFloat32, int kRows, int kColumns>
__global__ void product_kernel(ProductArguments a) {
  const Product& p = a.product;
  const int64_t first_out = (block_y() * kWarpsABlock + warp_index()) * kRows;
  const Tile tile = tile_of_block(a);
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
    for (int r = 0; r < kRows; ++r) {
      if (kIsFloat32) {
        Decoder<Dtype::f32>::run(rows[r], first, p.n_in, weights[r]);
      } else {
        decode_any(p.dtype, rows[r], first, p.n_in, weights[r]);
      }
    }
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

template <bool kIsFloat32, int kRows, int kColumns>
void launch_product(Machine& machine, const ProductArguments& arguments) {
  const Grid grid{arguments.n_tiles, n_blocks_for(arguments.product.n_out, kWarpsABlock * kRows)};
  launch(machine, product_kernel<kIsFloat32, kRows, kColumns>, grid, kWarpsABlock * kWarp, 0, arguments);
}

}  // namespace

void multiply_floats(Machine& machine, const ProductArguments& arguments) {
  check(arguments.width == kWidths[0], "a width that is there in float32");
  const Product& p = arguments.product;
  // Whether a tile is one column.
  const bool is_narrow =
      arguments.tiles == nullptr && (p.columns == Columns::of_experts || p.n_columns == p.n_matrices);
  if (p.dtype == Dtype::f32) {
    is_narrow ? launch_product<true, 2, 1>(machine, arguments)
              : launch_product<true, 4, kWidths[0]>(machine, arguments);
  } else {
    is_narrow ? launch_product<false, 2, 1>(machine, arguments)
              : launch_product<false, 4, kWidths[0]>(machine, arguments);
  }
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
