#include "kv/kv_cache.h"

#include <gtest/gtest.h>

#include <set>

namespace millrace {
namespace {

KvCache::Shape mixed_shape(Dtype dtype) {
  return {.layers = {{.n_kv_heads = 2, .k_head_dim = 16, .v_head_dim = 16},
                     {.n_kv_heads = 1, .k_head_dim = 24, .v_head_dim = 9},
                     {.n_kv_heads = 3, .k_head_dim = 80, .v_head_dim = 64}},
          .n_pages = 5,
          .page_size = 3,
          .dtype = dtype};
}

TEST(KvCache, CountsItsBytesExactly) {
  // 5 pages of 3 positions: 15 vectors a head, of 2 bytes an element, each tensor rounded up to 64 bytes.
  const int64_t expected = 960 + 960 + 768 + 320 + 7232 + 5760;
  EXPECT_EQ(KvCache::n_bytes(mixed_shape(Dtype::f16)), expected);
  EXPECT_EQ(KvCache::n_bytes(mixed_shape(Dtype::bf16)), expected);
}

TEST(KvCache, GivesEveryLayerAlignedPagesOfItsOwn) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::bf16}) {
    const KvCache cache(mixed_shape(dtype));
    const std::byte* end = nullptr;
    for (int64_t i = 0; i < 3; ++i) {
      const KvLayer& layer = cache.shape().layers[static_cast<size_t>(i)];
      for (const Tensor& pages : {cache.layer(i).k, cache.layer(i).v}) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(pages.data) % 64, 0u);
        EXPECT_GE(pages.data, end);
        EXPECT_EQ(pages.dtype, dtype);
        end = pages.data + pages.n_bytes();
      }
      EXPECT_EQ(cache.layer(i).k.shape, (std::array<int64_t, 4>{5, layer.n_kv_heads, 3, layer.k_head_dim}));
      EXPECT_EQ(cache.layer(i).v.shape, (std::array<int64_t, 4>{5, layer.n_kv_heads, 3, layer.v_head_dim}));
    }
    EXPECT_LE(end - cache.layer(0).k.data, KvCache::n_bytes(cache.shape()));
    *const_cast<std::byte*>(end - 1) = std::byte{1};  // the last byte is ours
  }
}

TEST(KvCache, KeepsNoValuesWhereTheyArePartOfTheKeys) {
  const KvCache cache({.layers = {{.n_kv_heads = 1, .k_head_dim = 32, .v_head_dim = 0}},
                       .n_pages = 2,
                       .page_size = 4,
                       .dtype = Dtype::f32});
  EXPECT_FALSE(cache.layer(0).v);
  EXPECT_EQ(KvCache::n_bytes(cache.shape()), 2 * 4 * 32 * 4);
}

TEST(KvCache, KeepsVectorsBesideThemOncePerStride) {
  const KvCache cache(
      {.layers = {{.n_kv_heads = 1,
                   .k_head_dim = 32,
                   .v_head_dim = 0,
                   .sides = {{.width = 8}, {.width = 16, .stride = 2}, {.width = 4, .stride = 12}}}},
       .n_pages = 2,
       .page_size = 4,
       .dtype = Dtype::f32});
  const std::vector<Tensor>& sides = cache.layer(0).sides;
  EXPECT_EQ(sides[0].shape, (std::array<int64_t, 4>{2, 1, 4, 8}));
  EXPECT_EQ(sides[1].shape, (std::array<int64_t, 4>{2, 1, 2, 16}));
  EXPECT_EQ(sides[2].shape, (std::array<int64_t, 4>{2, 1, 1, 4}));
  EXPECT_EQ(KvCache::n_bytes(cache.shape()), 1024 + 256 + 256 + 64);
}

TEST(KvCache, CopiesAPageOfEveryTensorAndNoOther) {
  KvCache cache({.layers = {{.n_kv_heads = 2, .k_head_dim = 3, .v_head_dim = 5},
                            {.n_kv_heads = 0, .k_head_dim = 0, .v_head_dim = 0},
                            {.n_kv_heads = 1, .k_head_dim = 4, .v_head_dim = 0, .sides = {{.width = 7}}}},
                 .n_pages = 3,
                 .page_size = 4,
                 .dtype = Dtype::f32});
  const std::vector<Tensor> tensors{cache.layer(0).k, cache.layer(0).v, cache.layer(2).k,
                                    cache.layer(2).sides.at(0)};
  for (const Tensor& tensor : tensors) {
    const int64_t n = tensor.n_bytes() / 4 / 3;  // elements a page
    for (int64_t i = 0; i < 3 * n; ++i) tensor.f32()[i] = static_cast<float>(i);
  }
  cache.copy_page(0, 2);
  for (const Tensor& tensor : tensors) {
    const int64_t n = tensor.n_bytes() / 4 / 3;
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(tensor.f32()[i], static_cast<float>(i));
      EXPECT_EQ(tensor.f32()[n + i], static_cast<float>(n + i));
      EXPECT_EQ(tensor.f32()[2 * n + i], static_cast<float>(i));
    }
  }
}

TEST(KvCache, LayersWithAWindowHavePanes) {
  KvCache cache({.layers = {{.n_kv_heads = 1, .k_head_dim = 16, .v_head_dim = 16},
                            {.n_kv_heads = 2, .k_head_dim = 8, .v_head_dim = 8, .window = 9}},
                 .n_pages = 6,
                 .page_size = 4,
                 .dtype = Dtype::f32,
                 .n_panes = 3});
  EXPECT_FALSE(cache.layer(0).are_panes);
  EXPECT_TRUE(cache.layer(1).are_panes);
  EXPECT_EQ(cache.layer(0).k.dim(0), 6);
  EXPECT_EQ(cache.layer(1).v.dim(0), 3);
  EXPECT_EQ(KvCache::n_bytes(cache.shape()), (6 + 3) * 2 * 4 * 16 * 4);
  float* of_pages = cache.layer(0).k.f32();
  float* of_panes = cache.layer(1).k.f32();
  const auto fill = [&] {
    std::fill_n(of_pages, 6 * 64, 1.0f);
    std::fill_n(of_panes, 3 * 64, 1.0f);
    std::fill_n(of_pages + 64, 64, 2.0f);
    std::fill_n(of_panes + 64, 64, 2.0f);
  };
  fill();
  cache.copy_page(1, 2);
  EXPECT_EQ(of_pages[2 * 64], 2.0f);
  EXPECT_EQ(of_panes[2 * 64], 1.0f);
  fill();
  cache.copy_pane(1, 2);
  EXPECT_EQ(of_pages[2 * 64], 1.0f);
  EXPECT_EQ(of_panes[2 * 64], 2.0f);
}

TEST(KvCache, SidesHaveWindowsOfTheirOwn) {
  const KvCache cache({.layers = {{.n_kv_heads = 1,
                                   .k_head_dim = 16,
                                   .v_head_dim = 0,
                                   .sides = {{.width = 8, .window = 5}, {.width = 8, .stride = 2}}}},
                       .n_pages = 6,
                       .page_size = 4,
                       .dtype = Dtype::f32,
                       .n_panes = 3});
  EXPECT_EQ(longest_window(cache.shape().layers), 5);
  const KvPages& layer = cache.layer(0);
  EXPECT_EQ(layer.k.dim(0), 6);
  EXPECT_EQ(layer.sides[0].dim(0), 3);
  EXPECT_EQ(layer.sides[1].dim(0), 6);
  const auto pages = cache.parts_of_page(1), panes = cache.parts_of_pane(1);
  ASSERT_EQ(pages.size(), 2u);
  EXPECT_EQ(pages[1].data(), layer.sides[1].data + 2 * 8 * 4);
  ASSERT_EQ(panes.size(), 1u);
  EXPECT_EQ(panes[0].data(), layer.sides[0].data + 4 * 8 * 4);
}

TEST(KvCache, KeepsWholeBlocksOfQuantisedTypes) {
  KvCache::Shape shape{.layers = {{.n_kv_heads = 2, .k_head_dim = 64, .v_head_dim = 32}},
                       .n_pages = 2,
                       .page_size = 4,
                       .dtype = Dtype::q8_0};
  EXPECT_EQ(KvCache::n_bytes(shape), 2 * 2 * 4 * (2 * 34) + 576);
  EXPECT_EQ(KvCache(shape).layer(0).v.row_bytes(), 34);
  shape.dtype = Dtype::q4_0;
  EXPECT_EQ(KvCache::n_bytes(shape), 2 * 2 * 4 * (2 * 18) + 320);
}

TEST(KvCache, RefusesPartsOfBlocksWithASentence) {
  for (const KvLayer& layer :
       {KvLayer{.n_kv_heads = 1, .k_head_dim = 80, .v_head_dim = 64},
        KvLayer{.n_kv_heads = 1, .k_head_dim = 64, .v_head_dim = 80},
        KvLayer{.n_kv_heads = 1, .k_head_dim = 64, .v_head_dim = 64, .sides = {{.width = 80}}}}) {
    const KvCache::Shape shape{.layers = {layer}, .n_pages = 1, .page_size = 4, .dtype = Dtype::q8_0};
    try {
      KvCache{shape};
      FAIL() << "a row of 80 is no whole blocks";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_NE(std::string(error.what()).find("blocks of 32 elements"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("80"), std::string::npos) << error.what();
    }
  }
}

TEST(KvCache, RefusesWhatDoesNotFit) {
  KvCache::Shape shape = mixed_shape(Dtype::f32);
  shape.n_pages = int64_t{1} << 44;
  EXPECT_THROW(KvCache{shape}, Error);
}

}  // namespace
}  // namespace millrace
