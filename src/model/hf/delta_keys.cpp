#include "model/hf/delta_keys.h"

namespace millrace {
namespace {

std::vector<bool> read_recurrent_layers(HfConfig& config, HfConfig& linear, const DeltaClass& delta) {
  std::vector<bool> is_recurrent(static_cast<size_t>(config.count("num_hidden_layers")), true);
  for (const std::string_view list : {"kda_layers", "full_attn_layers"}) linear.find(list);
  if (config.has("layer_types"))
    return read_layer_types(config, {.type = "linear_attention", .others = delta.attention_types},
                            std::move(is_recurrent));
  for (const double layer : linear.reals("full_attn_layers")) {
    if (!(layer >= 1.0 && layer <= static_cast<double>(is_recurrent.size())))
      linear.refuse("full_attn_layers", "layers from 1 to num_hidden_layers are expected");
    is_recurrent[static_cast<size_t>(layer) - 1] = false;
  }
  return is_recurrent;
}

// Of an object that does not say, -5 where its gate is safe, as it is unless it says otherwise.
void write_floor(HfConfig& linear, HfKeys& keys, bool is_flat) {
  const std::string_view name = is_flat ? "linear_lower_bound" : "gate_lower_bound";
  const bool is_safe = !is_flat && linear.flag_or("safe_gate", true);
  const double floor = linear.real_or(name, is_safe ? -5.0 : 0.0, {-1e3, 0.0});
  if (floor < 0.0) keys.set("kda.gate_lower_bound", floor);
}

}  // namespace

void write_delta_keys(HfConfig& config, HfKeys& keys, const DeltaClass& delta) {
  static const Json kNone{Json::Object()};
  const Json* object = config.find("linear_attn_config");
  const bool is_flat = object == nullptr;
  HfConfig inner = config.within(is_flat ? kNone : *object, "linear_attn_config");
  HfConfig& linear = is_flat ? config : inner;
  const std::string_view n_heads = is_flat ? "linear_num_heads" : "num_heads";
  if (linear.count(n_heads) != config.count("num_attention_heads"))
    linear.refuse(n_heads, "as many heads as of attention are expected");
  keys.set("kda.head_dim", linear.count(is_flat ? "linear_head_dim" : "head_dim"));
  keys.set("ssm.conv_kernel", linear.count(is_flat ? "linear_conv_kernel_dim" : "short_conv_kernel_size"));
  if (delta.has_floor) write_floor(linear, keys, is_flat);
  std::vector<int64_t> n_kv_heads;
  for (const bool is_recurrent : read_recurrent_layers(config, linear, delta))
    n_kv_heads.push_back(is_recurrent ? 0 : 1);
  keys.set("attention.head_count_kv", std::move(n_kv_heads));
  if (!is_flat) linear.refuse_rest();
}

}  // namespace millrace
