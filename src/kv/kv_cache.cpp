#include "kv/kv_cache.h"

#include <algorithm>

#include "backend/op_shapes.h"  // page_types
#include "tensor/layer_buffers.h"

namespace millrace {
namespace {

// Of a page. A stride and a page that do not divide would leave vectors that lie across pages.
int64_t n_slots_of(const KvSide& side, const KvCache::Shape& shape) {
  check(shape.page_size % side.stride == 0 || side.stride % shape.page_size == 0,
        "a stride divides pages, or is whole pages");
  return std::max<int64_t>(1, shape.page_size / side.stride);
}

int64_t n_pages_of(int64_t window, const KvCache::Shape& shape) {
  return window > 0 ? shape.n_panes : shape.n_pages;
}

KvPages take_pages(const KvCache::Shape& shape, const KvLayer& layer, Arena& arena) {
  const auto take = [&](int64_t head_dim) {
    return arena.take(shape.dtype,
                      {n_pages_of(layer.window, shape), layer.n_kv_heads, shape.page_size, head_dim});
  };
  KvPages pages{.k = take(layer.k_head_dim), .v = {}, .sides = {}, .are_panes = layer.window > 0};
  if (layer.v_head_dim > 0) pages.v = take(layer.v_head_dim);
  for (const KvSide& side : layer.sides)
    pages.sides.push_back(
        arena.take(shape.dtype, {n_pages_of(side.window, shape), 1, n_slots_of(side, shape), side.width}));
  return pages;
}

// The tensors of a layer, each with its name.
void for_each(const KvPages& pages, int64_t layer, const auto& use) {
  use(pages.k, KeptName{layer, "k"});
  if (pages.v) use(pages.v, KeptName{layer, "v"});
  for (size_t i = 0; i < pages.sides.size(); ++i)
    use(pages.sides[i], KeptName{layer, fmt::format("side {}", i)});
}

void copy(const std::vector<std::span<std::byte>>& from, const std::vector<std::span<std::byte>>& to,
          Memory& memory) {
  for (size_t i = 0; i < from.size(); ++i) memory.copy(from[i].data(), to[i].data(), from[i].size());
}

void need_whole_blocks(int64_t width, Dtype dtype) {
  const Format& format = format_of(dtype);
  if (width % format.block_elems == 0) return;
  fail(ErrorKind::usage,
       "keys and values of {} are stored in blocks of {} elements, and the model has vectors of {}: choose "
       "f16, bf16 or f32 for it",
       format.name, format.block_elems, width);
}

}  // namespace

int64_t longest_window(std::span<const KvLayer> layers) {
  int64_t longest = 0;
  for (const KvLayer& layer : layers) {
    longest = std::max(longest, layer.window);
    for (const KvSide& side : layer.sides) longest = std::max(longest, side.window);
  }
  return longest;
}

int64_t KvCache::n_bytes(const Shape& shape) {
  Arena arena;
  for (const KvLayer& layer : shape.layers) {
    need_whole_blocks(layer.k_head_dim, shape.dtype);
    need_whole_blocks(layer.v_head_dim, shape.dtype);
    for (const KvSide& side : layer.sides) need_whole_blocks(side.width, shape.dtype);
    take_pages(shape, layer, arena);
  }
  return static_cast<int64_t>(arena.used_bytes());
}

int64_t KvCache::n_bytes(const Shape& shape, Memory& memory, const Memory& part) {
  int64_t n_bytes = 0;
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    Arena arena;
    for_each(take_pages(shape, shape.layers[i], arena), static_cast<int64_t>(i),
             [&](const Tensor& tensor, const KeptName& name) {
               n_bytes += aligned(memory.kept_bytes(tensor, name, part));
             });
  }
  return n_bytes;
}

KvCache::KvCache(Shape shape, Memory& memory)
    : shape_(std::move(shape)), memory_(memory), layers_(shape_.layers.size()) {
  check(std::ranges::find(page_types(), shape_.dtype) != page_types().end(), "a type that pages may have");
  const auto n_planned = static_cast<size_t>(n_bytes(shape_));  // first: it refuses
  buffers_ = allocate_layers(memory, layers_.size(), [this](size_t i, Arena& arena) {
    layers_[i] = take_pages(shape_, shape_.layers[i], arena);
  });
  check(n_bytes_of(buffers_) == n_planned, "the cache is not as large as its plan");
  for (size_t i = 0; i < layers_.size(); ++i)
    for_each(layers_[i], static_cast<int64_t>(i),
             [&](const Tensor& tensor, const KeptName& name) { memory.keep(tensor, name); });
}

std::vector<std::span<std::byte>> KvCache::parts_of(int32_t page, bool is_pane) const {
  const int64_t n_pages = is_pane ? shape_.n_panes : shape_.n_pages;
  check(page >= 0 && page < n_pages, "a page of the cache");
  std::vector<std::span<std::byte>> parts;
  const auto add = [&](const Tensor& pages) {
    if (!pages) return;  // values that are a part of the keys
    const int64_t n_bytes = pages.n_bytes() / n_pages;
    if (n_bytes > 0) parts.emplace_back(pages.data + page * n_bytes, static_cast<size_t>(n_bytes));
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto& [k, v, sides, are_panes] = layers_[i];
    if (are_panes == is_pane) {
      add(k);
      add(v);
    }
    for (size_t j = 0; j < sides.size(); ++j) {
      if ((shape_.layers[i].sides[j].window > 0) == is_pane) add(sides[j]);
    }
  }
  return parts;
}

std::vector<std::span<std::byte>> KvCache::parts_of_page(int32_t page) const { return parts_of(page, false); }
std::vector<std::span<std::byte>> KvCache::parts_of_pane(int32_t pane) const { return parts_of(pane, true); }

void KvCache::copy_page(int32_t from, int32_t to) { copy(parts_of_page(from), parts_of_page(to), memory_); }
void KvCache::copy_pane(int32_t from, int32_t to) { copy(parts_of_pane(from), parts_of_pane(to), memory_); }

}  // namespace millrace
