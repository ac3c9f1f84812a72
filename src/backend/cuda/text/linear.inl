// The ops with weights: what they multiply, and what comes before and after the products.
#include <array>
#include <vector>

#include "backend/cuda/text/compute.inl"
#include "backend/cuda/text/formats.inl"
#include "backend/cuda/text/product.inl"

namespace millrace::cuda::MILLRACE_CUDA_TARGET {
namespace {

struct EmbedArguments {
  const int32_t* tokens;
  const std::byte* table;
  Dtype dtype;
  int64_t row_bytes, n_vocab, n_cols;  // columns that the row has from there on
  int64_t hidden, n_copies;
  float* out;
  bool has_fallback;
  float scale;
};

__global__ void embed_kernel(EmbedArguments a) {
  const int64_t row = block_x();
  int64_t token = a.tokens[row];
  if (a.has_fallback && token >= a.n_vocab) token = 0;
  require(token >= 0 && token < a.n_vocab);
  float* out = a.out + row * a.n_copies * a.hidden;
  for (int64_t first = 8 * thread_index(); first < a.hidden; first += 8 * n_threads()) {
    Eight values;
    decode_any(a.dtype, a.table + token * a.row_bytes, first, a.n_cols, values);
    for (int64_t copy = 0; copy < a.n_copies; ++copy) {
      for (int64_t i = 0; i < least<int64_t>(8, a.hidden - first); ++i)
        out[copy * a.hidden + first + i] = values[i] * a.scale;
    }
  }
}

// out = activation(cut(gate)) * (cut(up) + up_offset), element by element; out may be gate.
struct CombineArguments {
  const float* gate;
  const float* up;
  float* out;
  int64_t n;
  Activation activation;
  float limit, up_offset;
};

__global__ void combine_kernel(CombineArguments a) {
  const int64_t i = block_x() * n_threads() + thread_index();
  if (i >= a.n) return;
  float gate = a.gate[i], up = a.up[i];
  if (a.limit > 0.0f) {
    gate = least(gate, a.limit);
    up = most(-a.limit, least(up, a.limit));
  }
  a.out[i] = activate(a.activation, gate) * (up + a.up_offset);
}

void combine(Machine& machine, const CombineArguments& arguments) {
  constexpr int kThreads = 256;
  launch(machine, combine_kernel, {n_blocks_for(arguments.n, kThreads)}, kThreads, 0, arguments);
}

struct CarryArguments {
  const float* x;  // (n_columns / n_sharing, x_stride), from n_in on
  int64_t n_sharing, x_stride;
  float* out;  // (n_columns, out_stride), from n_out on
  int64_t out_stride, n_carried, n;
};

__global__ void carry_kernel(CarryArguments a) {
  const int64_t i = block_x() * n_threads() + thread_index();
  if (i >= a.n) return;
  const int64_t column = i / a.n_carried, at = i % a.n_carried;
  a.out[column * a.out_stride + at] = a.x[column / a.n_sharing * a.x_stride + at];
}

// out[r] = sum over j, ascending, of weights[r, j] * y[r, j]
struct SumArguments {
  const float* y;        // (n_rows, n_used, n_cols)
  const float* weights;  // optional (n_rows, n_used)
  float* out;            // (n_rows, n_cols)
  int64_t n_used, n_cols, n;
};

__global__ void sum_kernel(SumArguments a) {
  const int64_t i = block_x() * n_threads() + thread_index();
  if (i >= a.n) return;
  const int64_t row = i / a.n_cols, col = i % a.n_cols;
  float sum = 0.0f;
  for (int64_t j = 0; j < a.n_used; ++j) {
    const float y = a.y[(row * a.n_used + j) * a.n_cols + col];
    sum += (a.weights != nullptr ? a.weights[row * a.n_used + j] : 1.0f) * y;
  }
  a.out[i] = sum;
}

// A weight (n_out, n_in) or (n_matrices, n_out, n_in), multiplied with the rows of x.
Product product_of(const Tensor& weight, const Tensor& x) {
  const int64_t n_out = weight.dim(weight.n_dims - 2);
  return {.weight = weight.data,
          .dtype = weight.dtype,
          .row_bytes = weight.row_bytes(),
          .matrix_bytes = n_out * weight.row_bytes(),
          .n_in = weight.n_cols(),
          .n_out = n_out,
          .x = x.f32(),
          .x_stride = x.n_cols(),
          .n_rows = x.n_rows(),
          .n_columns = x.n_rows(),
          .out = nullptr,
          .out_stride = n_out};
}

float* scratch_floats(Machine& machine, int64_t n) {
  return reinterpret_cast<float*>(machine.scratch.take(static_cast<size_t>(n) * sizeof(float)));
}

}  // namespace

void compute(Machine& machine, const Embed& op) {
  const int64_t hidden = op.out.n_cols(), n_rows = op.out.dim(0);
  if (n_rows == 0) return;
  launch(machine, embed_kernel, {n_rows}, 128, 0,
         EmbedArguments{.tokens = op.tokens.i32(),
                        .table = op.table.data + n_bytes_of(op.table.dtype, op.first_col),
                        .dtype = op.table.dtype,
                        .row_bytes = op.table.row_bytes(),
                        .n_vocab = op.table.dim(0),
                        .n_cols = op.table.dim(1) - op.first_col,
                        .hidden = hidden,
                        .n_copies = op.out.n_rows() / n_rows,
                        .out = op.out.f32(),
                        .has_fallback = op.has_fallback,
                        .scale = op.scale});
}

void compute(Machine& machine, const Linear& op) {
  std::vector<Product> products;
  for (const auto& [weight, bias, out] : std::span(op.products).first(static_cast<size_t>(op.n_products))) {
    Product& product = products.emplace_back(product_of(weight, op.x));
    product.out = out.f32();
    product.bias = floats_of(bias);
    product.activation = op.activation;
    product.scale = op.scale;
    product.softcap = op.softcap;
  }
  multiply(machine, products);
}

void compute(Machine& machine, const HeadLinear& op) {
  const int64_t n_out = op.weight.dim(1), n_in = op.weight.dim(2), n_columns = op.out.n_rows();
  Product product = product_of(op.weight, op.x);
  product.n_columns = n_columns;
  product.n_sharing = op.weight.dim(0) / op.x.dim(1);
  product.columns = Columns::of_heads;
  product.n_matrices = op.weight.dim(0);
  product.out = op.out.f32();
  product.out_stride = op.out.dim(2);
  multiply(machine, {&product, 1});
  const int64_t n_carried = op.out.dim(2) - n_out;
  if (n_carried == 0) return;
  constexpr int kThreads = 256;
  launch(machine, carry_kernel, {n_blocks_for(n_columns * n_carried, kThreads)}, kThreads, 0,
         CarryArguments{.x = op.x.f32() + n_in,
                        .n_sharing = product.n_sharing,
                        .x_stride = op.x.dim(2),
                        .out = op.out.f32() + n_out,
                        .out_stride = op.out.dim(2),
                        .n_carried = n_carried,
                        .n = n_columns * n_carried});
}

void compute(Machine& machine, const LinearGated& op) {
  Product gate = product_of(op.gate, op.x), up = product_of(op.up, op.x);
  gate.out = op.out.f32();
  gate.bias = floats_of(op.gate_bias);
  up.out = scratch_floats(machine, op.out.n_elems());
  up.bias = floats_of(op.up_bias);
  multiply(machine, std::array{gate, up});
  combine(machine, {.gate = gate.out,
                    .up = up.out,
                    .out = gate.out,
                    .n = op.out.n_elems(),
                    .activation = op.activation,
                    .limit = op.limit,
                    .up_offset = 0.0f});
}

void compute(Machine& machine, const MoeGated& op) {
  const int64_t n_ff = op.out.n_cols(), n_slots = op.experts.n_elems();
  const Tensor& up_weight = op.up ? op.up : op.gate;
  const ExpertOrder order(machine, op.experts, std::array{op.gate, up_weight}, n_slots * n_ff);
  Product gate = product_of(op.gate, op.x);
  gate.columns = Columns::of_experts;
  gate.n_matrices = op.gate.dim(0);
  gate.experts = op.experts.i32();
  gate.n_columns = n_slots;
  gate.n_sharing = op.experts.dim(1);
  gate.n_out = gate.out_stride = gate.bias_stride = n_ff;
  gate.weigh = floats_of(op.weights);
  Product up = gate;
  if (op.up) {
    up.weight = op.up.data;
    up.dtype = op.up.dtype;
    up.row_bytes = op.up.row_bytes();
    up.matrix_bytes = n_ff * up.row_bytes;
  } else {
    up.weight += n_ff * gate.row_bytes;
  }
  gate.out = op.out.f32();
  gate.bias = floats_of(op.gate_bias);
  up.out = order.floats;
  up.bias = floats_of(op.up_bias);
  multiply(machine, std::array{gate, up}, &order);
  combine(machine, {.gate = gate.out,
                    .up = up.out,
                    .out = gate.out,
                    .n = op.out.n_elems(),
                    .activation = op.activation,
                    .limit = op.limit,
                    .up_offset = op.up_offset});
}

void compute(Machine& machine, const MoeDown& op) {
  const int64_t hidden = op.out.n_cols(), n_slots = op.experts.n_elems();
  const ExpertOrder order(machine, op.experts, {&op.down, 1}, n_slots * hidden);
  Product down = product_of(op.down, op.x);
  down.columns = Columns::of_experts;
  down.n_matrices = op.down.dim(0);
  down.experts = op.experts.i32();
  down.out = order.floats;
  down.bias = floats_of(op.bias);
  down.bias_stride = hidden;
  multiply(machine, {&down, 1}, &order);
  constexpr int kThreads = 256;
  launch(machine, sum_kernel, {n_blocks_for(op.out.n_elems(), kThreads)}, kThreads, 0,
         SumArguments{.y = down.out,
                      .weights = floats_of(op.weights),
                      .out = op.out.f32(),
                      .n_used = op.experts.dim(1),
                      .n_cols = hidden,
                      .n = op.out.n_elems()});
}

}  // namespace millrace::cuda::MILLRACE_CUDA_TARGET
