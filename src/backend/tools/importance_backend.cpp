#include "backend/tools/importance_backend.h"

#include "tensor/by_address.h"

namespace millrace {

ImportanceBackend::ImportanceBackend(Backend& inner, const std::vector<Watched>& watched) : inner_(inner) {
  for (const auto& [name, weight] : watched) {
    Entry entry{.name = name, .weight = weight, .sums = {}};
    entry.sums.counts.resize(static_cast<size_t>(entry.n_matrices()));
    entry.sums.squares.resize(static_cast<size_t>(entry.n_matrices() * weight.n_cols()));
    entries_.emplace(weight.data, std::move(entry));
  }
}

void ImportanceBackend::run(const Op& op) {
  std::visit([this](const auto& each) { measure(each); }, op);
  for (auto& [begin, entry] : entries_) entry.last_input = nullptr;
  inner_.run(op);
}

std::map<std::string, ColumnSums, std::less<>> ImportanceBackend::sums() const {
  std::map<std::string, ColumnSums, std::less<>> sums;
  for (const auto& [begin, entry] : entries_) {
    int64_t n_rows = 0;
    for (const int64_t count : entry.sums.counts) n_rows += count;
    if (n_rows > 0) sums.emplace(entry.name, entry.sums);
  }
  return sums;
}

void ImportanceBackend::measure(const Linear& op) {
  for (int i = 0; i < op.n_products; ++i) add_all(op.products[i].weight, op.x);
}

void ImportanceBackend::measure(const LinearGated& op) {
  add_all(op.gate, op.x);
  add_all(op.up, op.x);
}

// Head h of a row passes matrix h.
void ImportanceBackend::measure(const HeadLinear& op) {
  Entry* entry = begin(op.weight, op.x);
  if (entry == nullptr) return;
  const int64_t n_heads = op.weight.dim(0);
  const int64_t n_same = n_heads / op.x.dim(1);  // heads that share an x
  for (int64_t i = 0; i < op.out.n_rows(); ++i) add_row(*entry, i % n_heads, {.x = op.x, .row = i / n_same});
}

void ImportanceBackend::measure(const MoeGated& op) {
  add_chosen(op.gate, op.x, op.experts, op.weights);
  add_chosen(op.up, op.x, op.experts, op.weights);
}

void ImportanceBackend::measure(const MoeDown& op) { add_chosen(op.down, op.x, op.experts, {}); }

ImportanceBackend::Entry* ImportanceBackend::entry_of(const Tensor& weight) {
  auto* const last = last_until(entries_, weight.data);
  if (last == nullptr) return nullptr;
  Entry& entry = last->second;
  const bool is_within = weight.data < entry.weight.data + entry.weight.n_bytes();
  return is_within && weight.n_cols() == entry.weight.n_cols() ? &entry : nullptr;
}

ImportanceBackend::Entry* ImportanceBackend::begin(const Tensor& weight, const Tensor& x) {
  Entry* entry = entry_of(weight);
  if (entry == nullptr || entry->last_input == x.data) return nullptr;
  entry->last_input = x.data;
  return entry;
}

void ImportanceBackend::add_all(const Tensor& weight, const Tensor& x) {
  Entry* entry = begin(weight, x);
  if (entry == nullptr) return;
  const int64_t matrix_bytes = entry->weight.n_bytes() / entry->n_matrices();
  const int64_t matrix = (weight.data - entry->weight.data) / matrix_bytes;
  for (int64_t r = 0; r < x.n_rows(); ++r) add_row(*entry, matrix, {.x = x, .row = r});
}

void ImportanceBackend::add_chosen(const Tensor& weight, const Tensor& x, const Tensor& experts,
                                   const Tensor& weights) {
  Entry* entry = begin(weight, x);
  if (entry == nullptr) return;
  const int64_t n_used = experts.dim(1);
  const bool has_row_each = x.n_rows() == experts.n_elems();
  for (int64_t i = 0; i < experts.n_elems(); ++i) {
    const double scale = weights ? static_cast<double>(weights.f32()[i]) : 1.0;
    add_row(*entry, experts.i32()[i], {.x = x, .row = has_row_each ? i : i / n_used, .scale = scale});
  }
}

void ImportanceBackend::add_row(Entry& entry, int64_t matrix, const Row& row) {
  row_.resize(static_cast<size_t>(row.x.n_cols()));
  format_of(row.x.dtype).decode(row.x.row(row.row), row_.data(), row.x.n_cols());
  const auto n_cols = static_cast<size_t>(entry.weight.n_cols());
  double* squares = entry.sums.squares.data() + static_cast<size_t>(matrix) * n_cols;
  for (size_t k = 0; k < n_cols; ++k) {
    const double value = row.scale * static_cast<double>(row_[k]);
    squares[k] += value * value;
  }
  ++entry.sums.counts[static_cast<size_t>(matrix)];
}

}  // namespace millrace
