#include "kv/state_cache.h"

#include "tensor/layer_buffers.h"

namespace millrace {
namespace {

LayerState take_state(const StateLayer& layer, int64_t n_slots, Arena& arena) {
  const auto take = [&](std::initializer_list<int64_t> dims) { return arena.take(Dtype::f32, dims); };
  LayerState state;
  if (layer.n_v_heads == 0) return state;
  state.matrix = take({n_slots, layer.n_v_heads, layer.k_head_dim, layer.v_head_dim});
  state.conv_q = take({n_slots, layer.n_kept, layer.k_width});
  state.conv_k = take({n_slots, layer.n_kept, layer.k_width});
  state.conv_v = take({n_slots, layer.n_kept, layer.v_width});
  return state;
}

// The tensors of a layer, each with its name.
void for_each(const LayerState& state, int64_t layer, const auto& use) {
  if (!state.matrix) return;
  use(state.matrix, KeptName{layer, "matrix"});
  use(state.conv_q, KeptName{layer, "conv_q"});
  use(state.conv_k, KeptName{layer, "conv_k"});
  use(state.conv_v, KeptName{layer, "conv_v"});
}

}  // namespace

int64_t StateCache::n_bytes(const Shape& shape) {
  Arena arena;
  for (const StateLayer& layer : shape.layers) take_state(layer, shape.n_slots, arena);
  return static_cast<int64_t>(arena.used_bytes());
}

int64_t StateCache::n_bytes(const Shape& shape, Memory& memory, const Memory& part) {
  int64_t n_bytes = 0;
  for (size_t i = 0; i < shape.layers.size(); ++i) {
    Arena arena;
    for_each(take_state(shape.layers[i], shape.n_slots, arena), static_cast<int64_t>(i),
             [&](const Tensor& tensor, const KeptName& name) {
               n_bytes += aligned(memory.kept_bytes(tensor, name, part));
             });
  }
  return n_bytes;
}

StateCache::StateCache(Shape shape, Memory& memory)
    : shape_(std::move(shape)), layers_(shape_.layers.size()) {
  buffers_ = allocate_layers(memory, layers_.size(), [this](size_t i, Arena& arena) {
    layers_[i] = take_state(shape_.layers[i], shape_.n_slots, arena);
  });
  check(n_bytes_of(buffers_) == static_cast<size_t>(n_bytes(shape_)),
        "the cache is not as large as its plan");
  for (size_t i = 0; i < layers_.size(); ++i)
    for_each(layers_[i], static_cast<int64_t>(i),
             [&](const Tensor& tensor, const KeptName& name) { memory.keep(tensor, name); });
}

std::vector<std::span<std::byte>> StateCache::parts_of(int32_t slot) const {
  check(slot >= 0 && slot < shape_.n_slots, "a slot of the cache");
  std::vector<std::span<std::byte>> parts;
  for (const LayerState& layer : layers_) {
    for (const Tensor& slots : {layer.matrix, layer.conv_q, layer.conv_k, layer.conv_v}) {
      const int64_t n_bytes = slots ? slots.n_bytes() / shape_.n_slots : 0;
      if (n_bytes > 0) parts.emplace_back(slots.data + slot * n_bytes, static_cast<size_t>(n_bytes));
    }
  }
  return parts;
}

}  // namespace millrace
