#include "checkpoint/check.h"

#include <algorithm>

namespace millrace {
namespace {

constexpr int64_t kStepBytes = 8 << 20;

// The first row of [begin, end) that is not sound, or `end`.
int64_t find_unsound_row(const Tensor& tensor, int64_t begin, int64_t end) {
  const auto is_sound = format_of(tensor.dtype).is_sound;
  if (is_sound == nullptr) return end;
  const bool are_whole_blocks = tensor.n_cols() % format_of(tensor.dtype).block_elems == 0;
  if (are_whole_blocks && is_sound(tensor.row(begin), (end - begin) * tensor.n_cols())) return end;
  while (begin < end && is_sound(tensor.row(begin), tensor.n_cols())) ++begin;
  return begin;
}

}  // namespace

void check_weights(const Checkpoint& checkpoint, const Progress& progress) {
  const int64_t n_total = checkpoint.n_bytes();
  int64_t n_done = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (tensor.n_bytes() == 0) continue;
    const int64_t n_step = std::max<int64_t>(1, kStepBytes / tensor.row_bytes());
    for (int64_t row = 0; row < tensor.n_rows(); row += n_step) {
      const int64_t end = std::min(row + n_step, tensor.n_rows());
      const int64_t unsound = find_unsound_row(tensor, row, end);
      if (unsound != end) {
        fail(ErrorKind::bad_model, "tensor \"{}\" ({}) holds a NaN or an infinity in row {}", printable(name),
             format_of(tensor.dtype).name, unsound);
      }
      n_done += (end - row) * tensor.row_bytes();
      if (progress) progress(n_done, n_total);
    }
  }
}

}  // namespace millrace
