#include "backend/ranks/sides.h"

#include <algorithm>
#include <cmath>

namespace millrace::ranks {
namespace {

// Blocks of a format along a row; where they do not fill it, it is one part.
int64_t n_blocks(const Tensor& weight) {
  const int64_t block = format_of(weight.dtype).block_elems;
  return weight.n_cols() % block == 0 ? weight.n_cols() / block : 1;
}

class Builder {
 public:
  explicit Builder(Op& op) : operands_(operands_of(op)) {}

  // Operands that the op does not have are left out.
  void add(Tensor& tensor, int axis, int group = 0) { add(tensor, axis, tensor.dim(axis), group); }
  void add(Tensor& tensor, int axis, int64_t n_units, int group) {
    const auto found = std::ranges::find(operands_, &tensor, &Operand::tensor);
    if (found != operands_.end())
      side_.operands.push_back({&tensor, found->access, found->extent, axis, n_units, group});
  }
  Side& side() { return side_; }
  // And begins the next one.
  void end(std::vector<Side>& sides) {
    sides.push_back(std::move(side_));
    side_ = {};
  }

 private:
  std::vector<Operand> operands_;
  Side side_;
};

using Sides = std::vector<Side>;

// By the outputs of a product, or all products by their inputs.
void list(Linear& op, Builder& builder, Sides& sides) {
  for (int i = 0; i < op.n_products; ++i) {
    Product& product = op.products[i];
    builder.add(product.out, 1);
    builder.add(product.weight, 0);
    builder.add(product.bias, 0);
    builder.end(sides);
  }
  if (op.activation != Activation::none || op.softcap > 0.0f) return;
  builder.add(op.x, 1);
  for (int i = 0; i < op.n_products; ++i)
    builder.add(op.products[i].weight, 1, n_blocks(op.products[i].weight), 0);
  builder.side().gives_sum = true;
  builder.end(sides);
}

void list(HeadLinear& op, Builder& builder, Sides& sides) {
  if (op.x.dim(1) == op.weight.dim(0)) builder.add(op.x, 1);
  builder.add(op.weight, 0);
  builder.add(op.out, 1);
  builder.end(sides);
}

void list(LinearGated& op, Builder& builder, Sides& sides) {
  builder.add(op.out, 1);
  for (Tensor* each : {&op.gate, &op.up, &op.gate_bias, &op.up_bias}) builder.add(*each, 0);
  builder.end(sides);
}

void list(Gate& op, Builder& builder, Sides& sides) {
  if (std::isfinite(op.cutoff)) return;  // which looks at whole rows
  builder.add(op.gate, op.gate.n_dims - 1);
  builder.add(op.x, 1);
  builder.add(op.out, 1);
  builder.end(sides);
}

void list(Norm& op, Builder& builder, Sides& sides) {
  if (op.x.n_dims != 3) return;
  for (Tensor* each : {&op.x, &op.add, &op.out}) builder.add(*each, 1);
  if (op.weight.n_dims == 2) builder.add(op.weight, 0);
  if (op.bias.n_dims == 2) builder.add(op.bias, 0);
  builder.end(sides);
}

void list(Add& op, Builder& builder, Sides& sides) {
  builder.add(op.x, 1);
  builder.add(op.y, 1);
  builder.end(sides);
}

// Keys and values of one head, which all query heads read, stay whole.
void add_kv(Builder& builder, int64_t n_kv_heads, std::initializer_list<Tensor*> operands) {
  if (n_kv_heads == 1) return;
  for (Tensor* each : operands) builder.add(*each, 1, 1);
  builder.side().n_kv_heads = n_kv_heads;
}

void list(RopeStoreKv& op, Builder& builder, Sides& sides) {
  builder.add(op.q, 1);
  if (op.k) add_kv(builder, op.k.dim(1), {&op.k, &op.v, &op.k_pages, &op.v_pages});
  builder.end(sides);
}

void list(PagedAttention& op, Builder& builder, Sides& sides) {
  builder.add(op.q, 1);
  builder.add(op.sinks, 0);
  builder.add(op.out, 1);
  add_kv(builder, op.k_pages.dim(1), {&op.k_pages, &op.v_pages});
  builder.end(sides);
}

void list(BidirectionalAttention& op, Builder& builder, Sides& sides) {
  builder.add(op.q, 1);
  builder.add(op.out, 1);
  add_kv(builder, op.k.dim(1), {&op.k, &op.v});
  builder.end(sides);
}

// Gate and up in one tensor are two segments of it.
void list(MoeGated& op, Builder& builder, Sides& sides) {
  builder.add(op.out, 2);
  for (Tensor* each : {&op.gate, &op.up, &op.gate_bias, &op.up_bias}) builder.add(*each, 1, op.up ? 0 : 1);
  if (!op.up) builder.side().n_segments = 2;
  builder.end(sides);
}

void list(MoeDown& op, Builder& builder, Sides& sides) {
  builder.add(op.x, 2);
  builder.add(op.down, 2, n_blocks(op.down), 0);
  builder.side().gives_sum = true;
  builder.end(sides);
}

// Of parts of heads, which are rows of it then.
void list(Split& op, Builder& builder, Sides& sides) {
  for (Tensor* each : {&op.x, &op.first, &op.second}) builder.add(*each, 0);
  builder.end(sides);
}

void list(CausalConv& op, Builder& builder, Sides& sides) {
  builder.add(op.x, 1);
  builder.add(op.weight, 0);
  builder.add(op.state, 2);
  builder.add(op.out, 1);
  builder.end(sides);
}

// Tiled, a run of key heads serves a run of value heads in each tile.
void list(GatedDeltaRule& op, Builder& builder, Sides& sides) {
  builder.add(op.q, 1);
  builder.add(op.k, 1);
  for (Tensor* each : {&op.v, &op.beta, &op.decay, &op.state, &op.out}) builder.add(*each, 1, 1);
  builder.add(op.decay_bias, 0, 1);
  builder.add(op.rate, 0, 1);
  if (op.key_heads == KeyHeads::tiled) builder.side().n_segments = op.v.dim(1) / op.k.dim(1);
  builder.end(sides);
}

template <class Other>
void list(Other& /*op*/, Builder& /*builder*/, Sides& /*sides*/) {}

}  // namespace

std::vector<Side> sides_of(Op& op) {
  Builder builder(op);
  std::vector<Side> sides;
  std::visit([&](auto& each) { list(each, builder, sides); }, op);
  return sides;
}

}  // namespace millrace::ranks
