#include "backend/op_operands.h"

#include <array>
#include <utility>

namespace millrace {
namespace {

constexpr auto kRead = Access::read;
constexpr auto kWrite = Access::write;
constexpr auto kUpdate = Access::update;
constexpr auto kRows = Extent::rows;
constexpr auto kWhole = Extent::whole;
constexpr auto kModel = Extent::model;
using Operands = std::vector<Operand>;

Operands list(Embed& op) {
  return {{"tokens", &op.tokens, kRead, kRows},
          {"table", &op.table, kRead, kModel},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(Linear& op) {
  Operands operands{{"x", &op.x, kRead, kRows}};
  for (int i = 0; i < op.n_products; ++i) {
    operands.push_back({"weight", &op.products[i].weight, kRead, kModel});
    operands.push_back({"bias", &op.products[i].bias, kRead, kModel});
    operands.push_back({"out", &op.products[i].out, kWrite, kRows});
  }
  return operands;
}

Operands list(HeadLinear& op) {
  return {{"x", &op.x, kRead, kRows}, {"weight", &op.weight, kRead, kModel}, {"out", &op.out, kWrite, kRows}};
}

Operands list(LinearGated& op) {
  return {{"x", &op.x, kRead, kRows},
          {"gate", &op.gate, kRead, kModel},
          {"up", &op.up, kRead, kModel},
          {"gate_bias", &op.gate_bias, kRead, kModel},
          {"up_bias", &op.up_bias, kRead, kModel},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(Gate& op) {
  const Extent extent = op.gate.n_dims == 1 ? kModel : kRows;
  return {{"gate", &op.gate, kRead, extent}, {"x", &op.x, kRead, kRows}, {"out", &op.out, kWrite, kRows}};
}

Operands list(Norm& op) {
  return {{"x", &op.x, op.add ? kUpdate : kRead, kRows},
          {"add", &op.add, kRead, kRows},
          {"weight", &op.weight, kRead, kModel},
          {"bias", &op.bias, kRead, kModel},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(Add& op) { return {{"x", &op.x, kUpdate, kRows}, {"y", &op.y, kRead, kRows}}; }

Operands list(MatchRms& op) {
  return {{"x", &op.x, kRead, kRows}, {"like", &op.like, kRead, kRows}, {"out", &op.out, kWrite, kRows}};
}

Operands list(MixStreams& op) {
  Operands operands{{"weights", &op.weights, kRead, kRows}};
  for (int j = 0; j < op.n_inputs; ++j) operands.push_back({"y", &op.y[j], kRead, kRows});
  for (int i = 0; i < op.n_streams; ++i) {
    operands.push_back({"x", &op.x[i], kRead, kRows});
    operands.push_back({"out", &op.out[i], kWrite, kRows});
  }
  return operands;
}

Operands list(RopeStoreKv& op) {
  return {{"q", &op.q, kUpdate, kRows},
          {"k", &op.k, kUpdate, kRows},
          {"v", &op.v, kRead, kRows},
          {"q_norm", &op.q_norm, kRead, kModel},
          {"k_norm", &op.k_norm, kRead, kModel},
          {"inv_freq", &op.rope.inv_freq, kRead, kModel},
          {"k_pages", &op.k_pages, kUpdate, kWhole},
          {"v_pages", &op.v_pages, kUpdate, kWhole}};
}

Operands list(PagedAttention& op) {
  return {{"q", &op.q, kRead, kRows},
          {"k_pages", &op.k_pages, kRead, kWhole},
          {"v_pages", &op.v_pages, kRead, kWhole},
          {"sinks", &op.sinks, kRead, kModel},
          {"selected", &op.selected, kRead, kRows},
          {"entry_pages", &op.entry_pages, kRead, kWhole},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(SelectPositions& op) {
  return {{"q", &op.q, kRead, kRows},
          {"weights", &op.weights, kRead, kRows},
          {"k_pages", &op.k_pages, kRead, kWhole},
          {"selected", &op.selected, kWrite, kRows}};
}

Operands list(CompressKv& op) {
  return {{"kv", &op.kv, kRead, kRows},
          {"gate", &op.gate, kRead, kRows},
          {"bias", &op.bias, kRead, kModel},
          {"norm", &op.norm, kRead, kModel},
          {"inv_freq", &op.rope.inv_freq, kRead, kModel},
          {"row_pages", &op.row_pages, kUpdate, kWhole},
          {"entry_pages", &op.entry_pages, kUpdate, kWhole}};
}

Operands list(Route& op) {
  return {{"x", &op.x, kRead, kRows},
          {"weight", &op.weight, kRead, kModel},
          {"bias", &op.bias, kRead, kModel},
          {"select_bias", &op.select_bias, kRead, kModel},
          {"expert_scale", &op.expert_scale, kRead, kModel},
          {"tokens", &op.tokens, kRead, kRows},
          {"table", &op.table, kRead, kModel},
          {"experts", &op.experts, kWrite, kRows},
          {"weights", &op.weights, kWrite, kRows}};
}

Operands list(MoeGated& op) {
  return {{"x", &op.x, kRead, kRows},
          {"experts", &op.experts, kRead, kRows},
          {"weights", &op.weights, kRead, kRows},
          {"gate", &op.gate, kRead, kModel},
          {"up", &op.up, kRead, kModel},
          {"gate_bias", &op.gate_bias, kRead, kModel},
          {"up_bias", &op.up_bias, kRead, kModel},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(MoeDown& op) {
  return {{"x", &op.x, kRead, kRows},
          {"experts", &op.experts, kRead, kRows},
          {"weights", &op.weights, kRead, kRows},
          {"down", &op.down, kRead, kModel},
          {"bias", &op.bias, kRead, kModel},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(HyperCollapse& op) {
  return {{"x", &op.x, kRead, kRows},        {"mix", &op.mix, kRead, kRows},
          {"base", &op.base, kRead, kModel}, {"scale", &op.scale, kRead, kModel},
          {"out", &op.out, kWrite, kRows},   {"post", &op.post, kWrite, kRows},
          {"comb", &op.comb, kWrite, kRows}};
}

Operands list(HyperExpand& op) {
  return {{"x", &op.x, kUpdate, kRows},
          {"branch", &op.branch, kRead, kRows},
          {"post", &op.post, kRead, kRows},
          {"comb", &op.comb, kRead, kRows}};
}

Operands list(Split& op) {
  return {
      {"x", &op.x, kRead, kRows}, {"first", &op.first, kWrite, kRows}, {"second", &op.second, kWrite, kRows}};
}

Operands list(CausalConv& op) {
  return {{"x", &op.x, kRead, kRows},
          {"weight", &op.weight, kRead, kModel},
          {"state", &op.state, kUpdate, kWhole},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(GatedDeltaRule& op) {
  return {{"q", &op.q, kRead, kRows},         {"k", &op.k, kRead, kRows},
          {"v", &op.v, kRead, kRows},         {"beta", &op.beta, kRead, kRows},
          {"decay", &op.decay, kRead, kRows}, {"decay_bias", &op.decay_bias, kRead, kModel},
          {"rate", &op.rate, kRead, kModel},  {"state", &op.state, kUpdate, kWhole},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(GatherRows& op) {
  return {{"x", &op.x, kRead, kWhole}, {"rows", &op.rows, kRead, kRows}, {"out", &op.out, kWrite, kRows}};
}

Operands list(BidirectionalAttention& op) {
  return {{"q", &op.q, kRead, kRows},
          {"k", &op.k, kRead, kRows},
          {"v", &op.v, kRead, kRows},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(MeanRows& op) {
  return {{"x", &op.x, kRead, kWhole},
          {"begin", &op.begin, kRead, kRows},
          {"end", &op.end, kRead, kRows},
          {"out", &op.out, kWrite, kRows}};
}

Operands list(TopLogits& op) {
  return {{"logits", &op.logits, kRead, kRows},
          {"tokens", &op.tokens, kWrite, kRows},
          {"top", &op.top, kWrite, kRows}};
}

Operands list(DrawTokens& op) {
  return {{"logits", &op.logits, kRead, kRows},
          {"top_tokens", &op.top_tokens, kRead, kRows},
          {"top", &op.top, kRead, kRows},
          {"temperatures", &op.temperatures, kRead, kRows},
          {"truncations", &op.truncations, kRead, kRows},
          {"uniforms", &op.uniforms, kRead, kRows},
          {"tokens", &op.tokens, kWrite, kRows},
          {"sums", &op.sums, kWrite, kRows}};
}

Operands list(FeedTokens& op) {
  return {{"top", &op.top, kRead, kWhole},
          {"drawn", &op.drawn, kRead, kWhole},
          {"tokens", &op.tokens, kUpdate, kRows}};
}

template <size_t... kIndex>
constexpr std::array<std::string_view, kNOps> names(std::index_sequence<kIndex...>) {
  return {std::variant_alternative_t<kIndex, Op>::kName...};
}

}  // namespace

std::string_view name_of_op(size_t index) { return names(std::make_index_sequence<kNOps>())[index]; }

std::string_view name_of(const Op& op) { return name_of_op(op.index()); }

std::vector<Operand> operands_of(Op& op) {
  Operands operands = std::visit([](auto& each) { return list(each); }, op);
  std::erase_if(operands, [](const Operand& operand) { return !*operand.tensor; });
  return operands;
}

Batch* batch_of(Op& op) {
  if (auto* rope = std::get_if<RopeStoreKv>(&op)) return &rope->batch;
  if (auto* attention = std::get_if<PagedAttention>(&op)) return &attention->batch;
  if (auto* select = std::get_if<SelectPositions>(&op)) return &select->batch;
  if (auto* conv = std::get_if<CausalConv>(&op)) return &conv->batch;
  if (auto* rule = std::get_if<GatedDeltaRule>(&op)) return &rule->batch;
  if (auto* attention = std::get_if<BidirectionalAttention>(&op)) return &attention->batch;
  if (auto* compress = std::get_if<CompressKv>(&op)) return &compress->batch;
  return nullptr;
}

const Batch* batch_of(const Op& op) { return batch_of(const_cast<Op&>(op)); }

std::vector<Tensor*> numbers_of(Batch& batch) {
  std::vector<Tensor*> numbers{&batch.tokens,      &batch.positions,   &batch.seq_of_row, &batch.row_begin,
                               &batch.page_tables, &batch.rope_tables, &batch.state_from, &batch.state_to};
  if (batch.entry_tables) numbers.push_back(&batch.entry_tables);
  return numbers;
}

bool needs_whole_sequences(const Op& op) { return std::holds_alternative<BidirectionalAttention>(op); }

std::vector<Tensor> multiplied_weights(const Op& op) {
  std::vector<Tensor> weights;
  if (const auto* linear = std::get_if<Linear>(&op)) {
    for (int i = 0; i < linear->n_products; ++i) weights.push_back(linear->products[i].weight);
  } else if (const auto* gated = std::get_if<LinearGated>(&op)) {
    weights = {gated->gate, gated->up};
  } else if (const auto* heads = std::get_if<HeadLinear>(&op)) {
    weights = {heads->weight};
  } else if (const auto* moe = std::get_if<MoeGated>(&op)) {
    weights = {moe->gate};
    if (moe->up) weights.push_back(moe->up);
  } else if (const auto* down = std::get_if<MoeDown>(&op)) {
    weights = {down->down};
  }
  return weights;
}

std::string describe(const Op& op) {
  Op copy = op;
  std::string text(name_of(op));
  for (const Operand& operand : operands_of(copy)) {
    text += fmt::format("{}{} {}", text.size() == name_of(op).size() ? " " : ", ", operand.name,
                        shape_text(*operand.tensor));
  }
  return text;
}

}  // namespace millrace
