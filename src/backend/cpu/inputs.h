// Activations in the views that an op's weights are multiplied with: as they are, as int8 blocks
// or in parts of bfloat16.
#pragma once

#include <initializer_list>
#include <span>

#include "backend/cpu/compute.h"

namespace millrace::cpu {

// A product of more columns than this is cut into several, so that scratch memory is bounded.
inline constexpr int64_t kMaxColumns = 512;

inline int64_t n_spans_of(int64_t n_in) { return (n_in + kSpan - 1) / kSpan; }

// Which views weights need.
struct InputViews {
  InputViews(const Kernels& kernels, std::initializer_list<Tensor> weights);

  // Elements of columns that stay in the second level of cache: tiles read a column again for every strip.
  int64_t n_cached() const { return has_bf16 ? 3 << 16 : 1 << 20; }
  // Columns that a task takes at most of n_in elements each.
  int64_t max_columns(int64_t n_in) const;
  bool are_int8() const { return !has_bf16 && !has_f32; }

  bool has_int8_32 = false;
  bool has_int8_256 = false;
  bool has_pairs = false;  // of the sums of int8_256
  bool has_bf16 = false;
  bool has_f32 = false;
};

// Room for the views of n_columns activations of n_in elements.
struct InputMemory {
  InputMemory(Carver& carver, InputViews views, int64_t n_columns, int64_t n_in);

  int8_t* int8_32 = nullptr;
  InputScale32* scale32 = nullptr;
  int8_t* int8_256 = nullptr;
  float* scale256 = nullptr;
  InputSums256* sums256 = nullptr;
  InputPairs256* pairs256 = nullptr;
  uint32_t* bf16 = nullptr;
};

// Fills the views of x (n_rows, n_in). Column c is row c, or row rows[c] where `rows` is not empty: a row may
// be several columns.
Inputs prepare_inputs(Machine& machine, const Tensor& x, InputViews views, const InputMemory& memory,
                      std::span<const int32_t> rows = {});

}  // namespace millrace::cpu
