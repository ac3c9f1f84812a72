#include "kv/kv_cache.h"

#include <algorithm>

#include "backend/op_shapes.h"  // page_types

namespace millrace {
namespace {

// Of a page. A stride and a page that do not divide would leave vectors that lie across pages.
int64_t n_slots_of(const KvSide& side, const KvCache::Shape& shape) {
  check(shape.page_size % side.stride == 0 || side.stride % shape.page_size == 0,
        "a stride divides pages, or is whole pages");
  return std::max<int64_t>(1, shape.page_size / side.stride);
}

// The tensors of a layer, and where the next layer begins.
KvPages pages_at(const KvCache::Shape& shape, const KvLayer& layer, std::byte*& at) {
  const auto take = [&](int64_t n_heads, int64_t n_slots, int64_t width) {
    const Tensor pages(at, shape.dtype, {shape.n_pages, n_heads, n_slots, width});
    at += aligned(pages.n_bytes());
    return pages;
  };
  KvPages pages;
  pages.k = take(layer.n_kv_heads, shape.page_size, layer.k_head_dim);
  if (layer.v_head_dim > 0) pages.v = take(layer.n_kv_heads, shape.page_size, layer.v_head_dim);
  for (const KvSide& side : layer.sides) pages.sides.push_back(take(1, n_slots_of(side, shape), side.width));
  return pages;
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

int64_t KvCache::n_bytes(const Shape& shape) {
  int64_t n_bytes = 0;
  for (const KvLayer& layer : shape.layers) {
    need_whole_blocks(layer.k_head_dim, shape.dtype);
    need_whole_blocks(layer.v_head_dim, shape.dtype);
    for (const KvSide& side : layer.sides) need_whole_blocks(side.width, shape.dtype);
    const int64_t n_vectors = shape.n_pages * layer.n_kv_heads * shape.page_size;
    n_bytes += aligned(n_vectors * n_bytes_of(shape.dtype, layer.k_head_dim));
    n_bytes += aligned(n_vectors * n_bytes_of(shape.dtype, layer.v_head_dim));
    for (const KvSide& side : layer.sides)
      n_bytes += aligned(shape.n_pages * n_slots_of(side, shape) * n_bytes_of(shape.dtype, side.width));
  }
  return n_bytes;
}

KvCache::KvCache(Shape shape) : shape_(std::move(shape)), buffer_(static_cast<size_t>(n_bytes(shape_))) {
  check(std::ranges::find(page_types(), shape_.dtype) != page_types().end(), "a type that pages may have");
  std::byte* at = buffer_.data();
  for (const KvLayer& layer : shape_.layers) layers_.push_back(pages_at(shape_, layer, at));
  check(at == buffer_.data() + buffer_.n_bytes(), "the cache is not as large as its plan");
}

std::vector<std::span<std::byte>> KvCache::parts_of(int32_t page) const {
  check(page >= 0 && page < shape_.n_pages, "a page of the cache");
  std::vector<std::span<std::byte>> parts;
  const auto add = [&](const Tensor& pages) {
    if (!pages) return;  // values that are a part of the keys
    const int64_t n_bytes = pages.n_bytes() / shape_.n_pages;
    if (n_bytes > 0) parts.emplace_back(pages.data + page * n_bytes, static_cast<size_t>(n_bytes));
  };
  for (const KvPages& layer : layers_) {
    add(layer.k);
    add(layer.v);
    for (const Tensor& side : layer.sides) add(side);
  }
  return parts;
}

void KvCache::copy_page(int32_t from, int32_t to) {
  const auto sources = parts_of(from), targets = parts_of(to);
  for (size_t i = 0; i < sources.size(); ++i) std::ranges::copy(sources[i], targets[i].begin());
}

}  // namespace millrace
