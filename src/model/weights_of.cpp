#include "model/weights_of.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <map>
#include <optional>

#include "backend/op_operands.h"
#include "backend/tools/op_recorder.h"
#include "model/dry_run.h"
#include "tensor/by_address.h"
#include "tensor/forwarding_memory.h"

namespace millrace {
namespace {

// The forwards that have every part of the model in them, each with its ops.
std::vector<std::vector<Op>> forwards_of(const Model& model, const KvCache& kv, const StateCache& states) {
  std::vector<std::vector<Op>> forwards;
  for (const bool wants_scores : {false, true}) {
    if (wants_scores && model.shape().n_scores == 0) continue;
    OpRecorder recorder;
    Arena arena;
    run_dry(model, recorder, arena, kv, states, {.wants_scores = wants_scores});
    forwards.push_back(std::move(recorder.ops));
  }
  return forwards;
}

// Of `n` pages and slots.
KvCache cache_of(const Model& model, int64_t n, Memory& memory = program_memory()) {
  return KvCache(
      {.layers = model.shape().kv_layers, .n_pages = n, .page_size = 32, .dtype = Dtype::f32, .n_panes = n},
      memory);
}
StateCache states_of(const Model& model, int64_t n, Memory& memory = program_memory()) {
  return StateCache({.layers = model.shape().state_layers, .n_slots = n}, memory);
}

// The program's, which remembers what layers keep there.
class NotingMemory final : public ForwardingMemory {
 public:
  NotingMemory() : ForwardingMemory(program_memory()) {}
  void keep(const Tensor& tensor, const KeptName& name) override {
    kept[tensor.data] = {name.layer, std::string(name.name)};
  }

  std::map<const std::byte*, ranks::KeptKey> kept;
};

std::vector<Op> ops_of(const Model& model) {
  std::vector<Op> ops;
  for (const std::vector<Op>& forward : forwards_of(model, cache_of(model, 0), states_of(model, 0)))
    ops.insert(ops.end(), forward.begin(), forward.end());
  return ops;
}

std::vector<Tensor> weights_of(Op op) {
  std::vector<Tensor> weights;
  for (const Operand& operand : operands_of(op)) {
    if (operand.extent == Extent::model) weights.push_back(*operand.tensor);
  }
  return weights;
}

// Which layer tensors belong to, by where they lie: those of a checkpoint by their names.
class LayerMap {
 public:
  LayerMap(const Checkpoint& checkpoint, const KvCache& kv, const StateCache& states) {
    for (const NamedTensor& named : checkpoint.tensors()) {
      const std::optional<int64_t> layer = layer_of_name(named.name);
      if (layer) add(named.tensor, *layer);
    }
    for (size_t i = 0; i < kv.shape().layers.size(); ++i) {
      const auto layer = static_cast<int64_t>(i);
      const KvPages& pages = kv.layer(layer);
      add(pages.k, layer);
      add(pages.v, layer);
      for (const Tensor& side : pages.sides) add(side, layer);
    }
    for (size_t i = 0; i < states.shape().layers.size(); ++i) {
      const auto layer = static_cast<int64_t>(i);
      const LayerState& state = states.layer(layer);
      for (const Tensor& part : {state.matrix, state.conv_q, state.conv_k, state.conv_v}) add(part, layer);
    }
  }

  std::optional<int64_t> find(const Tensor& tensor) const {
    const auto* const last = last_until(layers_, tensor.data);
    if (last == nullptr || tensor.data >= last->second.end) return std::nullopt;
    return last->second.layer;
  }

 private:
  // "blk.3.attn_q.weight" is of layer 3.
  static std::optional<int64_t> layer_of_name(std::string_view name) {
    constexpr std::string_view kPrefix = "blk.";
    int64_t layer = 0;
    if (!name.starts_with(kPrefix)) return std::nullopt;
    const auto read = std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
    return read.ec == std::errc() ? std::optional(layer) : std::nullopt;
  }

  void add(const Tensor& tensor, int64_t layer) {
    if (tensor && tensor.n_bytes() > 0)
      layers_[tensor.data] = {.end = tensor.data + tensor.n_bytes(), .layer = layer};
  }

  struct Stretch {
    const std::byte* end;
    int64_t layer;
  };
  std::map<const std::byte*, Stretch> layers_;  // by where they begin
};

// Pages decide, else weights.
std::optional<int64_t> layer_of(Op op, const LayerMap& layers) {
  for (const Extent extent : {Extent::whole, Extent::model}) {
    for (const Operand& operand : operands_of(op)) {
      if (operand.extent != extent) continue;
      if (const auto layer = layers.find(*operand.tensor)) return layer;
    }
  }
  return std::nullopt;
}

// An op that names nothing of a layer belongs to the one before it, or stands outside of all layers.
void add_forward(const std::vector<Op>& ops, const LayerMap& layers, int64_t n_layers,
                 std::vector<OpWeights>& all) {
  int64_t layer = -1;
  size_t n_of_layers = all.size();  // up to the last op of the last layer
  for (const Op& op : ops) {
    const std::optional<int64_t> own = layer_of(op, layers);
    layer = own.value_or(layer);
    const std::vector<Tensor> weights = weights_of(op);
    if (!weights.empty())
      all.push_back(
          {.weights = weights,
           .layer = layer,
           .is_table = std::holds_alternative<Embed>(op),
           .is_of_experts = std::holds_alternative<MoeGated>(op) || std::holds_alternative<MoeDown>(op)});
    if (own) n_of_layers = all.size();
  }
  for (size_t i = n_of_layers; i < all.size(); ++i) all[i].layer = n_layers;
}

}  // namespace

std::vector<Tensor> weights_of(const Model& model) {
  std::vector<Tensor> weights;
  for (const Op& op : ops_of(model)) std::ranges::copy(weights_of(op), std::back_inserter(weights));
  return weights;
}

std::vector<OpWeights> weights_by_op(const Model& model, const Checkpoint& checkpoint) {
  const KvCache kv = cache_of(model, 1);
  const StateCache states = states_of(model, 1);
  const LayerMap layers(checkpoint, kv, states);
  std::vector<OpWeights> all;
  for (const std::vector<Op>& ops : forwards_of(model, kv, states))
    add_forward(ops, layers, model.shape().n_layers, all);
  return all;
}

ranks::Recorded recorded_for_ranks(const Model& model) {
  NotingMemory memory;
  const KvCache kv = cache_of(model, 1, memory);
  const StateCache states = states_of(model, 1, memory);
  ranks::Recorded recorded;
  for (const std::vector<Op>& ops : forwards_of(model, kv, states))
    recorded.ops.insert(recorded.ops.end(), ops.begin(), ops.end());
  recorded.kept = std::move(memory.kept);
  return recorded;
}

std::vector<Tensor> multiplied_weights(const Model& model) {
  std::vector<Tensor> weights;
  for (const Op& op : ops_of(model)) std::ranges::copy(multiplied_weights(op), std::back_inserter(weights));
  return weights;
}

}  // namespace millrace
