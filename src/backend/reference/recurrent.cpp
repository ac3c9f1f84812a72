// causal_conv and gated_delta_rule: what a sequence carries from row to row in a slot of its state.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/reference/compute.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {
namespace {

// Entry `slot` of the state, which sequence s goes on with: its own or a copy of where it comes from.
float* begin_state(const Tensor& state, const Batch& batch, int64_t s) {
  const int32_t from = batch.state_from.i32()[s], to = batch.state_to.i32()[s];
  check(from >= -1 && from < state.dim(0) && to >= 0 && to < state.dim(0), "a slot that is not there");
  const int64_t n = state.n_elems() / state.dim(0);
  float* out = state.f32() + to * n;
  if (from < 0) {
    std::fill_n(out, n, 0.0f);
  } else if (from != to) {
    std::copy_n(state.f32() + from * n, n, out);
  }
  return out;
}

// Calls body(s, begin, end) for each sequence that has rows.
template <class Body>
void for_each_sequence(const Batch& batch, const Body& body) {
  const int32_t* row_begin = batch.row_begin.i32();
  for (int64_t s = 0; s < batch.n_seqs(); ++s) {
    if (row_begin[s] < row_begin[s + 1]) body(s, int64_t{row_begin[s]}, int64_t{row_begin[s + 1]});
  }
}

struct Head {
  std::vector<double> q, k, decay;  // (k_head_dim)
  double beta;
};

// x / sqrt(sum(x^2) + 1e-6) * scale
std::vector<double> unit(const float* x, int64_t n, double scale) {
  std::vector<double> out(x, x + n);
  const double by = scale / std::sqrt(dot(x, x, n) + 1e-6);
  for (double& value : out) value *= by;
  return out;
}

double decay_of(const GatedDeltaRule& op, int64_t row, int64_t head, int64_t i) {
  const int64_t n_decays = op.decay.dim(2);
  const int64_t at = head * n_decays + (n_decays == 1 ? 0 : i);
  const double x =
      double{op.decay.f32()[row * op.decay.dim(1) * n_decays + at]} + double{op.decay_bias.f32()[at]};
  const double rate = op.rate.f32()[head];
  if (op.floor < 0) return std::exp(op.floor * activate(Activation::sigmoid, -rate * x));
  return std::exp(rate * (std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x)))));
}

Head read_head(const GatedDeltaRule& op, int64_t row, int64_t head) {
  const int64_t n_k_heads = op.k.dim(1), k_head_dim = op.k.dim(2), n_v_heads = op.v.dim(1);
  const int64_t key = op.key_heads == KeyHeads::tiled ? head % n_k_heads : head / (n_v_heads / n_k_heads);
  const int64_t at = (row * n_k_heads + key) * k_head_dim;
  Head out{.q = unit(op.q.f32() + at, k_head_dim, 1 / std::sqrt(static_cast<double>(k_head_dim))),
           .k = unit(op.k.f32() + at, k_head_dim, 1),
           .decay = {},
           .beta = activate(Activation::sigmoid, double{op.beta.f32()[row * n_v_heads + head]})};
  for (int64_t i = 0; i < k_head_dim; ++i) out.decay.push_back(decay_of(op, row, head, i));
  return out;
}

// One row of one head; `state` is (k_head_dim, v_head_dim).
void step(const Head& head, float* state, const float* v, float* out, int64_t v_head_dim) {
  const auto k_head_dim = static_cast<int64_t>(head.k.size());
  for (int64_t j = 0; j < v_head_dim; ++j) {
    const auto element = [&](int64_t i) {
      return double{state[i * v_head_dim + j]} * head.decay[static_cast<size_t>(i)];
    };
    double found = 0, sum = 0;
    for (int64_t i = 0; i < k_head_dim; ++i) found += element(i) * head.k[static_cast<size_t>(i)];
    const double delta = head.beta * (v[j] - found);
    for (int64_t i = 0; i < k_head_dim; ++i) {
      const double updated = element(i) + head.k[static_cast<size_t>(i)] * delta;
      state[i * v_head_dim + j] = static_cast<float>(updated);
      sum += updated * head.q[static_cast<size_t>(i)];
    }
    out[j] = static_cast<float>(sum);
  }
}

}  // namespace

void compute(const CausalConv& op) {
  const int64_t n_channels = op.x.dim(1), n_taps = op.weight.dim(1), n_kept = n_taps - 1;
  for_each_sequence(op.batch, [&](int64_t s, int64_t begin, int64_t end) {
    float* state = begin_state(op.state, op.batch, s);
    // The rows before `begin`, then those of the batch.
    std::vector<float> inputs(state, state + n_kept * n_channels);
    inputs.insert(inputs.end(), op.x.f32() + begin * n_channels, op.x.f32() + end * n_channels);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t c = 0; c < n_channels; ++c) {
        double sum = 0;
        for (int64_t j = 0; j < n_taps; ++j)
          sum += double{op.weight.f32()[c * n_taps + j]} *
                 double{inputs[static_cast<size_t>((r - begin + j) * n_channels + c)]};
        op.out.f32()[r * n_channels + c] = static_cast<float>(activate(Activation::silu, sum));
      }
    }
    std::copy(inputs.end() - n_kept * n_channels, inputs.end(), state);
  });
}

void compute(const GatedDeltaRule& op) {
  const int64_t n_v_heads = op.v.dim(1), v_head_dim = op.v.dim(2), n_state = op.k.dim(2) * v_head_dim;
  for_each_sequence(op.batch, [&](int64_t s, int64_t begin, int64_t end) {
    float* state = begin_state(op.state, op.batch, s);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t h = 0; h < n_v_heads; ++h) {
        const int64_t at = (r * n_v_heads + h) * v_head_dim;
        step(read_head(op, r, h), state + h * n_state, op.v.f32() + at, op.out.f32() + at, v_head_dim);
      }
    }
  });
}

}  // namespace millrace::reference
