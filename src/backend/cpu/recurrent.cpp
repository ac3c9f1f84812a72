// causal_conv and gated_delta_rule. A task is a stretch of channels or a head of one sequence, which goes
// through its rows in order: what it computes does not depend on how many of them are in the batch.
#include <algorithm>
#include <cmath>

#include "backend/cpu/compute.h"

namespace millrace::cpu {
namespace {

struct Slots {
  int32_t from, to;  // from: -1 at the beginning of a sequence
};

Slots slots_of(const Batch& batch, const Tensor& state, int64_t s) {
  const Slots slots{batch.state_from.i32()[s], batch.state_to.i32()[s]};
  check(slots.from >= -1 && slots.from < state.dim(0) && slots.to >= 0 && slots.to < state.dim(0),
        "a slot that is not there");
  return slots;
}

constexpr int64_t kChannels = 512;  // of a task
constexpr int64_t kMaxTaps = 8;

struct ConvScratch {
  ConvScratch(Carver& carver, int64_t n_taps)
      : taps(carver.take<float>(n_taps * kChannels)), before(carver.take<float>(n_taps * kChannels)) {}

  float* taps;    // (n_taps, kChannels): the weight, transposed
  float* before;  // (n_taps - 1, kChannels): inputs of the rows before the batch's
};

// Channels [first, first + n) of one sequence.
class ConvTask {
 public:
  ConvTask(const CausalConv& op, const Slots& slots, int64_t first, const ConvScratch& scratch)
      : op_(op),
        slots_(slots),
        first_(first),
        n_(std::min(kChannels, op.x.dim(1) - first)),
        n_kept_(op.weight.dim(1) - 1),
        scratch_(scratch) {
    const int64_t n_taps = op.weight.dim(1);
    const float* weight = op.weight.f32() + first_ * n_taps;
    for (int64_t j = 0; j < n_taps; ++j) {
      float* taps = scratch_.taps + j * kChannels;
      for (int64_t c = 0; c < n_; ++c) taps[c] = weight[c * n_taps + j];
    }
    for (int64_t j = 0; j < n_kept_; ++j) {
      float* before = scratch_.before + j * kChannels;
      if (slots_.from < 0) {
        std::fill_n(before, n_, 0.0f);
      } else {
        std::copy_n(kept(slots_.from, j), n_, before);
      }
    }
  }

  void run(const Kernels& kernels, int64_t begin, int64_t end) const {
    const float *taps[kMaxTaps], *inputs[kMaxTaps];
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t j = 0; j <= n_kept_; ++j) {
        taps[j] = scratch_.taps + j * kChannels;
        inputs[j] = input(r - n_kept_ + j, begin);
      }
      kernels.convolve({.taps = taps,
                        .inputs = inputs,
                        .n_taps = static_cast<int>(n_kept_ + 1),
                        .out = op_.out.f32() + r * op_.x.dim(1) + first_,
                        .n = n_});
    }
    for (int64_t j = 0; j < n_kept_; ++j)
      std::copy_n(input(end - n_kept_ + j, begin), n_, kept(slots_.to, j));
  }

 private:
  float* kept(int32_t slot, int64_t j) const {
    return op_.state.f32() + (slot * n_kept_ + j) * op_.x.dim(1) + first_;
  }
  // Inputs of row r, which may lie before the first row of the batch.
  const float* input(int64_t r, int64_t begin) const {
    if (r < begin) return scratch_.before + (r - begin + n_kept_) * kChannels;
    return op_.x.f32() + r * op_.x.dim(1) + first_;
  }

  const CausalConv& op_;
  Slots slots_;
  int64_t first_, n_, n_kept_;
  ConvScratch scratch_;
};

struct RuleScratch {
  RuleScratch(Carver& carver, int64_t k_head_dim)
      : q(carver.take<float>(k_head_dim)),
        k(carver.take<float>(k_head_dim)),
        decay(carver.take<float>(k_head_dim)) {}

  float *q, *k, *decay;  // (k_head_dim)
};

// x / sqrt(sum(x^2) + 1e-6) * scale; eight partial sums, joined in order.
void write_unit(const float* x, int64_t n, float scale, float* out) {
  float sums[8] = {};
  for (int64_t i = 0; i < n; ++i) sums[i % 8] += x[i] * x[i];
  float sum = 0.0f;
  for (const float part : sums) sum += part;
  const float by = scale / std::sqrt(sum + 1e-6f);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * by;
}

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// One value head of one sequence.
class RuleTask {
 public:
  RuleTask(const GatedDeltaRule& op, const Slots& slots, int64_t head, const RuleScratch& scratch)
      : op_(op),
        head_(head),
        key_head_(op.key_heads == KeyHeads::tiled ? head % op.k.dim(1) : head / (op.v.dim(1) / op.k.dim(1))),
        scratch_(scratch) {
    const int64_t n = op.k.dim(2) * op.v.dim(2);
    const auto state = [&](int32_t slot) { return op.state.f32() + (slot * op.v.dim(1) + head) * n; };
    state_ = state(slots.to);
    if (slots.from < 0) {
      std::fill_n(state_, n, 0.0f);
    } else if (slots.from != slots.to) {
      std::copy_n(state(slots.from), n, state_);
    }
  }

  void run(const Kernels& kernels, int64_t r) const {
    const int64_t k_head_dim = op_.k.dim(2), v_head_dim = op_.v.dim(2);
    const int64_t key = (r * op_.k.dim(1) + key_head_) * k_head_dim;
    const int64_t value = r * op_.v.dim(1) + head_;
    write_unit(op_.q.f32() + key, k_head_dim, 1.0f / std::sqrt(static_cast<float>(k_head_dim)), scratch_.q);
    write_unit(op_.k.f32() + key, k_head_dim, 1.0f, scratch_.k);
    write_decay(r);
    kernels.delta_rule({.state = state_,
                        .q = scratch_.q,
                        .k = scratch_.k,
                        .decay = scratch_.decay,
                        .v = op_.v.f32() + value * v_head_dim,
                        .out = op_.out.f32() + value * v_head_dim,
                        .beta = sigmoid(op_.beta.f32()[value]),
                        .k_head_dim = k_head_dim,
                        .v_head_dim = v_head_dim});
  }

 private:
  void write_decay(int64_t r) const {
    const int64_t n_decays = op_.decay.dim(2);
    const float* decay = op_.decay.f32() + (r * op_.v.dim(1) + head_) * n_decays;
    const float* bias = op_.decay_bias.f32() + head_ * n_decays;
    for (int64_t i = 0; i < n_decays; ++i) scratch_.decay[i] = factor(decay[i] + bias[i]);
    if (n_decays == 1) std::fill_n(scratch_.decay, op_.k.dim(2), scratch_.decay[0]);
  }
  float factor(float x) const {
    const float rate = op_.rate.f32()[head_];
    if (op_.floor < 0.0f) return std::exp(op_.floor * sigmoid(-rate * x));
    return std::exp(rate * (std::max(x, 0.0f) + std::log1p(std::exp(-std::fabs(x)))));
  }

  const GatedDeltaRule& op_;
  int64_t head_, key_head_;
  RuleScratch scratch_;
  float* state_;  // (k_head_dim, v_head_dim)
};

}  // namespace

void compute(Machine& machine, const CausalConv& op) {
  const int64_t n_taps = op.weight.dim(1);
  check(n_taps <= kMaxTaps, "a convolution longer than the cpu backend has room for");
  const int64_t n_stretches = (op.x.dim(1) + kChannels - 1) / kChannels;
  const int32_t* row_begin = op.batch.row_begin.i32();
  machine.scratch.reserve<ConvScratch>(n_taps);
  machine.pool.run(static_cast<int>(op.batch.n_seqs() * n_stretches), [&](int task, int thread) {
    const int64_t s = task / n_stretches;
    if (row_begin[s] == row_begin[s + 1]) return;
    const ConvTask conv(op, slots_of(op.batch, op.state, s), task % n_stretches * kChannels,
                        machine.scratch.of_thread<ConvScratch>(thread, n_taps));
    conv.run(machine.kernels, row_begin[s], row_begin[s + 1]);
  });
}

void compute(Machine& machine, const GatedDeltaRule& op) {
  const int64_t n_heads = op.v.dim(1), k_head_dim = op.k.dim(2);
  const int32_t* row_begin = op.batch.row_begin.i32();
  machine.scratch.reserve<RuleScratch>(k_head_dim);
  machine.pool.run(static_cast<int>(op.batch.n_seqs() * n_heads), [&](int task, int thread) {
    const int64_t s = task / n_heads;
    if (row_begin[s] == row_begin[s + 1]) return;
    const RuleTask rule(op, slots_of(op.batch, op.state, s), task % n_heads,
                        machine.scratch.of_thread<RuleScratch>(thread, k_head_dim));
    for (int64_t r = row_begin[s]; r < row_begin[s + 1]; ++r) rule.run(machine.kernels, r);
  });
}

}  // namespace millrace::cpu
