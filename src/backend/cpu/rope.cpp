// rope_store_kv: a task is a row. Its cosines and sines are computed once for all heads.
#include <cmath>
#include <utility>

#include "backend/cpu/compute.h"
#include "backend/cpu/pages.h"
#include "backend/cpu/sin_cos.h"

namespace millrace::cpu {
namespace {

struct RowScratch {
  RowScratch(Carver& carver, int64_t n_pairs)
      : cos(carver.take<float>(n_pairs)), sin(carver.take<float>(n_pairs)) {}

  float* cos;
  float* sin;
};

void rotate_adjacent(float* x, const RowScratch& angles, int64_t n_pairs) {
  for (int64_t i = 0; i < n_pairs; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * angles.cos[i] - b * angles.sin[i];
    x[2 * i + 1] = b * angles.cos[i] + a * angles.sin[i];
  }
}

class RowRope {
 public:
  RowRope(const Kernels& kernels, const RopeStoreKv& op, int64_t row, const RowScratch& scratch)
      : kernels_(kernels), op_(op), row_(row), angles_(scratch), n_pairs_(n_pairs_of(op)) {
    const int32_t table = op.batch.rope_tables.i32()[op.batch.seq_of_row.i32()[row]];
    if (n_pairs_ == 0) return;
    check(table >= 0 && table < op.rope.inv_freq.dim(0), "a rope table that is not there");
    const float* inv_freq = op.rope.inv_freq.f32() + table * n_pairs_;
    for (int64_t i = 0; i < n_pairs_; ++i) {
      const SinCos at = sin_cos(static_cast<double>(position()) * static_cast<double>(inv_freq[i]));
      angles_.cos[i] = static_cast<float>(at.cos * op.rope.magnitude[table]);
      angles_.sin[i] = static_cast<float>(at.sin * op.rope.magnitude[table]);
    }
  }

  static int64_t n_pairs_of(const RopeStoreKv& op) { return op.rope.inv_freq ? op.rope.inv_freq.dim(1) : 0; }
  int32_t position() const { return op_.batch.positions.i32()[row_]; }

  // Norms and rotates every head of the row of x (n_rows, n_heads, head_dim).
  void transform(const Tensor& x, const Tensor& norm) const {
    const int64_t head_dim = x.dim(2);
    for (int64_t h = 0; h < x.dim(1); ++h) {
      float* head = x.f32() + (row_ * x.dim(1) + h) * head_dim;
      if (norm) {
        kernels_.rms_norm({.x = head,
                           .weight = norm.f32(),
                           .bias = nullptr,
                           .out = head,
                           .n = norm.dim(0),
                           .eps = op_.norm_eps});
      }
      float* rotated = head + op_.rope_begin;
      if (op_.rope.pairing == RopePairing::half_split)
        kernels_.rotate_halves(rotated, angles_.cos, angles_.sin, n_pairs_);
      else
        rotate_adjacent(rotated, angles_, n_pairs_);
    }
  }

  void scale_queries() const {
    if (op_.q_scale_beta == 0) return;
    const double steps =
        std::floor((static_cast<double>(position()) + op_.q_scale_offset) / op_.q_scale_length);
    const double scale = 1 + op_.q_scale_beta * std::log(1 + steps);
    const int64_t n = op_.q.dim(1) * op_.q.dim(2);
    kernels_.scale(op_.q.f32() + row_ * n, static_cast<float>(scale), n);
  }

  // Writes the heads of the row of x to their page.
  void store(const Tensor& x, const Tensor& pages) const {
    const int64_t head_dim = x.dim(2);
    const auto store_head = kernels_.pages[static_cast<size_t>(pages.dtype)].store;
    const PageReader reader(pages, op_.batch, op_.batch.seq_of_row.i32()[row_]);
    for (int64_t h = 0; h < x.dim(1); ++h)
      store_head(x.f32() + (row_ * x.dim(1) + h) * head_dim, reader.at(position(), h), head_dim);
  }

 private:
  const Kernels& kernels_;
  const RopeStoreKv& op_;
  int64_t row_;
  RowScratch angles_;
  int64_t n_pairs_;
};

}  // namespace

void compute(Machine& machine, const RopeStoreKv& op) {
  const int64_t n_pairs = RowRope::n_pairs_of(op);
  machine.scratch.reserve<RowScratch>(n_pairs);
  const int64_t row_elems = (op.q.dim(1) + 2 * op.k.dim(1)) * op.q.dim(2) + 32 * n_pairs;
  for_each_row(machine, op.batch.n_rows(), row_elems, [&](int64_t r, int thread) {
    const RowRope rope(machine.kernels, op, r, machine.scratch.of_thread<RowScratch>(thread, n_pairs));
    rope.transform(op.q, op.q_norm);
    rope.scale_queries();
    if (!op.k) return;
    rope.transform(op.k, op.k_norm);
    if (!op.k_pages) return;
    rope.store(op.k, op.k_pages);
    if (op.v) rope.store(op.v, op.v_pages);
  });
}

}  // namespace millrace::cpu
