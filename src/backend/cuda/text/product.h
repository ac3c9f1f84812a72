// Products with weights as one thing: out[c] = epilogue(matrix of c * x of c) for columns c, which are rows
// of the batch, heads of rows, or slots of experts.
#pragma once

#include "backend/ops.h"

namespace millrace::cuda {

// Columns that share a matrix, computed together, at most a width of them. Column i is first + i * stride, or
// order[first + i].
struct Tile {
  int32_t matrix;
  int32_t first;
  int32_t n;
};

// How columns come to matrices.
enum class Columns {
  of_one,     // all share one matrix
  of_heads,   // column c is of matrix c % n_matrices
  of_experts  // each is of the matrix that its slot has chosen
};

struct Product {
  // (n_matrices, n_out, n_in) of a format, rows and matrices so many bytes apart
  const std::byte* weight;
  Dtype dtype;
  int64_t row_bytes, matrix_bytes;
  int64_t n_in, n_out;
  const float* x;  // (n_rows, n_in), rows x_stride elements apart; column c reads the row c / n_sharing
  int64_t x_stride;
  int64_t n_rows;
  int64_t n_sharing = 1;
  int64_t n_columns;
  Columns columns = Columns::of_one;
  int64_t n_matrices = 1;
  const int32_t* experts = nullptr;  // (n_columns)
  float* out;                        // (n_columns, n_out), columns out_stride elements apart
  int64_t out_stride;

  const float* bias = nullptr;  // (n_matrices, n_out), bias_stride elements apart
  int64_t bias_stride = 0;
  const float* weigh = nullptr;  // (n_columns): multiplies the sum
  Activation activation = Activation::none;
  float scale = 1.0f;
  float softcap = 0.0f;

  // Whether x and the weights are multiplied as they are, in float32: weights that are float32 themselves,
  // and whatever a choice depends on.
  bool keeps_floats = false;
};

}  // namespace millrace::cuda
