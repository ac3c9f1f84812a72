// From config.json to the keys of GGUF: layers of Kimi delta attention among layers of attention.
#pragma once

#include "model/hf/keys.h"

namespace millrace {

struct DeltaClass {
  std::vector<std::string_view> attention_types;  // what layer_types calls layers of attention
  bool has_floor = false;
};

// Sizes, and which layers are recurrent: those have no key-value heads. The published configs keep it all in
// linear_attn_config and count layers from 1; transformers 5 writes flat keys and a type for each layer.
// Refuses another number of heads than attention has.
void write_delta_keys(HfConfig& config, HfKeys& keys, const DeltaClass& delta);

}  // namespace millrace
