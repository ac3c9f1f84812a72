#include "kv/state_cache.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace millrace {
namespace {

// An attention layer between two recurrent ones.
StateCache::Shape mixed_shape() {
  const StateLayer layer{
      .n_v_heads = 4, .k_head_dim = 16, .v_head_dim = 8, .n_kept = 3, .k_width = 32, .v_width = 32};
  return {.layers = {layer, {}, layer}, .n_slots = 5};
}

TEST(StateCache, CountsItsBytesExactly) {
  // 5 slots of float32: matrices of 4 * 16 * 8, inputs of 3 * 32 for q, k and v.
  EXPECT_EQ(StateCache::n_bytes(mixed_shape()), 2 * (10240 + 3 * 1920));
  EXPECT_EQ(StateCache::n_bytes({.layers = {}, .n_slots = 5}), 0);
}

TEST(StateCache, GivesEveryLayerZeroesOfItsOwn) {
  const StateCache cache(mixed_shape());
  const std::byte* end = nullptr;
  for (const int64_t i : {0, 2}) {
    const LayerState& layer = cache.layer(i);
    for (const Tensor& tensor : {layer.matrix, layer.conv_q, layer.conv_k, layer.conv_v}) {
      EXPECT_GE(tensor.data, end);
      EXPECT_EQ(tensor.f32()[tensor.n_elems() - 1], 0.0f);
      end = tensor.data + tensor.n_bytes();
    }
    EXPECT_EQ(layer.matrix.shape, (std::array<int64_t, 4>{5, 4, 16, 8}));
    EXPECT_EQ(layer.conv_v.shape, (std::array<int64_t, 4>{5, 3, 32, 1}));
  }
  EXPECT_FALSE(cache.layer(1).matrix);
}

TEST(StateCache, RefusesWhatDoesNotFit) {
  StateCache::Shape shape = mixed_shape();
  shape.n_slots = int64_t{1} << 44;
  EXPECT_THROW(StateCache{shape}, Error);
}

}  // namespace
}  // namespace millrace
