#include "model/weights_of.h"

#include <algorithm>
#include <iterator>

#include "backend/op_operands.h"
#include "model/dry_run.h"

namespace millrace {
namespace {

// Computes nothing and remembers what it is asked for.
class Recorder final : public Backend {
 public:
  std::string_view name() const override { return "recorder"; }
  void run(const Op& op) override { ops.push_back(op); }

  std::vector<Op> ops;
};

// Of a forward with every part of the model in it.
std::vector<Op> ops_of(const Model& model) {
  const ModelShape& shape = model.shape();
  const KvCache kv({.layers = shape.kv_layers, .n_pages = 0, .page_size = 32, .dtype = Dtype::f32});
  const StateCache states({.layers = shape.state_layers, .n_slots = 0});
  Recorder recorder;
  for (const bool wants_scores : {false, true}) {
    if (wants_scores && shape.n_scores == 0) continue;
    Arena arena;
    run_dry(model, recorder, arena, kv, states, {.wants_scores = wants_scores});
  }
  return recorder.ops;
}

}  // namespace

std::vector<Tensor> weights_of(const Model& model) {
  std::vector<Tensor> weights;
  for (Op& op : ops_of(model)) {
    for (const Operand& operand : operands_of(op)) {
      if (operand.extent == Extent::model) weights.push_back(*operand.tensor);
    }
  }
  return weights;
}

std::vector<Tensor> multiplied_weights(const Model& model) {
  std::vector<Tensor> weights;
  for (const Op& op : ops_of(model)) std::ranges::copy(multiplied_weights(op), std::back_inserter(weights));
  return weights;
}

}  // namespace millrace
