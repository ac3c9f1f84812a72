// Where the vector of a position and head lies among the pages of one layer.
#pragma once

#include <algorithm>

#include "backend/ops.h"

namespace millrace::cpu {

class PageReader {
 public:
  // `pages` is (n_pages, n_kv_heads, page_size, head_dim).
  PageReader(const Tensor& pages, const Batch& batch, int64_t seq)
      : pages_(pages),
        row_bytes_(pages.row_bytes()),
        table_(batch.page_tables.i32() + seq * batch.page_tables.dim(1)),
        max_pages_(batch.page_tables.dim(1)) {}

  std::byte* at(int64_t position, int64_t head) const {
    const int64_t page_size = pages_.dim(2);
    check(position >= 0 && position / page_size < max_pages_, "a position beyond the page table");
    const int32_t page = table_[position / page_size];
    check(page >= 0 && page < pages_.dim(0), "a position without a page");
    return pages_.data + ((page * pages_.dim(1) + head) * page_size + position % page_size) * row_bytes_;
  }
  // Those of the positions [begin, end): a page is looked up once.
  void at_each(int64_t begin, int64_t end, int64_t head, const std::byte** out) const {
    while (begin < end) {
      const int64_t n = std::min(pages_.dim(2) - begin % pages_.dim(2), end - begin);
      const std::byte* first = at(begin, head);
      for (int64_t i = 0; i < n; ++i) *out++ = first + i * row_bytes_;
      begin += n;
    }
  }

 private:
  const Tensor& pages_;
  int64_t row_bytes_;
  const int32_t* table_;
  int64_t max_pages_;
};

// The same for entries that stand for `stride` positions each (CompressKv): one lies with the last of them.
class EntryReader {
 public:
  // `pages` is (n_pages, 1, entries a page, head_dim).
  struct Places {
    int64_t stride;
    int64_t page_size;  // in positions
  };
  EntryReader(const Tensor& pages, const Batch& batch, int64_t seq, const Places& places)
      : pages_(pages),
        row_bytes_(pages.row_bytes()),
        table_(batch.tables_of_entries().i32() + seq * batch.tables_of_entries().dim(1)),
        max_pages_(batch.tables_of_entries().dim(1)),
        places_(places) {}

  std::byte* at(int64_t entry) const {
    const int64_t last = (entry + 1) * places_.stride - 1;
    check(entry >= 0 && last / places_.page_size < max_pages_, "an entry beyond the page table");
    const int32_t page = table_[last / places_.page_size];
    check(page >= 0 && page < pages_.dim(0), "an entry without a page");
    const int64_t slot = last % places_.page_size / places_.stride;
    return pages_.data + (page * pages_.dim(2) + slot) * row_bytes_;
  }

 private:
  const Tensor& pages_;
  int64_t row_bytes_;
  const int32_t* table_;
  int64_t max_pages_;
  Places places_;
};

}  // namespace millrace::cpu
