#include "backend/tools/importance_backend.h"

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

void ImportanceBackend::measure(const MoeGated& op) {
  add_chosen(op.gate, op.x, op.experts);
  add_chosen(op.up, op.x, op.experts);
}

void ImportanceBackend::measure(const MoeDown& op) { add_chosen(op.down, op.x, op.experts); }

ImportanceBackend::Entry* ImportanceBackend::entry_of(const Tensor& weight) {
  auto after = entries_.upper_bound(weight.data);
  if (after == entries_.begin()) return nullptr;
  Entry& entry = std::prev(after)->second;
  const bool is_within = weight.data < entry.weight.data + entry.weight.n_bytes();
  return is_within && weight.n_cols() == entry.weight.n_cols() ? &entry : nullptr;
}

void ImportanceBackend::add_all(const Tensor& weight, const Tensor& x) {
  Entry* entry = entry_of(weight);
  if (entry == nullptr || entry->last_input == x.data) return;
  entry->last_input = x.data;
  const int64_t matrix_bytes = entry->weight.n_bytes() / entry->n_matrices();
  const int64_t matrix = (weight.data - entry->weight.data) / matrix_bytes;
  for (int64_t r = 0; r < x.n_rows(); ++r) add_row(*entry, matrix, x, r);
}

void ImportanceBackend::add_chosen(const Tensor& weight, const Tensor& x, const Tensor& experts) {
  Entry* entry = entry_of(weight);
  if (entry == nullptr || entry->last_input == x.data) return;
  entry->last_input = x.data;
  const int64_t n_used = experts.dim(1);
  for (int64_t i = 0; i < experts.n_elems(); ++i)
    add_row(*entry, experts.i32()[i], x, x.n_rows() == experts.n_elems() ? i : i / n_used);
}

void ImportanceBackend::add_row(Entry& entry, int64_t matrix, const Tensor& x, int64_t row) {
  const auto n_cols = static_cast<size_t>(x.n_cols());
  row_.resize(n_cols);
  format_of(x.dtype).decode(x.row(row), row_.data(), x.n_cols());
  double* squares = entry.sums.squares.data() + static_cast<size_t>(matrix) * n_cols;
  for (size_t k = 0; k < n_cols; ++k)
    squares[k] += static_cast<double>(row_[k]) * static_cast<double>(row_[k]);
  ++entry.sums.counts[static_cast<size_t>(matrix)];
}

}  // namespace millrace
