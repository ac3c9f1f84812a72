#include "model/layers/per_layer_input.h"

#include <cmath>
#include <numbers>

namespace millrace {

PerLayerInput read_per_layer_input(Hparams& hparams, const ModelShape& shape) {
  return {.n_layers = shape.n_layers,
          .hidden = shape.hidden,
          .width = hparams.count_or("embedding_length_per_layer_input", 0)};
}

void list_per_layer_input(WeightList& list, PerLayerInput& input, const Checkpoint& checkpoint) {
  if (input.width == 0) return;
  const int64_t n_cols = input.n_layers * input.width;
  const Tensor* table = checkpoint.find("per_layer_token_embd.weight");
  const int64_t n_rows = table == nullptr || table->n_dims != 2 ? 1 : table->dim(0);
  list.add(input.token_embd, "per_layer_token_embd.weight", {n_rows, n_cols});
  list.add(input.model_proj, "per_layer_model_proj.weight", {n_cols, input.hidden});
  list.add(input.proj_norm, "per_layer_proj_norm.weight", {input.width});
}

void list_per_layer_gate(WeightList& list, const PerLayerInput& input, PerLayerGate& gate) {
  if (input.width == 0) return;
  list.add(gate.gate, "inp_gate.weight", {input.width, input.hidden});
  list.add(gate.proj, "proj.weight", {input.hidden, input.width});
  list.add(gate.norm, "post_norm.weight", {input.hidden});
}

void check_per_layer_input(const PerLayerInput& input) {
  if (input.width == 0) return;
  const Format& format = format_of(input.token_embd.dtype);
  if (input.width % format.block_elems != 0) {
    fail(ErrorKind::bad_model,
         "per_layer_token_embd.weight is stored as {}, whose blocks of {} do not divide {}", format.name,
         format.block_elems, input.width);
  }
}

namespace {

// input (n_rows, width) = (norm(project(embedded)) + embedding) / sqrt(2)
void make_input(const Pass& pass, const PerLayerInput& input, const PerLayerStep& step, const Tensor& out) {
  const ArenaScope scope(pass.arena);
  const int64_t first = step.layer * input.width;
  const Tensor embedding = pass.arena.take(Dtype::f32, {out.dim(0), input.width});
  pass.backend.run(Embed{.tokens = pass.batch.tokens,
                         .table = input.token_embd,
                         .out = embedding,
                         .first_col = first,
                         .has_fallback = true,
                         .scale = std::sqrt(static_cast<float>(input.width))});
  pass.backend.run(
      Linear{.x = step.embedded,
             .products = {{.weight = input.model_proj.slice(first, first + input.width), .out = out}},
             .scale = 1.0f / std::sqrt(static_cast<float>(input.hidden))});
  pass.backend.run(Norm{.x = out, .weight = input.proj_norm, .out = out, .eps = input.norm_eps});
  constexpr float kHalfPower = 1.0f / std::numbers::sqrt2_v<float>;
  pass.backend.run(Add{.x = out, .y = embedding, .x_scale = kHalfPower, .y_scale = kHalfPower});
}

}  // namespace

void run_per_layer_gate(const Pass& pass, const PerLayerInput& input, const PerLayerGate& gate,
                        const PerLayerStep& step) {
  const ArenaScope scope(pass.arena);
  const Tensor own = pass.arena.take(Dtype::f32, {step.x.dim(0), input.width});
  make_input(pass, input, step, own);
  const Tensor gated = pass.arena.take(Dtype::f32, {step.x.dim(0), input.width});
  pass.backend.run(Linear{.x = step.x, .products = {{.weight = gate.gate, .out = gated}}});
  pass.backend.run(Gate{.gate = gated, .x = own, .out = gated, .activation = Activation::gelu_tanh});
  pass.backend.run(Linear{.x = gated, .products = {{.weight = gate.proj, .out = step.out}}});
  pass.backend.run(Norm{.x = step.out, .weight = gate.norm, .out = step.out, .eps = input.norm_eps});
}

}  // namespace millrace
