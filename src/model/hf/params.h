// params.json and the names of tensors in consolidated.safetensors: how Mistral AI ships its models, in the
// words of config.json.
#pragma once

#include "base/json.h"
#include "model/hf/model_class.h"

namespace millrace {

// The model_type of a config made of params.json: what kind of model it describes.
inline constexpr std::string_view kParamsDense = "params.json";
inline constexpr std::string_view kParamsScaledQueries = "params.json with llama_4_scaling";
inline constexpr std::string_view kParamsExperts = "params.json with moe";
inline constexpr std::string_view kParamsLatent = "params.json with kv_lora_rank";

// The config.json that says the same. Throws Error(bad_model), naming the key, for a setting that is not
// understood and may change what the model computes.
Json config_of_params(const Json& params);

// The tensors of all four. Heads have adjacent pairs already.
inline constexpr HfTensorRule kParamsTensors[] = {
    {"tok_embeddings.weight", "token_embd.weight"},
    {"norm.weight", "output_norm.weight"},
    {"output.weight", "output.weight"},
    {"layers.{}.attention_norm.weight", "blk.{}.attn_norm.weight"},
    {"layers.{}.ffn_norm.weight", "blk.{}.ffn_norm.weight"},
    {"layers.{}.attention.wq.weight", "blk.{}.attn_q.weight"},
    {"layers.{}.attention.wk.weight", "blk.{}.attn_k.weight"},
    {"layers.{}.attention.wv.weight", "blk.{}.attn_v.weight"},
    {"layers.{}.attention.wo.weight", "blk.{}.attn_output.weight"},
    {"layers.{}.attention.wq_a.weight", "blk.{}.attn_q_a.weight"},
    {"layers.{}.attention.q_a_norm.weight", "blk.{}.attn_q_a_norm.weight"},
    {"layers.{}.attention.wq_b.weight", "blk.{}.attn_q_b.weight"},
    {"layers.{}.attention.wkv_a_with_mqa.weight", "blk.{}.attn_kv_a_mqa.weight"},
    {"layers.{}.attention.kv_a_norm.weight", "blk.{}.attn_kv_a_norm.weight"},
    {"layers.{}.attention.wkv_b.weight", "blk.{}.attn_k_b.weight", HfChange::latent_keys},
    {"layers.{}.attention.wkv_b.weight", "blk.{}.attn_v_b.weight", HfChange::latent_values},
    {"layers.{}.feed_forward.w1.weight", "blk.{}.ffn_gate.weight"},
    {"layers.{}.feed_forward.w3.weight", "blk.{}.ffn_up.weight"},
    {"layers.{}.feed_forward.w2.weight", "blk.{}.ffn_down.weight"},
    {"layers.{}.feed_forward.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"layers.{}.feed_forward.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"layers.{}.feed_forward.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"layers.{}.feed_forward.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
    {"layers.{}.gate.weight", "blk.{}.ffn_gate_inp.weight", HfChange::as_f32},
    {"layers.{}.experts.{e}.w1.weight", "blk.{}.ffn_gate_exps.weight"},
    {"layers.{}.experts.{e}.w3.weight", "blk.{}.ffn_up_exps.weight"},
    {"layers.{}.experts.{e}.w2.weight", "blk.{}.ffn_down_exps.weight"},
    {"layers.{}.shared_experts.w1.weight", "blk.{}.ffn_gate_shexp.weight"},
    {"layers.{}.shared_experts.w3.weight", "blk.{}.ffn_up_shexp.weight"},
    {"layers.{}.shared_experts.w2.weight", "blk.{}.ffn_down_shexp.weight"},
};

}  // namespace millrace
