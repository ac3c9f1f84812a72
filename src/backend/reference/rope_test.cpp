// The oracle against what one can work out by hand: rotation, and keys on their way to pages.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "backend/reference/by_hand.h"
#include "quant/half.h"

namespace millrace {
namespace {

using namespace testing;

// q of position 1 and k, v of one head, rotated by quarter turns (inv_freq pi / 2) and stored.
struct RopeCase {
  explicit RopeCase(RopePairing pairing) {
    op.batch = sequence.batch();
    op.q = view(q, {1, 1, 6});
    op.k = view(k, {1, 1, 6});
    op.v = view(v, {1, 1, 2});
    op.rope = {.inv_freq = view(inv_freq, {1, 2}), .pairing = pairing};
    op.k_pages = view(k_pages, {2, 1, 2, 6});
    op.v_pages = view(v_pages, {2, 1, 2, 2});
  }
  OneSequence sequence{1, 1, 2};
  Floats q{1, 2, 3, 4, 5, 6}, k{1, 0, 0, 0, 7, 8}, v{9, 10};
  Floats inv_freq{1.5707964f, 0}, k_pages = Floats(24), v_pages = Floats(8);
  RopeStoreKv op;
};

TEST(Reference, RotatesPairsAndStoresKeys) {
  RopeCase split(RopePairing::half_split);  // pairs (0, 2) and (1, 3); 4 and 5 stay
  compute(split.op);
  expect_near(split.q, {-3, 2, 1, 4, 5, 6});
  expect_near(split.k, {0, 0, 1, 0, 7, 8});
  // Position 1 is slot 1 of page 1.
  EXPECT_EQ(Floats(split.k_pages.begin() + 18, split.k_pages.end()), split.k);
  EXPECT_EQ(split.v_pages, (Floats{0, 0, 0, 0, 0, 0, 9, 10}));
  EXPECT_TRUE(std::all_of(split.k_pages.begin(), split.k_pages.begin() + 18, [](float x) { return x == 0; }));

  RopeCase adjacent(RopePairing::adjacent);  // pairs (0, 1) and (2, 3)
  compute(adjacent.op);
  expect_near(adjacent.q, {-2, 1, 3, 4, 5, 6});
  expect_near(adjacent.k, {0, 1, 0, 0, 7, 8});
}

TEST(Reference, ScalesRotationsAndQueries) {
  RopeCase magnified(RopePairing::adjacent);
  magnified.op.rope.magnitude[0] = 2;
  compute(magnified.op);
  expect_near(magnified.q, {-4, 2, 6, 8, 5, 6});

  RopeCase scaled(RopePairing::adjacent);
  scaled.op.rope.inv_freq = {};
  scaled.op.q_scale_beta = 0.5f;
  scaled.op.q_scale_length = 2;
  scaled.op.q_scale_offset = 3;  // floor((1 + 3) / 2) = 2
  compute(scaled.op);
  EXPECT_FLOAT_EQ(scaled.q[0], 1 + 0.5f * std::log(3.0f));
  EXPECT_EQ(scaled.k[0], 1);

  RopeCase normed(RopePairing::adjacent);
  Floats weight{1, 1, 1, 1, 1, 2};
  normed.op.q_norm = view(weight, {6});
  normed.op.norm_eps = 0;
  compute(normed.op);
  const float rms = std::sqrt(91.0f / 6);
  expect_near(normed.q, {-2 / rms, 1 / rms, 3 / rms, 4 / rms, 5 / rms, 12 / rms});
  expect_near(normed.k, {0, 1, 0, 0, 7, 8});
}

TEST(Reference, NormsTheFirstAndRotatesTheLastDimensions) {
  RopeCase latent(RopePairing::adjacent);  // pairs (2, 3) and (4, 5)
  Floats weight{1, 3};
  latent.op.k_norm = view(weight, {2});
  latent.op.norm_eps = 0;
  latent.op.rope_begin = 2;
  latent.op.v = {};
  latent.op.v_pages = {};
  latent.k = {1, 1, 1, 0, 7, 8};
  compute(latent.op);
  expect_near(latent.q, {1, 2, -4, 3, 5, 6});
  expect_near(latent.k, {1, 3, 0, 1, 7, 8});
}

TEST(Reference, RotatesQueriesAlone) {
  RopeCase alone(RopePairing::adjacent);
  alone.op.k = alone.op.v = alone.op.k_pages = alone.op.v_pages = {};
  compute(alone.op);
  expect_near(alone.q, {-2, 1, 3, 4, 5, 6});
}

// An angle of 3 million radians must not lose its fraction.
TEST(Reference, RotatesFarPositionsExactly) {
  RopeCase far(RopePairing::adjacent);
  far.inv_freq = {1, 0};
  far.sequence.positions[0] = 3000001;
  far.sequence.pages.assign(1500001, 0);
  far.op.batch = far.sequence.batch();
  compute(far.op);
  EXPECT_FLOAT_EQ(far.q[0], static_cast<float>(std::cos(3000001.0) - 2 * std::sin(3000001.0)));
}

TEST(Reference, RoundsKeysWhenItStoresThem) {
  RopeCase half(RopePairing::adjacent);
  half.op.rope.inv_freq = {};
  half.k[0] = 1.0005f;
  std::vector<uint16_t> k_pages(24), v_pages(8);
  half.op.k_pages = Tensor(k_pages.data(), Dtype::f16, {2, 1, 2, 6});
  half.op.v_pages = Tensor(v_pages.data(), Dtype::f16, {2, 1, 2, 2});
  compute(half.op);
  EXPECT_EQ(half.k[0], 1.0005f);
  EXPECT_EQ(k_pages[18], f16_of_float(1.0005f));
  EXPECT_EQ(v_pages[7], f16_of_float(10));
}

TEST(Reference, RotatesInPlaceWithoutPages) {
  RopeCase bare(RopePairing::adjacent);
  bare.op.v = bare.op.k_pages = bare.op.v_pages = {};
  compute(bare.op);
  expect_near(bare.q, {-2, 1, 3, 4, 5, 6});
  expect_near(bare.k, {0, 1, 0, 0, 7, 8});
  EXPECT_EQ(bare.k_pages, Floats(24));
}

}  // namespace
}  // namespace millrace
