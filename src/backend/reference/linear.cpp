// Products with weights: each weight row is decoded once an op and used for every row of x.
#include <algorithm>
#include <vector>

#include "backend/reference/compute.h"
#include "backend/reference/scalar.h"

namespace millrace::reference {
namespace {

double bias_at(const Tensor& bias, int64_t i) { return bias ? double{bias.f32()[i]} : 0.0; }

void compute_product(const Linear& op, const Product& product) {
  const int64_t n_in = op.x.n_cols();
  const int64_t n_out = product.out.n_cols();
  std::vector<float> weight(static_cast<size_t>(n_in));
  for (int64_t o = 0; o < n_out; ++o) {
    decode_row(product.weight, o, weight);
    for (int64_t r = 0; r < op.x.dim(0); ++r) {
      const double y = dot(op.x.f32() + r * n_in, weight.data(), n_in) + bias_at(product.bias, o);
      product.out.f32()[r * n_out + o] =
          static_cast<float>(soft_capped(op.scale * activate(op.activation, y), op.softcap));
    }
  }
}

}  // namespace

void compute(const Embed& op) {
  const int64_t hidden = op.out.n_cols();
  const int64_t n_copies = op.out.n_rows() / std::max<int64_t>(1, op.out.dim(0));
  for (int64_t r = 0; r < op.out.dim(0); ++r) {
    int32_t token = op.tokens.i32()[r];
    if (op.has_fallback && token >= op.table.dim(0)) token = 0;
    check(token >= 0 && token < op.table.dim(0), "a token outside of the vocabulary");
    float* out = op.out.f32() + r * n_copies * hidden;
    const std::byte* columns = op.table.row(token) + n_bytes_of(op.table.dtype, op.first_col);
    format_of(op.table.dtype).decode(columns, out, hidden);
    for (int64_t i = 0; i < hidden; ++i) out[i] *= op.scale;
    for (int64_t i = 1; i < n_copies; ++i) std::copy_n(out, hidden, out + i * hidden);
  }
}

void compute(const Linear& op) {
  for (int i = 0; i < op.n_products; ++i) compute_product(op, op.products[i]);
}

void compute(const HeadLinear& op) {
  const int64_t n_in = op.weight.dim(2);
  const int64_t n_out = op.weight.dim(1);
  const int64_t n_heads = op.weight.dim(0);
  const int64_t n_same = n_heads / op.x.dim(1);  // heads that share an x
  std::vector<float> weight(static_cast<size_t>(n_in));
  for (int64_t h = 0; h < n_heads; ++h) {
    for (int64_t o = 0; o < n_out; ++o) {
      decode_row(op.weight, h * n_out + o, weight);
      for (int64_t vector = h; vector < op.out.n_rows(); vector += n_heads) {
        const double y = dot(op.x.f32() + vector / n_same * op.x.dim(2), weight.data(), n_in);
        op.out.f32()[vector * op.out.dim(2) + o] = static_cast<float>(y);
      }
    }
  }
  for (int64_t vector = 0; vector < op.out.n_rows(); ++vector) {
    std::copy_n(op.x.f32() + vector / n_same * op.x.dim(2) + n_in, op.out.dim(2) - n_out,
                op.out.f32() + vector * op.out.dim(2) + n_out);
  }
}

void compute(const LinearGated& op) {
  const int64_t n_in = op.x.n_cols();
  const int64_t n_out = op.out.n_cols();
  std::vector<float> gate(static_cast<size_t>(n_in));
  std::vector<float> up(static_cast<size_t>(n_in));
  for (int64_t o = 0; o < n_out; ++o) {
    decode_row(op.gate, o, gate);
    decode_row(op.up, o, up);
    for (int64_t r = 0; r < op.x.dim(0); ++r) {
      const float* x = op.x.f32() + r * n_in;
      double g = dot(x, gate.data(), n_in) + bias_at(op.gate_bias, o);
      double u = dot(x, up.data(), n_in) + bias_at(op.up_bias, o);
      if (op.limit > 0) {
        g = std::min(g, double{op.limit});
        u = std::clamp(u, -double{op.limit}, double{op.limit});
      }
      op.out.f32()[r * n_out + o] = static_cast<float>(activate(op.activation, g) * u);
    }
  }
}

}  // namespace millrace::reference
