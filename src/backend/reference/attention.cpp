// Keys and values to their pages, and attention over them.
#include <algorithm>
#include <numeric>
#include <vector>

#include "backend/reference/compute.h"
#include "backend/reference/pages.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {
namespace {

// What the heads of one row are multiplied and rotated by.
struct HeadTransform {
  std::span<const float> norm_weight;  // of the first dimensions, or none
  float norm_eps;
  double scale;
  std::span<const double> cosines;  // one each pair, times the magnitude
  std::span<const double> sines;
  RopePairing pairing;
  int64_t rope_begin;
};

void transform_head(const HeadTransform& by, std::span<float> head) {
  std::vector<double> x(head.begin(), head.end());
  if (!by.norm_weight.empty()) {
    const double scale = inverse_rms(head.data(), std::ssize(by.norm_weight), by.norm_eps);
    for (size_t i = 0; i < by.norm_weight.size(); ++i) x[i] = x[i] * scale * double{by.norm_weight[i]};
  }
  const size_t n_pairs = by.cosines.size();
  const bool is_split = by.pairing == RopePairing::half_split;
  double* rotated_part = x.data() + by.rope_begin;
  for (size_t i = 0; i < n_pairs; ++i) {
    double& a = rotated_part[is_split ? i : 2 * i];
    double& b = rotated_part[is_split ? i + n_pairs : 2 * i + 1];
    const double rotated = a * by.cosines[i] - b * by.sines[i];
    b = b * by.cosines[i] + a * by.sines[i];
    a = rotated;
  }
  for (size_t i = 0; i < x.size(); ++i) head[i] = static_cast<float>(x[i] * by.scale);
}

// Every head of row `r` of `x` (n_rows, n_heads, head_dim), in place.
void transform_row(const HeadTransform& by, const Tensor& x, int64_t r) {
  const size_t head_dim = static_cast<size_t>(x.dim(2));
  for (int64_t h = 0; h < x.dim(1); ++h)
    transform_head(by, {x.f32() + (r * x.dim(1) + h) * x.dim(2), head_dim});
}

// Of an optional vector.
std::span<const float> elements(const Tensor& vector) {
  if (!vector) return {};
  return {vector.f32(), static_cast<size_t>(vector.n_elems())};
}

double query_scale(const RopeStoreKv& op, int64_t position) {
  if (op.q_scale_beta == 0) return 1;
  const double steps = std::floor((static_cast<double>(position) + op.q_scale_offset) / op.q_scale_length);
  return 1 + op.q_scale_beta * std::log(1 + steps);
}

// Writes the heads of row `r` of `x` at `position` of sequence `seq`.
void store_row(const Tensor& x, int64_t r, const Tensor& pages, const Batch& batch, int64_t position) {
  const int64_t seq = batch.seq_of_row.i32()[r];
  for (int64_t h = 0; h < x.dim(1); ++h) {
    const float* head = x.f32() + (r * x.dim(1) + h) * x.dim(2);
    format_of(pages.dtype).encode(head, page_row(pages, batch, seq, position, h), x.dim(2), {});
  }
}

// The vectors of `head` at the positions [begin, end) of a sequence, decoded: (end - begin, head_dim).
std::vector<float> gather(const Tensor& pages, const Batch& batch, int64_t seq, int64_t head, int64_t begin,
                          int64_t end) {
  std::vector<float> out(static_cast<size_t>((end - begin) * pages.dim(3)));
  for (int64_t j = begin; j < end; ++j) {
    format_of(pages.dtype)
        .decode(page_row(pages, batch, seq, j, head), out.data() + (j - begin) * pages.dim(3), pages.dim(3));
  }
  return out;
}

int64_t first_visible(const PagedAttention& op, int64_t position) {
  const int64_t by_window = op.window > 0 ? std::max<int64_t>(0, position - op.window + 1) : 0;
  const int64_t by_chunk = op.chunk > 0 ? position / op.chunk * op.chunk : 0;
  return std::max(by_window, by_chunk);
}

// From the value of one position to that of the next: without pages of their own they lie in the keys.
int64_t value_stride(const PagedAttention& op) { return (op.v_pages ? op.v_pages : op.k_pages).dim(3); }

// Query head `head` of row `r` over the keys and values it sees: k (n, head_dim), v (n, value_stride).
void attend(const PagedAttention& op, int64_t r, int64_t head, std::span<const float> k,
            std::span<const float> v) {
  const int64_t head_dim = op.k_pages.dim(3);
  const auto v_stride = static_cast<size_t>(value_stride(op));
  const float* q = op.q.f32() + (r * op.q.dim(1) + head) * head_dim;
  float* out = op.out.f32() + (r * op.q.dim(1) + head) * op.out.dim(2);
  std::vector<double> weights(k.size() / static_cast<size_t>(head_dim));
  for (size_t j = 0; j < weights.size(); ++j) {
    const double product = dot(q, k.data() + static_cast<int64_t>(j) * head_dim, head_dim);
    weights[j] = soft_capped(op.scale * product, op.softcap);
  }
  softmax(weights, op.sinks ? op.sinks.f32() + head : nullptr);
  std::vector<double> sums(static_cast<size_t>(op.out.dim(2)));
  for (size_t j = 0; j < weights.size(); ++j) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += weights[j] * double{v[j * v_stride + i]};
  }
  for (size_t i = 0; i < sums.size(); ++i) out[i] = static_cast<float>(sums[i]);
}

// What row `r` selects, ascending.
std::vector<int64_t> selection(const PagedAttention& op, int64_t r) {
  std::vector<int64_t> list;
  const int32_t* selected = op.selected.i32() + r * op.selected.dim(1);
  for (int64_t i = 0; i < op.selected.dim(1) && selected[i] >= 0; ++i) list.push_back(selected[i]);
  return list;
}

// The entries that row `r` sees.
std::vector<int64_t> seen_entries(const PagedAttention& op, int64_t r) {
  if (op.selected) return selection(op, r);
  std::vector<int64_t> list(static_cast<size_t>((op.batch.positions.i32()[r] + 1) / op.entry_stride));
  std::iota(list.begin(), list.end(), 0);
  return list;
}

// Row `r` over the positions of its list, or over entries and what its window leaves.
void attend_listed(const PagedAttention& op, int64_t r, int64_t kv_head) {
  const int64_t seq = op.batch.seq_of_row.i32()[r];
  const int64_t last = op.batch.positions.i32()[r];
  const int64_t head_dim = op.k_pages.dim(3);
  std::vector<float> k, own_v;
  const auto append = [&](const Tensor& pages, int64_t position, std::vector<float>& to) {
    const std::vector<float> one = gather(pages, op.batch, seq, kv_head, position, position + 1);
    to.insert(to.end(), one.begin(), one.end());
  };
  if (op.entry_pages) {
    for (const int64_t entry : seen_entries(op, r)) {
      check((entry + 1) * op.entry_stride <= last + 1, "an entry of the past");
      k.resize(k.size() + static_cast<size_t>(head_dim));
      const std::byte* row =
          entry_row(op.entry_pages, op.batch, seq, entry, {op.entry_stride, op.k_pages.dim(2)});
      format_of(op.entry_pages.dtype).decode(row, &k[k.size() - static_cast<size_t>(head_dim)], head_dim);
    }
    for (int64_t j = first_visible(op, last); j <= last; ++j) append(op.k_pages, j, k);
  } else {
    for (const int64_t position : selection(op, r)) {
      check(position <= last, "a selected position is not in the future");
      append(op.k_pages, position, k);
      if (op.v_pages) append(op.v_pages, position, own_v);
    }
  }
  check(!k.empty(), "a row sees something");
  const int64_t n_shared = op.q.dim(1) / op.k_pages.dim(1);
  for (int64_t h = kv_head * n_shared; h < (kv_head + 1) * n_shared; ++h)
    attend(op, r, h, k, op.v_pages ? own_v : k);
}

// The rows of sequence `seq` for the query heads of key-value head `kv_head`.
void attend_sequence(const PagedAttention& op, int64_t seq, int64_t kv_head) {
  const int32_t* positions = op.batch.positions.i32();
  const int64_t row_begin = op.batch.row_begin.i32()[seq];
  const int64_t row_end = op.batch.row_begin.i32()[seq + 1];
  if (row_begin == row_end) return;
  const int64_t begin = first_visible(op, positions[row_begin]);
  const int64_t end = positions[row_end - 1] + 1;
  const std::vector<float> k = gather(op.k_pages, op.batch, seq, kv_head, begin, end);
  std::vector<float> own_v;
  if (op.v_pages) own_v = gather(op.v_pages, op.batch, seq, kv_head, begin, end);
  const std::vector<float>& v = op.v_pages ? own_v : k;

  const int64_t head_dim = op.k_pages.dim(3);
  const int64_t v_stride = value_stride(op);
  const int64_t n_shared = op.q.dim(1) / op.k_pages.dim(1);
  for (int64_t r = row_begin; r < row_end; ++r) {
    const int64_t first = first_visible(op, positions[r]) - begin;
    const int64_t n_seen = positions[r] + 1 - begin - first;
    const std::span seen_k(k.data() + first * head_dim, static_cast<size_t>(n_seen * head_dim));
    const std::span seen_v(v.data() + first * v_stride, static_cast<size_t>(n_seen * v_stride));
    for (int64_t h = kv_head * n_shared; h < (kv_head + 1) * n_shared; ++h) attend(op, r, h, seen_k, seen_v);
  }
}

}  // namespace

void compute(const RopeStoreKv& op) {
  const Rope& rope = op.rope;
  const int64_t n_pairs = rope.inv_freq ? rope.inv_freq.dim(1) : 0;
  std::vector<double> cosines(static_cast<size_t>(n_pairs));
  std::vector<double> sines(static_cast<size_t>(n_pairs));
  for (int64_t r = 0; r < op.batch.n_rows(); ++r) {
    const int64_t position = op.batch.positions.i32()[r];
    const int32_t table = op.batch.rope_tables.i32()[op.batch.seq_of_row.i32()[r]];
    check(n_pairs == 0 || (table >= 0 && table < rope.inv_freq.dim(0)), "a rope table that is not there");
    for (int64_t i = 0; i < n_pairs; ++i) {
      const double angle = static_cast<double>(position) * rope.inv_freq.f32()[table * n_pairs + i];
      cosines[static_cast<size_t>(i)] = std::cos(angle) * rope.magnitude[table];
      sines[static_cast<size_t>(i)] = std::sin(angle) * rope.magnitude[table];
    }
    HeadTransform by{.norm_weight = elements(op.q_norm),
                     .norm_eps = op.norm_eps,
                     .scale = query_scale(op, position),
                     .cosines = cosines,
                     .sines = sines,
                     .pairing = rope.pairing,
                     .rope_begin = op.rope_begin};
    transform_row(by, op.q, r);
    if (!op.k) continue;
    by.norm_weight = elements(op.k_norm);
    by.scale = 1;
    transform_row(by, op.k, r);
    if (!op.k_pages) continue;
    store_row(op.k, r, op.k_pages, op.batch, position);
    if (op.v) store_row(op.v, r, op.v_pages, op.batch, position);
  }
}

void compute(const PagedAttention& op) {
  if (op.selected || op.entry_pages) {
    for (int64_t r = 0; r < op.batch.n_rows(); ++r) {
      for (int64_t kv_head = 0; kv_head < op.k_pages.dim(1); ++kv_head) attend_listed(op, r, kv_head);
    }
    return;
  }
  for (int64_t seq = 0; seq < op.batch.n_seqs(); ++seq) {
    for (int64_t kv_head = 0; kv_head < op.k_pages.dim(1); ++kv_head) attend_sequence(op, seq, kv_head);
  }
}

}  // namespace millrace::reference
