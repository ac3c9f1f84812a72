// Where vectors lie among the pages of a layer.
#pragma once

#include "backend/ops.h"

namespace millrace::reference {

// Positions that an entry stands for, and of a page.
struct EntryPlaces {
  int64_t stride;
  int64_t page_size;
};

// Where the vector of `head` at `position` of sequence `seq` lies.
inline std::byte* page_row(const Tensor& pages, const Batch& batch, int64_t seq, int64_t position,
                           int64_t head) {
  const int64_t page_size = pages.dim(2);
  check(position >= 0 && position / page_size < batch.page_tables.dim(1), "a position beyond the page table");
  const int32_t page = batch.page_tables.i32()[seq * batch.page_tables.dim(1) + position / page_size];
  check(page >= 0 && page < pages.dim(0), "a position without a page");
  return pages.row((page * pages.dim(1) + head) * page_size + position % page_size);
}

// Where entry `entry` of sequence `seq` lies, which stands for `stride` positions: with the last of them.
inline std::byte* entry_row(const Tensor& pages, const Batch& batch, int64_t seq, int64_t entry,
                            const EntryPlaces& places) {
  const Tensor& tables = batch.tables_of_entries();
  const int64_t last = (entry + 1) * places.stride - 1;
  check(last >= 0 && last / places.page_size < tables.dim(1), "an entry beyond the page table");
  const int32_t page = tables.i32()[seq * tables.dim(1) + last / places.page_size];
  check(page >= 0 && page < pages.dim(0), "an entry without a page");
  return pages.row(page * pages.dim(2) + last % places.page_size / places.stride);
}

}  // namespace millrace::reference
