// Activations in the views that an op's weights are multiplied with: as they are, or as int8 blocks.
#pragma once

#include <initializer_list>
#include <span>

#include "backend/cpu/compute.h"

namespace millrace::cpu {

// Which views weights need.
struct InputViews {
  InputViews(const Kernels& kernels, std::initializer_list<Tensor> weights);

  bool has_int8_32 = false;
  bool has_int8_256 = false;
};

// Room for the int8 views of n_columns activations of n_in elements.
struct InputMemory {
  InputMemory(Carver& carver, InputViews views, int64_t n_columns, int64_t n_in);

  int8_t* int8_32 = nullptr;
  InputScale32* scale32 = nullptr;
  int8_t* int8_256 = nullptr;
  InputScale256* scale256 = nullptr;
};

// Fills the views of x (n_rows, n_in). Column c is row c, or row rows[c] where `rows` is not empty: a row may
// be several columns.
Inputs prepare_inputs(Machine& machine, const Tensor& x, InputViews views, const InputMemory& memory,
                      std::span<const int32_t> rows = {});

}  // namespace millrace::cpu
