// compress_kv: first every row is stored, then each row that ends a run makes its entry, a task each.
#include <algorithm>
#include <cmath>

#include "backend/cpu/compute.h"
#include "backend/cpu/pages.h"
#include "backend/cpu/sin_cos.h"

namespace millrace::cpu {
namespace {

struct EntryScratch {
  EntryScratch(Carver& carver, const CompressKv& op)
      : row(carver.take<float>(2 * op.kv.dim(1))),
        bias(carver.take<float>(op.kv.dim(1))),
        values(carver.take<float>(2 * op.bias.dim(0) * op.entry_pages.dim(3))),
        weights(carver.take<float>(2 * op.bias.dim(0) * op.entry_pages.dim(3))),
        entry(carver.take<float>(op.entry_pages.dim(3))),
        sum(carver.take<float>(op.entry_pages.dim(3))) {}

  float* row;      // (2 * width) as stored
  float* bias;     // (width)
  float* values;   // (parts, head_dim)
  float* weights;  // (parts, head_dim)
  float* entry;    // (head_dim)
  float* sum;      // (head_dim)
};

class Compressor {
 public:
  Compressor(const Kernels& kernels, const CompressKv& op)
      : kernels_(kernels),
        op_(op),
        stride_(op.bias.dim(0)),
        width_(op.kv.dim(1)),
        head_dim_(op.entry_pages.dim(3)) {}

  void store(int64_t r) const {
    const PageReader pages(op_.row_pages, op_.batch, op_.batch.seq_of_row.i32()[r]);
    const auto store_half = kernels_.pages[static_cast<size_t>(op_.row_pages.dtype)].store;
    std::byte* row = pages.at(op_.batch.positions.i32()[r], 0);
    store_half(op_.kv.f32() + r * width_, row, width_);
    store_half(op_.gate.f32() + r * width_, row + op_.row_pages.row_bytes() / 2, width_);
  }

  void make_entry(int64_t seq, int64_t number, const EntryScratch& scratch) const {
    mix(seq, number, scratch);
    if (op_.norm) {
      kernels_.rms_norm({.x = scratch.entry,
                         .weight = op_.norm.f32(),
                         .out = scratch.entry,
                         .n = head_dim_,
                         .eps = op_.norm_eps});
    }
    rotate(number * stride_, scratch.entry);
    const EntryReader entries(op_.entry_pages, op_.batch, seq, {stride_, op_.row_pages.dim(2)});
    kernels_.pages[static_cast<size_t>(op_.entry_pages.dtype)].store(scratch.entry, entries.at(number),
                                                                     head_dim_);
  }

 private:
  // Decodes the halves that the entry mixes; returns how many parts there are.
  int64_t gather(int64_t seq, int64_t number, const EntryScratch& scratch) const {
    const bool has_halves = width_ > head_dim_;
    const PageReader pages(op_.row_pages, op_.batch, seq);
    int64_t n_parts = 0;
    for (int64_t run = has_halves && number > 0 ? number - 1 : number; run <= number; ++run) {
      const int64_t first = has_halves && run == number ? head_dim_ : 0;
      for (int64_t i = 0; i < stride_; ++i, ++n_parts) {
        format_of(op_.row_pages.dtype).decode(pages.at(run * stride_ + i, 0), scratch.row, 2 * width_);
        format_of(op_.bias.dtype).decode(op_.bias.row(i), scratch.bias, width_);
        float* weights = scratch.weights + n_parts * head_dim_;
        std::copy_n(scratch.row + first, head_dim_, scratch.values + n_parts * head_dim_);
        std::copy_n(scratch.row + width_ + first, head_dim_, weights);
        kernels_.add(weights, scratch.bias + first, head_dim_);
      }
    }
    return n_parts;
  }

  // entry = sum over parts, in order, of softmax(weights) * values, dimension by dimension.
  void mix(int64_t seq, int64_t number, const EntryScratch& scratch) const {
    const int64_t n_parts = gather(seq, number, scratch);
    float* most = scratch.entry;
    std::copy_n(scratch.weights, head_dim_, most);
    for (int64_t p = 1; p < n_parts; ++p) {
      const float* logits = scratch.weights + p * head_dim_;
      for (int64_t i = 0; i < head_dim_; ++i) most[i] = std::max(most[i], logits[i]);
    }
    for (int64_t p = 0; p < n_parts; ++p) {
      float* logits = scratch.weights + p * head_dim_;
      for (int64_t i = 0; i < head_dim_; ++i) logits[i] -= most[i];
      kernels_.exp(logits, head_dim_);
    }
    std::fill_n(scratch.entry, head_dim_, 0.0f);
    std::fill_n(scratch.sum, head_dim_, 0.0f);
    for (int64_t p = 0; p < n_parts; ++p) {
      const float* weights = scratch.weights + p * head_dim_;
      const float* values = scratch.values + p * head_dim_;
      for (int64_t i = 0; i < head_dim_; ++i) {
        scratch.sum[i] += weights[i];
        scratch.entry[i] += weights[i] * values[i];
      }
    }
    for (int64_t i = 0; i < head_dim_; ++i) scratch.entry[i] /= scratch.sum[i];
  }

  void rotate(int64_t position, float* entry) const {
    const int64_t n_pairs = op_.rope.inv_freq ? op_.rope.inv_freq.dim(1) : 0;
    for (int64_t i = 0; i < n_pairs; ++i) {
      const double frequency = op_.rope.inv_freq.f32()[i];
      const SinCos at = sin_cos(static_cast<double>(position) * frequency);
      const auto cos = static_cast<float>(at.cos * op_.rope.magnitude[0]);
      const auto sin = static_cast<float>(at.sin * op_.rope.magnitude[0]);
      float* pair = entry + op_.rope_begin + 2 * i;
      const float a = pair[0], b = pair[1];
      pair[0] = a * cos - b * sin;
      pair[1] = b * cos + a * sin;
    }
  }

  const Kernels& kernels_;
  const CompressKv& op_;
  int64_t stride_;
  int64_t width_;
  int64_t head_dim_;
};

}  // namespace

void compute(Machine& machine, const CompressKv& op) {
  const Compressor compressor(machine.kernels, op);
  const int64_t n_rows = op.batch.n_rows(), stride = op.bias.dim(0);
  machine.scratch.reserve<EntryScratch>(op);
  for_each_row(machine, n_rows, 2 * op.kv.dim(1), [&](int64_t r, int) { compressor.store(r); });
  // A row that ends no run costs nothing.
  for_each_row(machine, n_rows, 8 * op.kv.dim(1), [&](int64_t r, int thread) {
    const int64_t n_past = op.batch.positions.i32()[r] + 1;
    if (n_past % stride != 0) return;
    compressor.make_entry(op.batch.seq_of_row.i32()[r], n_past / stride - 1,
                          machine.scratch.of_thread<EntryScratch>(thread, op));
  });
}

}  // namespace millrace::cpu
