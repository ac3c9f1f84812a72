#include "backend/cases/case_maker.h"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace millrace {
namespace {

// Of a weight, before its rows repeat: encoding is slow. The number of rows is made odd so that experts
// differ.
constexpr int64_t kDistinctElems = 1 << 14;

}  // namespace

uint64_t CaseMaker::next_bits() {  // splitmix64
  uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

// The sum of four uniform 16-bit numbers, of deviation 1.
float CaseMaker::next_float() {
  const uint64_t bits = next_bits();
  const int64_t sum =
      static_cast<int64_t>((bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48)) -
      2 * 0xffff;
  return static_cast<float>(sum) * (1.7320508f / 65536);
}

int32_t CaseMaker::next_below(int32_t n) {
  return static_cast<int32_t>(next_bits() % static_cast<uint64_t>(n));
}

Tensor CaseMaker::allocate(Dtype dtype, std::initializer_list<int64_t> dims) {
  constexpr int64_t kOffset = 32;
  Tensor tensor(nullptr, dtype, dims);
  const size_t n_bytes = static_cast<size_t>(tensor.n_bytes() + kOffset);
  memory_.emplace_back(static_cast<std::byte*>(::operator new[](n_bytes, std::align_val_t{64})));
  tensor.data = memory_.back().get() + kOffset;
  return tensor;
}

Tensor CaseMaker::floats(std::initializer_list<int64_t> dims, float deviation) {
  const Tensor tensor = allocate(Dtype::f32, dims);
  std::generate_n(tensor.f32(), tensor.n_elems(), [&] { return deviation * next_float(); });
  return tensor;
}

Tensor CaseMaker::bytes_as_floats(std::initializer_list<int64_t> dims) {
  const Tensor tensor = allocate(Dtype::f32, dims);
  for (int64_t i = 0; i < tensor.n_elems(); ++i) {
    const int32_t value = i % 32 == i / 32 % 32 ? 254 * next_below(2) : next_below(255);
    tensor.f32()[i] = static_cast<float>(value - 127);
  }
  return tensor;
}

Tensor CaseMaker::norm_weight(int64_t n) {
  const Tensor tensor = floats({n}, 0.25f);
  std::for_each_n(tensor.f32(), n, [](float& value) { value += 1; });
  return tensor;
}

Tensor CaseMaker::weight(Dtype dtype, std::initializer_list<int64_t> dims) {
  const Tensor tensor = allocate(dtype, dims);
  const int64_t n_cols = tensor.n_cols();
  const int64_t n_distinct = kDistinctElems / n_cols | 1;
  std::vector<float> row(static_cast<size_t>(n_cols));
  for (int64_t i = 0; i < tensor.n_rows(); ++i) {
    if (i >= n_distinct) {
      std::memcpy(tensor.row(i), tensor.row(i - n_distinct), static_cast<size_t>(tensor.row_bytes()));
      continue;
    }
    std::ranges::generate(row, [&] { return 0.2f * next_float(); });
    format_of(dtype).encode(row.data(), tensor.row(i), n_cols, {});
  }
  return tensor;
}

Tensor CaseMaker::integers(std::initializer_list<int64_t> dims, int32_t n_values) {
  const Tensor tensor = allocate(Dtype::i32, dims);
  std::generate_n(tensor.i32(), tensor.n_elems(), [&] { return next_below(n_values); });
  return tensor;
}

Tensor CaseMaker::experts(int64_t n_rows, int64_t n_used, int32_t n_experts) {
  const Tensor tensor = allocate(Dtype::i32, {n_rows, n_used});
  std::vector<int32_t> all(static_cast<size_t>(n_experts));
  std::iota(all.begin(), all.end(), 0);
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int64_t j = 0; j < n_used; ++j) {
      const int32_t other = static_cast<int32_t>(j) + next_below(n_experts - static_cast<int32_t>(j));
      std::swap(all[static_cast<size_t>(j)], all[static_cast<size_t>(other)]);
      tensor.i32()[r * n_used + j] = all[static_cast<size_t>(j)];
    }
  }
  return tensor;
}

Tensor CaseMaker::list(std::span<const int32_t> values) {
  const Tensor tensor = allocate(Dtype::i32, {static_cast<int64_t>(values.size())});
  std::ranges::copy(values, tensor.i32());
  return tensor;
}

Tensor CaseMaker::output(Dtype dtype, std::initializer_list<int64_t> dims) {
  const Tensor tensor = allocate(dtype, dims);
  std::memset(tensor.data, 0xff, static_cast<size_t>(tensor.n_bytes()));
  return tensor;
}

Batch CaseMaker::batch(std::span<const SeqRows> seqs, int64_t page_size, int32_t window) {
  std::vector<int32_t> positions, seq_of_row, row_begin{0};
  int64_t max_pages = 1;
  int64_t n_pages = 2;
  const auto first_page = [&](const SeqRows& seq) {
    return window > 0 ? std::max(0, seq.n_past - window + 1) / page_size : 0;
  };
  const auto end_page = [&](const SeqRows& seq) {
    return (seq.n_past + seq.n_rows + page_size - 1) / page_size;
  };
  for (const SeqRows& seq : seqs) {
    for (int32_t i = 0; i < seq.n_rows; ++i) {
      positions.push_back(seq.n_past + i);
      seq_of_row.push_back(static_cast<int32_t>(row_begin.size()) - 1);
    }
    row_begin.push_back(static_cast<int32_t>(positions.size()));
    max_pages = std::max(max_pages, end_page(seq) + 1);
    n_pages += end_page(seq) - first_page(seq);
  }

  const int64_t n_rows = static_cast<int64_t>(positions.size());
  const int64_t n_seqs = static_cast<int64_t>(seqs.size());
  Batch batch{.tokens = integers({n_rows}, 100),
              .positions = list(positions),
              .seq_of_row = list(seq_of_row),
              .row_begin = list(row_begin),
              .page_tables = output(Dtype::i32, {n_seqs, max_pages}),  // every bit set is -1
              .rope_tables = integers({n_seqs}, 1),
              .state_from = output(Dtype::i32, {n_seqs}),
              .state_to = output(Dtype::i32, {n_seqs}),
              .logit_rows = integers({0}, 1)};
  const std::vector<int32_t> slots = shuffled(2 * n_seqs);
  for (int64_t s = 0; s < n_seqs; ++s) {
    const int32_t slot = slots[static_cast<size_t>(s)];
    batch.state_from.i32()[s] = seqs[static_cast<size_t>(s)].n_past == 0 ? -1 : slot;
    batch.state_to.i32()[s] = s % 2 == 0 ? slot : slots[static_cast<size_t>(n_seqs + s)];
  }
  std::vector<int32_t> free_pages = shuffled(n_pages);
  for (int64_t s = 0; s < n_seqs; ++s) {
    const SeqRows& seq = seqs[static_cast<size_t>(s)];
    for (int64_t i = first_page(seq); i < end_page(seq); ++i) {
      batch.page_tables.i32()[s * max_pages + i] = free_pages.back();
      free_pages.pop_back();
    }
  }
  return batch;
}

std::vector<int32_t> CaseMaker::shuffled(int64_t n) {
  std::vector<int32_t> numbers(static_cast<size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  for (size_t i = numbers.size(); i > 1; --i)
    std::swap(numbers[i - 1], numbers[static_cast<size_t>(next_below(static_cast<int32_t>(i)))]);
  return numbers;
}

// Two more than the highest used, so that a page that nobody owns exists.
int64_t n_pages_of(const Batch& batch) {
  const std::span table(batch.page_tables.i32(), static_cast<size_t>(batch.page_tables.n_elems()));
  return std::ranges::max(table) + 2;
}

Tensor CaseMaker::pages(const Batch& batch, std::span<const int32_t> n_stored, Dtype dtype,
                        std::initializer_list<int64_t> heads_size_dim) {
  const int64_t n_kv_heads = heads_size_dim.begin()[0];
  const int64_t page_size = heads_size_dim.begin()[1];
  const int64_t head_dim = heads_size_dim.begin()[2];
  const Tensor pages = output(dtype, {n_pages_of(batch), n_kv_heads, page_size, head_dim});
  std::vector<float> head(static_cast<size_t>(head_dim));
  for (int64_t s = 0; s < batch.n_seqs(); ++s) {
    for (int32_t position = 0; position < n_stored[static_cast<size_t>(s)]; ++position) {
      const int32_t page = batch.page_tables.i32()[s * batch.page_tables.dim(1) + position / page_size];
      if (page < 0) continue;
      for (int64_t h = 0; h < n_kv_heads; ++h) {
        std::ranges::generate(head, [&] { return next_float(); });
        format_of(dtype).encode(
            head.data(), pages.row((page * n_kv_heads + h) * page_size + position % page_size), head_dim, {});
      }
    }
  }
  return pages;
}

Tensor CaseMaker::states(const Batch& batch, std::initializer_list<int64_t> dims) {
  const Tensor state = output(Dtype::f32, dims);
  for (int64_t s = 0; s < batch.n_seqs(); ++s) {
    const int32_t slot = batch.state_from.i32()[s];
    if (slot < 0) continue;
    const Tensor entry = state.at(slot);
    std::generate_n(entry.f32(), entry.n_elems(), [&] { return next_float(); });
  }
  return state;
}

}  // namespace millrace
