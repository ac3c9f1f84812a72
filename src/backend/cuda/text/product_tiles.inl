// What comes before the kernels of products: columns in tiles, x rounded once, the choice of a kernel.
#include <algorithm>

#include "backend/cuda/text/product.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

bool is_in_floats(const Product& product) { return product.keeps_floats || product.dtype == Dtype::f32; }

// Whether x can be loaded by 16 bytes, so that the kernel for few columns can round it itself.
bool has_wide_rows(const Product& p) {
  return p.n_in % 8 == 0 && p.x_stride % 4 == 0 && reinterpret_cast<uintptr_t>(p.x) % 16 == 0;
}

struct RoundArguments {
  const float* x;  // (n_rows, n_in), rows x_stride elements apart
  int64_t x_stride, n_in;
  uint16_t* out;  // (n_rows, n_rounded_cols(n_in))
  int64_t n;      // elements of out
};

__global__ void round_kernel(RoundArguments a) {
  const int64_t at = (block_x() * n_threads() + thread_index()) * 8;
  if (at >= a.n) return;
  const int64_t n_cols = n_rounded_cols(a.n_in), row = at / n_cols, first = at % n_cols;
  Eight values = {};
  if (first < a.n_in)
    Decoder<Dtype::f32>::run(reinterpret_cast<const std::byte*>(a.x + row * a.x_stride), first, a.n_in,
                             values);
  store16(a.out + at, rounded(values));
}

// x of the product in bfloat16, in memory that is valid until the next call.
const uint16_t* round_inputs(Machine& machine, const Product& p) {
  const int64_t n = p.n_rows * n_rounded_cols(p.n_in);
  auto* const out = reinterpret_cast<uint16_t*>(machine.inputs.take(static_cast<size_t>(n) * 2));
  constexpr int kThreads = 256;
  launch(machine, round_kernel, {n_blocks_for(n, 8 * kThreads)}, kThreads, 0,
         RoundArguments{.x = p.x, .x_stride = p.x_stride, .n_in = p.n_in, .out = out, .n = n});
  return out;
}

struct GroupArguments {
  const int32_t* experts;  // (n_slots)
  int64_t n_slots, n_experts, max_tiles;
  int32_t width;
  int32_t* order;
  Tile* tiles;
};

// One block: counts the slots of each expert, whose sums say where its slots and tiles begin. In which order
// an expert has its slots is left to chance; results do not depend on it.
__global__ void group_kernel(GroupArguments a) {
  auto* n_of = reinterpret_cast<int32_t*>(shared_memory());  // (n_experts)
  int32_t* next = n_of + a.n_experts;                        // (n_experts) places in the order
  for (int64_t e = thread_index(); e < a.n_experts; e += n_threads()) n_of[e] = 0;
  sync_block();
  for (int64_t slot = thread_index(); slot < a.n_slots; slot += n_threads()) {
    const int32_t e = a.experts[slot];
    require(e >= 0 && e < a.n_experts);
    atomic_add(&n_of[e], 1);
  }
  sync_block();
  for (int64_t e = thread_index(); e < a.n_experts; e += n_threads()) {
    int32_t first = 0, tile = 0;
    for (int64_t before = 0; before < e; ++before) {
      first += n_of[before];
      tile += (n_of[before] + a.width - 1) / a.width;
    }
    next[e] = first;
    for (int32_t i = 0; i < n_of[e]; i += a.width)
      a.tiles[tile++] = {static_cast<int32_t>(e), first + i, least(a.width, n_of[e] - i)};
    if (e != a.n_experts - 1) continue;
    while (tile < a.max_tiles) a.tiles[tile++] = {0, 0, 0};
  }
  sync_block();
  for (int64_t slot = thread_index(); slot < a.n_slots; slot += n_threads())
    a.order[atomic_add(&next[a.experts[slot]], 1)] = static_cast<int32_t>(slot);
}

}  // namespace

void multiply(Machine& machine, std::span<const Product> products, const ExpertOrder* order) {
  if (products[0].n_columns == 0) return;
  const uint16_t* rounded = nullptr;
  for (const Product& p : products) {
    ProductArguments arguments{.product = p,
                               .width = kWidths[0],
                               .rounded = nullptr,
                               .order = nullptr,
                               .tiles = nullptr,
                               .n_tiles = p.n_columns};
    if (order != nullptr && order->max_tiles > 0) {
      arguments.width = order->width;
      arguments.order = order->order;
      arguments.tiles = order->tiles;
      arguments.n_tiles = order->max_tiles;
    } else if (p.columns != Columns::of_experts) {
      const int64_t n_sharing = p.n_columns / p.n_matrices;
      if (!is_in_floats(p)) arguments.width = width_for(n_sharing);
      arguments.n_tiles = n_blocks_for(n_sharing, arguments.width) * p.n_matrices;
    }
    if (is_in_floats(p)) {
      multiply_floats(machine, arguments);
      continue;
    }
    if (rounded == nullptr && (arguments.width > kWidths[0] || !has_wide_rows(p)))
      rounded = round_inputs(machine, p);
    arguments.rounded = rounded;
    multiply_bf16(machine, arguments);
  }
}

ExpertOrder::ExpertOrder(Machine& machine, const Tensor& experts, std::span<const Tensor> weights,
                         int64_t n_floats)
    : width(kWidths[0]) {
  const int64_t n_slots = experts.n_elems(), n_experts = weights[0].dim(0);
  constexpr int64_t kFewSlots = 16;
  if (std::ranges::none_of(weights, [](const Tensor& each) { return each.dtype == Dtype::f32; }))
    width = width_for(n_slots / n_experts);
  if (n_slots > kFewSlots) max_tiles = n_slots / width + least(n_slots, n_experts);
  const int64_t order_bytes = max_tiles > 0 ? aligned(n_slots * 4) : 0;
  const int64_t tile_bytes = aligned(max_tiles * static_cast<int64_t>(sizeof(Tile)));
  std::byte* memory = machine.scratch.take(static_cast<size_t>(order_bytes + tile_bytes + n_floats * 4));
  floats = reinterpret_cast<float*>(memory + order_bytes + tile_bytes);
  if (max_tiles == 0) return;
  order = reinterpret_cast<int32_t*>(memory);
  tiles = reinterpret_cast<Tile*>(memory + order_bytes);
  launch(machine, group_kernel, {1}, 256, static_cast<size_t>(2 * n_experts) * sizeof(int32_t),
         GroupArguments{.experts = experts.i32(),
                        .n_slots = n_slots,
                        .n_experts = n_experts,
                        .max_tiles = max_tiles,
                        .width = width,
                        .order = order,
                        .tiles = tiles});
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
