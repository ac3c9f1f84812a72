// Where vectors lie among the pages of a layer.
#pragma once

#include "backend/ops.h"

namespace millrace::reference {

// Where the vector of `head` at `position` of sequence `seq` lies.
inline std::byte* page_row(const Tensor& pages, const Batch& batch, int64_t seq, int64_t position,
                           int64_t head) {
  const int64_t page_size = pages.dim(2);
  check(position >= 0 && position / page_size < batch.page_tables.dim(1), "a position beyond the page table");
  const int32_t page = batch.page_tables.i32()[seq * batch.page_tables.dim(1) + position / page_size];
  check(page >= 0 && page < pages.dim(0), "a position without a page");
  return pages.row((page * pages.dim(1) + head) * page_size + position % page_size);
}

}  // namespace millrace::reference
