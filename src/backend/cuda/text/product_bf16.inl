// Products in bfloat16 on tensor cores: weights of any format and x are rounded to it, sums are float32.
//
// The row of a weight is cut into kParts parts by its length alone. The products of a part are added in
// order, from zero, in steps of 32 elements; then the sums of the parts are, in order. So every kernel gives
// an output the same bits: with few columns a warp computes a part, with many a warp computes all parts one
// after another.
//
// In a step, lane 4 * g + t takes eight elements of the rows g and g + 8 of a tile of outputs, and of column
// g: 16 bytes of bfloat16 each, where they lie. They are the operands of two products of 16 elements, whose
// order does not matter as long as it is the same for both.
#include "backend/cuda/text/product.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

constexpr int kParts = 8;
constexpr int kOuts = 16, kColumns = 8;  // of an instruction

__device__ inline int n_steps_of(int64_t n_in) { return static_cast<int>(n_rounded_cols(n_in) / kStep); }
// Of a part: whole runs.
__device__ inline int n_part_steps_of(int64_t n_in) {
  return static_cast<int>((n_in + kParts * kRun - 1) / (kParts * kRun)) * kRunSteps;
}

template <Dtype kType>
constexpr bool kHasBlocks = kType != Dtype::f32&& kType != Dtype::f16&& kType != Dtype::bf16;

// Where the elements of lane t begin in a step. Where a format has blocks, those of four steps are
// neighbours: what a block says of them is decoded once.
template <Dtype kType>
constexpr int kStepDistance = kHasBlocks<kType> ? 8 : kStep;
template <Dtype kType>
__device__ inline int64_t first_of(int step, int t) {
  const auto at = static_cast<uint32_t>(step), lane = static_cast<uint32_t>(t);
  if constexpr (!kHasBlocks<kType>) return at * kStep + lane * 8;
  return at / kRunSteps * kRun + lane * kStep + at % kRunSteps * 8;
}

// The elements [first, first + 8) of a row. Beyond it, where x is zero: zeros, or the last ones of a format
// with blocks, so that a compiler sees what neighbours share.
template <Dtype kType>
__device__ inline Bytes16 eight_bf16(const std::byte* row, int64_t first, int64_t n_cols) {
  Eight values;
  if constexpr (kHasBlocks<kType>) {
    constexpr uint32_t kLeastBlock = 32;
    const auto at = static_cast<uint32_t>(first), last = static_cast<uint32_t>(n_cols - 1);
    Decoder<kType>::run(row, least(at / kLeastBlock, last / kLeastBlock) * kLeastBlock + at % kLeastBlock,
                        n_cols, values);
    return rounded(values);
  }
  if (first >= n_cols) return Bytes16{};
  if constexpr (kType == Dtype::bf16) {
    const std::byte* from = row + 2 * first;
    if (first + 8 <= n_cols && reinterpret_cast<uintptr_t>(from) % 16 == 0) return load16(from);
  }
  Decoder<kType>::run(row, first, n_cols, values);
  return rounded(values);
}

// sums += the step's elements of 16 outputs (rows g and g + 8) and 8 columns.
__device__ inline void multiply_step(float (&sums)[4], const Bytes16& low, const Bytes16& high,
                                     const Bytes16& x) {
  MILLRACE_UNROLL
  for (int i = 0; i < 4; i += 2) {
    const uint32_t weights[4] = {low.words[i], high.words[i], low.words[i + 1], high.words[i + 1]};
    const uint32_t columns[2] = {x.words[i], x.words[i + 1]};
    multiply_add(sums, weights, columns);
  }
}

// --- few columns: a block has kOutTiles tiles of outputs, a warp a part of their rows ---------------------

// Eight elements of a column as they are loaded: of x rounded, or as it is. What they become is asked later,
// so that loads do not wait for each other.
struct LoadedColumn {
  Bytes16 low, high;
};

// Where a lane finds its column; nowhere beyond the tile.
class ColumnPlace {
 public:
  ColumnPlace() = default;
  __device__ ColumnPlace(const ProductArguments& a, const Tile& tile, int i)
      : is_rounded_(a.rounded != nullptr), n_in_(a.product.n_in) {
    if (i >= tile.n) return;
    const Product& p = a.product;
    const int64_t row = column_of(a, tile, i) / p.n_sharing;
    if (a.rounded != nullptr) {
      rounded_ = a.rounded + row * n_rounded_cols(p.n_in);
    } else {
      floats_ = p.x + row * p.x_stride;
    }
  }

  __device__ LoadedColumn load(int64_t first) const {
    if (rounded_ != nullptr) return {load16(rounded_ + first), {}};
    if (floats_ == nullptr || first >= n_in_) return {};
    return {load16(floats_ + first), load16(floats_ + first + 4)};
  }
  __device__ Bytes16 bf16_of(const LoadedColumn& loaded) const {
    if (is_rounded_) return loaded.low;
    Eight values;
    for (int i = 0; i < 4; ++i) values[i] = std::bit_cast<float>(loaded.low.words[i]);
    for (int i = 0; i < 4; ++i) values[4 + i] = std::bit_cast<float>(loaded.high.words[i]);
    return millrace::cuda::MILLRACE_CUDA_TARGET::rounded(values);
  }

 private:
  bool is_rounded_ = false;  // every column of a block, or none
  const float* floats_ = nullptr;
  const uint16_t* rounded_ = nullptr;
  int64_t n_in_ = 0;
};

template <int kOutTiles, int kColumnTiles>
constexpr size_t kSumsBytes = sizeof(float) * kParts* kOutTiles* kOuts* kColumnTiles* kColumns;

constexpr int kNarrowThreads = kParts * kWarp;

// Two blocks fit into the registers of a processor where a block has one tile.
template <Dtype kType, int kOutTiles, int kColumnTiles>
__global__ void __launch_bounds__(kNarrowThreads, kOutTiles == 1 ? 2 : 1) narrow_kernel(ProductArguments a) {
  constexpr int kAhead = kColumnTiles == 1 ? 4 : 2;  // steps whose loads are on their way together
  static_assert(kRunSteps % kAhead == 0);
  constexpr int kBlockOuts = kOutTiles * kOuts, kBlockColumns = kColumnTiles * kColumns;
  const Product& p = a.product;
  const Tile tile = tile_of_block(a);
  if (tile.n == 0) return;
  require(tile.matrix >= 0 && tile.matrix < p.n_matrices);
  const int64_t first_out = block_y() * kBlockOuts;
  const int g = lane_index() / 4, t = lane_index() % 4;

  const std::byte* rows[kOutTiles][2];
  ColumnPlace columns[kColumnTiles];
  MILLRACE_UNROLL
  for (int m = 0; m < 2 * kOutTiles; ++m) {
    const int64_t out = least(first_out + m * 8 + g, p.n_out - 1);
    rows[m / 2][m % 2] = p.weight + tile.matrix * p.matrix_bytes + out * p.row_bytes;
  }
  MILLRACE_UNROLL
  for (int n = 0; n < kColumnTiles; ++n) columns[n] = ColumnPlace(a, tile, n * kColumns + g);

  float sums[kOutTiles][kColumnTiles][4] = {};
  const int n_part_steps = n_part_steps_of(p.n_in);
  const int begin = warp_index() * n_part_steps, end = least(n_steps_of(p.n_in), begin + n_part_steps);
  for (int step = begin; step < end; step += kAhead) {
    const int64_t first = first_of<kType>(step, t);
    Bytes16 weights[kAhead][kOutTiles][2];
    LoadedColumn x[kAhead][kColumnTiles];
    MILLRACE_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      MILLRACE_UNROLL
      for (int m = 0; m < 2 * kOutTiles; ++m)
        weights[i][m / 2][m % 2] =
            eight_bf16<kType>(rows[m / 2][m % 2], first + i * kStepDistance<kType>, p.n_in);
    }
    MILLRACE_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      MILLRACE_UNROLL
      for (int n = 0; n < kColumnTiles; ++n) x[i][n] = columns[n].load(first + i * kStepDistance<kType>);
    }
    converge_warp();
    MILLRACE_UNROLL
    for (int i = 0; i < kAhead; ++i) {
      MILLRACE_UNROLL
      for (int n = 0; n < kColumnTiles; ++n) {
        const Bytes16 column = columns[n].bf16_of(x[i][n]);
        MILLRACE_UNROLL
        for (int m = 0; m < kOutTiles; ++m)
          multiply_step(sums[m][n], weights[i][m][0], weights[i][m][1], column);
      }
    }
  }

  auto* const of_parts = reinterpret_cast<float*>(shared_memory());  // (kParts, kBlockColumns, kBlockOuts)
  MILLRACE_UNROLL
  for (int m = 0; m < kOutTiles; ++m) {
    MILLRACE_UNROLL
    for (int n = 0; n < kColumnTiles; ++n) {
      MILLRACE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int column = n * kColumns + 2 * t + i % 2, out = m * kOuts + g + i / 2 * 8;
        of_parts[(warp_index() * kBlockColumns + column) * kBlockOuts + out] = sums[m][n][i];
      }
    }
  }
  sync_block();
  for (int i = thread_index(); i < tile.n * kBlockOuts; i += n_threads()) {
    const int64_t out = first_out + i % kBlockOuts;
    if (out >= p.n_out) continue;
    float sum = 0.0f;
    for (int part = 0; part < kParts; ++part) sum += of_parts[part * kBlockColumns * kBlockOuts + i];
    write_output(p, tile.matrix, column_of(a, tile, i / kBlockOuts), out, sum);
  }
}

// --- many columns: a block has 128 outputs of 128 columns, a warp 64 of 32 --------------------------------

constexpr int kWide = kWidths[2], kWideWarps = 8, kWideThreads = kWideWarps * kWarp;
constexpr int kWarpOuts = 64, kWarpColumns = 32;
constexpr int kRing = 4;                                  // steps in shared memory
constexpr int kEighths = kStep / 8;                       // of a row, in a step
constexpr int kSideBytes = kWide * kStep * 2;             // of weights, or of x: (kWide, kStep) of a step
constexpr int kPieces = kWide * kEighths / kWideThreads;  // of 16 bytes that a thread brings of each
constexpr size_t kWideBytes = size_t{kRing} * 2 * kSideBytes;
static_assert(kWideBytes >= sizeof(float) * kWide * kWide && kWideBytes <= kMaxSharedBytes);

// Brings the elements of a step to shared memory: x by copies, weights by copies where they lie as they are
// needed, otherwise in two halves, so that the loads of one step are on their way while another is
// multiplied.
template <Dtype kType>
class Stager {
 public:
  __device__ Stager(const ProductArguments& a, const Tile& tile, int64_t first_out) : n_in_(a.product.n_in) {
    const Product& p = a.product;
    MILLRACE_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      const int row = piece(i) / kEighths;
      rows_[i] = p.weight + tile.matrix * p.matrix_bytes + least(first_out + row, p.n_out - 1) * p.row_bytes;
      columns_[i] =
          a.rounded + column_of(a, tile, least(row, tile.n - 1)) / p.n_sharing * n_rounded_cols(n_in_);
    }
  }

  __device__ void fetch(int step) {
    MILLRACE_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      const int64_t first = first_of<kType>(step, piece(i) % kEighths);
      copy16(place(step, i) + kSideBytes, columns_[i] + first);
      is_copied_[i] = false;
      if constexpr (kType == Dtype::bf16) {
        const std::byte* from = rows_[i] + 2 * first;
        is_copied_[i] = first + 8 <= n_in_ && reinterpret_cast<uintptr_t>(from) % 16 == 0;
        if (is_copied_[i]) copy16(place(step, i), from);
      }
      if (!is_copied_[i]) held_[i] = eight_bf16<kType>(rows_[i], first, n_in_);
    }
  }
  __device__ void store(int step) {
    MILLRACE_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      if (!is_copied_[i]) store16(place(step, i), held_[i]);
    }
  }

 private:
  __device__ static int piece(int i) { return i * kWideThreads + thread_index(); }
  __device__ static std::byte* place(int step, int i) {
    return shared_memory() + step % kRing * 2 * kSideBytes + piece(i) * 16;
  }

  int64_t n_in_;
  const std::byte* rows_[kPieces];
  const uint16_t* columns_[kPieces];
  Bytes16 held_[kPieces];
  bool is_copied_[kPieces];
};

constexpr int kOutTiles = kWarpOuts / kOuts, kColumnTiles = kWarpColumns / kColumns;

template <Dtype kType>
__global__ void wide_kernel(ProductArguments a) {
  const Product& p = a.product;
  const Tile tile = tile_of_block(a);
  if (tile.n == 0) return;
  require(tile.matrix >= 0 && tile.matrix < p.n_matrices);
  const int64_t first_out = block_y() * kWide;
  const int g = lane_index() / 4, t = lane_index() % 4;
  const int warp_out = warp_index() % 2 * kWarpOuts, warp_column = warp_index() / 2 * kWarpColumns;
  const bool has_outputs = first_out + warp_out < p.n_out && warp_column < tile.n;

  float sums[kOutTiles][kColumnTiles][4] = {}, of_part[kOutTiles][kColumnTiles][4] = {};
  const int n_steps = n_steps_of(p.n_in), n_part_steps = n_part_steps_of(p.n_in);
  Stager<kType> stager(a, tile, first_out);
  for (int step = 0; step < kRing - 1; ++step) {
    if (step < n_steps) {
      stager.fetch(step);
      stager.store(step);
    }
    commit_copies();
  }
  for (int step = 0, n_left = n_part_steps; step < n_steps; ++step) {
    wait_copies<kRing - 2>();
    sync_block();  // the step is there, and nobody reads any more what the next one to come overwrites
    const int coming = step + kRing - 1;
    if (coming < n_steps) stager.fetch(coming);
    commit_copies();
    if (has_outputs) {
      converge_warp();
      const std::byte* weights = shared_memory() + step % kRing * 2 * kSideBytes;
      Bytes16 x[kColumnTiles];
      MILLRACE_UNROLL
      for (int n = 0; n < kColumnTiles; ++n)
        x[n] = load16(weights + kSideBytes + (warp_column + n * kColumns + g) * 2 * kStep + 16 * t);
      MILLRACE_UNROLL
      for (int m = 0; m < kOutTiles; ++m) {
        const std::byte* row = weights + (warp_out + m * kOuts + g) * 2 * kStep + 16 * t;
        const Bytes16 low = load16(row), high = load16(row + 8 * 2 * kStep);
        MILLRACE_UNROLL
        for (int n = 0; n < kColumnTiles; ++n) multiply_step(of_part[m][n], low, high, x[n]);
      }
    }
    if (coming < n_steps) stager.store(coming);
    if (--n_left > 0 && step + 1 < n_steps) continue;
    n_left = n_part_steps;
    MILLRACE_UNROLL
    for (int i = 0; i < kOutTiles * kColumnTiles * 4; ++i) {
      float& own = of_part[i / (kColumnTiles * 4)][i / 4 % kColumnTiles][i % 4];
      sums[i / (kColumnTiles * 4)][i / 4 % kColumnTiles][i % 4] += own;
      own = 0.0f;
    }
  }

  wait_copies<0>();
  sync_block();
  auto* const all = reinterpret_cast<float*>(shared_memory());  // (kWide columns, kWide outputs)
  MILLRACE_UNROLL
  for (int i = 0; i < kOutTiles * kColumnTiles * 4; ++i) {
    const int m = i / (kColumnTiles * 4), n = i / 4 % kColumnTiles;
    const int column = warp_column + n * kColumns + 2 * t + i % 2,
              out = warp_out + m * kOuts + g + i % 4 / 2 * 8;
    all[column * kWide + out] = sums[m][n][i % 4];
  }
  sync_block();
  for (int i = thread_index(); i < tile.n * kWide; i += n_threads()) {
    const int64_t out = first_out + i % kWide;
    if (out < p.n_out) write_output(p, tile.matrix, column_of(a, tile, i / kWide), out, all[i]);
  }
}

template <Dtype kType>
void launch_bf16(Machine& machine, const ProductArguments& arguments) {
  const auto grid = [&](int n_outs) {
    return Grid{arguments.n_tiles, n_blocks_for(arguments.product.n_out, n_outs)};
  };
  if (arguments.width == kWidths[0]) {
    launch(machine, narrow_kernel<kType, 1, 1>, grid(kOuts), kNarrowThreads, kSumsBytes<1, 1>, arguments);
  } else if (arguments.width == kWidths[1]) {
    launch(machine, narrow_kernel<kType, 2, 4>, grid(2 * kOuts), kNarrowThreads, kSumsBytes<2, 4>, arguments);
  } else {
    launch(machine, wide_kernel<kType>, grid(kWide), kWideThreads, kWideBytes, arguments);
  }
}

}  // namespace

void multiply_bf16(Machine& machine, const ProductArguments& arguments) {
  with_weight_type(arguments.product.dtype, [&](auto type) {
    if constexpr (type.value != Dtype::f32) launch_bf16<type.value>(machine, arguments);
  });
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
