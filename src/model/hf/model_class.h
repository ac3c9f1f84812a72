// What a family says about the Hugging Face spelling of its variants: names of tensors, config keys,
// defaults.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace millrace {

class HfConfig;
class HfKeys;
class Metadata;

// Where the rows (or columns) of a tensor stand in the file, each once or not at all. Empty: as they are.
using HfOrder = std::vector<int64_t>;

// What happens to a tensor on its way. Vectors become float32 besides, whatever they were.
enum class HfChange {
  none,
  pair_q_heads,   // rows of each query head from half-split to adjacent pairs (gguf.md 5.1)
  pair_k_heads,   // the same for key heads
  add_one,        // Gemma's norms: x * (1 + w)
  latent_keys,    // of kv_b: what makes the keys of each head, transposed (gguf.md 5.6)
  latent_values,  // and what makes the values
  as_f32,         // a router: small, and it decides
  first_half,     // of each expert's rows: gate of a fused gate_up_proj
  second_half,    // up of it
  rows,           // in the order of the rule
  columns,        // in the order of the rule
  taps,          // of convolutions in time: (channels, 1, taps) to (channels, taps), rows in the rule's order
  negative_exp,  // -exp(x), rows in the rule's order: the logarithm of a rate to what multiplies
  transposed,    // each expert, stored (inputs, outputs)
  first_half_transposed,
  second_half_transposed,
  even,  // of each expert's rows, or of its elements of a bias: gate where gate and up alternate
  odd,
  even_transposed,
  odd_transposed,
};

// `{}` in `hf` stands for the layer; `{e}` for the expert: those tensors are stacked. The names have no
// "language_model." in them, and "model." in front of what belongs to the body. An empty `gguf`: the tensor
// is not needed.
struct HfTensorRule {
  std::string_view hf;    // "model.layers.{}.self_attn.q_proj.weight"
  std::string_view gguf;  // "blk.{}.attn_q.weight"
  HfChange change = HfChange::none;
  HfOrder (*order)(const Metadata& metadata) = nullptr;  // of the keys that the class has written
};

struct HfModelClass {
  std::string_view model_type;    // in config.json
  std::string_view architecture;  // of the GGUF file that it becomes
  std::string_view defaults;      // JSON object: what transformers assumes where config.json is silent
  std::span<const HfTensorRule> tensors;
  // Translates the config. What it does not ask for is refused.
  void (*write_keys)(HfConfig& config, HfKeys& keys);
  // What stands before the names of the body in a checkpoint with a head; one of the body alone has nothing
  // there.
  std::string_view body = "model";
  // The class is meant only where config.json has this flag, and goes before the one without.
  std::string_view needs_flag = {};
};

}  // namespace millrace
