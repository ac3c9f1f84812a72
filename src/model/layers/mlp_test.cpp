// Mixtures of experts of one or two numbers, worked out by hand.
#include "model/layers/mlp.h"

#include <gtest/gtest.h>

#include <cmath>

namespace millrace {
namespace {

using Floats = std::vector<float>;

Tensor view(Floats& values, std::initializer_list<int64_t> dims) { return {values.data(), Dtype::f32, dims}; }

double silu(double x) { return x / (1 + std::exp(-x)); }

// One row of one number, and experts of one number each.
struct Mixture {
  Mixture() {
    moe.hidden = moe.n_ff = moe.n_experts = moe.n_used = 1;
    moe.router = view(router, {1, 1});
    moe.gate = view(gate, {1, 1, 1});
    moe.up = view(up, {1, 1, 1});
    moe.down = view(down, {1, 1, 1});
  }
  void add_shared() {
    moe.shared = {.hidden = 1,
                  .n_ff = 1,
                  .gate = view(one, {1, 1}),
                  .up = view(one, {1, 1}),
                  .down = view(one, {1, 1})};
  }
  float run() {
    const auto backend = make_reference_backend();
    std::vector<std::byte> memory(4096);
    Arena arena(memory.data(), memory.size());
    const Batch batch;
    const KvCache kv({});
    const StateCache states({});
    run_moe({.backend = *backend, .arena = arena, .batch = batch, .kv = kv, .states = states}, moe,
            view(x, {1, 1}), view(out, {1, 1}));
    return out[0];
  }

  Floats x{2}, router{0}, gate{1}, up{3}, down{10}, one{1}, zero{0}, out{0};
  Moe moe;
};

TEST(Moe, ExpertsAreWeighedByTheRouter) {
  Mixture mixture;
  EXPECT_NEAR(mixture.run(), silu(2) * 6 * 10, 1e-3);
  mixture.moe.score = RouteScore::sigmoid;  // of 0
  mixture.moe.is_renormalised = false;
  mixture.moe.scale = 3;
  EXPECT_NEAR(mixture.run(), 0.5 * 3 * silu(2) * 6 * 10, 1e-3);
}

TEST(Moe, OrTheirInputIs) {
  Mixture mixture;
  mixture.moe.score = RouteScore::sigmoid;
  mixture.moe.is_renormalised = false;
  mixture.moe.weighs_input = true;  // 0.5 * 2
  EXPECT_NEAR(mixture.run(), silu(1) * 3 * 10, 1e-3);
}

TEST(Moe, ASharedExpertIsAdded) {
  Mixture mixture;
  mixture.add_shared();
  EXPECT_NEAR(mixture.run(), silu(2) * 6 * 10 + silu(2) * 2, 1e-3);
  mixture.moe.shared_gate = view(mixture.zero, {1, 1});  // sigmoid(0) of it
  EXPECT_NEAR(mixture.run(), silu(2) * 6 * 10 + 0.5 * silu(2) * 2, 1e-3);
}

}  // namespace
}  // namespace millrace
