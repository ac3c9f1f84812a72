// Compressed keys: runs of positions become entries.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/reference/compute.h"
#include "backend/reference/pages.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {
namespace {

// One row of a run as an entry mixes it.
struct Part {
  std::vector<float> row;   // (2 * width): kv, gate
  std::vector<float> bias;  // (width)
  int64_t first;            // of the half that the entry takes
};

// What entry `entry` of sequence `seq` is made of.
std::vector<Part> parts_of(const CompressKv& op, int64_t seq, int64_t entry) {
  const int64_t stride = op.bias.dim(0), width = op.kv.dim(1), head_dim = op.entry_pages.dim(3);
  const bool has_halves = width > head_dim;
  std::vector<Part> parts;
  for (int64_t run = has_halves && entry > 0 ? entry - 1 : entry; run <= entry; ++run) {
    for (int64_t i = 0; i < stride; ++i) {
      Part part{.row = std::vector<float>(static_cast<size_t>(2 * width)),
                .bias = std::vector<float>(static_cast<size_t>(width)),
                .first = has_halves && run == entry ? head_dim : 0};
      const std::byte* row = page_row(op.row_pages, op.batch, seq, run * stride + i, 0);
      format_of(op.row_pages.dtype).decode(row, part.row.data(), 2 * width);
      decode_row(op.bias, i, part.bias);
      parts.push_back(std::move(part));
    }
  }
  return parts;
}

// Dimension `i` of the mean.
double mean(const std::vector<Part>& parts, size_t i, size_t width) {
  std::vector<double> logits;
  for (const Part& part : parts) {
    const size_t at = static_cast<size_t>(part.first) + i;
    logits.push_back(double{part.row[width + at]} + double{part.bias[at]});
  }
  const double most = std::ranges::max(logits);
  double sum = 0, weighted = 0;
  for (size_t p = 0; p < parts.size(); ++p) {
    const double weight = std::exp(logits[p] - most);
    sum += weight;
    weighted += weight * double{parts[p].row[static_cast<size_t>(parts[p].first) + i]};
  }
  return weighted / sum;
}

void rotate(const CompressKv& op, int64_t position, std::vector<float>& entry) {
  for (int64_t i = 0; op.rope.inv_freq && i < op.rope.inv_freq.dim(1); ++i) {
    const double angle = static_cast<double>(position) * op.rope.inv_freq.f32()[i];
    const double cos = std::cos(angle) * op.rope.magnitude[0], sin = std::sin(angle) * op.rope.magnitude[0];
    float* pair = entry.data() + op.rope_begin + 2 * i;
    const double a = pair[0], b = pair[1];
    pair[0] = static_cast<float>(a * cos - b * sin);
    pair[1] = static_cast<float>(b * cos + a * sin);
  }
}

void make_entry(const CompressKv& op, int64_t seq, int64_t number) {
  const int64_t stride = op.bias.dim(0), head_dim = op.entry_pages.dim(3);
  const std::vector<Part> parts = parts_of(op, seq, number);
  std::vector<float> entry(static_cast<size_t>(head_dim));
  for (size_t i = 0; i < entry.size(); ++i)
    entry[i] = static_cast<float>(mean(parts, i, static_cast<size_t>(op.kv.dim(1))));
  const double scale = inverse_rms(entry.data(), head_dim, op.norm_eps);
  for (size_t i = 0; op.norm && i < entry.size(); ++i)
    entry[i] = static_cast<float>(entry[i] * scale * double{op.norm.f32()[i]});
  rotate(op, number * stride, entry);
  std::byte* row = entry_row(op.entry_pages, op.batch, seq, number, {stride, op.row_pages.dim(2)});
  format_of(op.entry_pages.dtype).encode(entry.data(), row, head_dim, {});
}

}  // namespace

void compute(const CompressKv& op) {
  const int64_t width = op.kv.dim(1), stride = op.bias.dim(0);
  std::vector<float> row(static_cast<size_t>(2 * width));
  for (int64_t r = 0; r < op.batch.n_rows(); ++r) {
    std::copy_n(op.kv.f32() + r * width, width, row.begin());
    std::copy_n(op.gate.f32() + r * width, width, row.begin() + width);
    const int64_t seq = op.batch.seq_of_row.i32()[r], position = op.batch.positions.i32()[r];
    format_of(op.row_pages.dtype)
        .encode(row.data(), page_row(op.row_pages, op.batch, seq, position, 0), 2 * width, {});
  }
  for (int64_t r = 0; r < op.batch.n_rows(); ++r) {
    const int64_t n_past = op.batch.positions.i32()[r] + 1;
    if (n_past % stride == 0) make_entry(op, op.batch.seq_of_row.i32()[r], n_past / stride - 1);
  }
}

}  // namespace millrace::reference
