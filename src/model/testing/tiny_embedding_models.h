// For tests: tiny models with random weights that give embeddings.
#pragma once

#include "model/testing/tiny_models.h"

namespace millrace::testing {

inline std::unique_ptr<MemoryCheckpoint> tiny_encoder(std::string_view architecture) {
  auto model = std::make_unique<MemoryCheckpoint>();
  const std::string prefix = std::string(architecture) + ".";
  model->set_text("general.architecture", architecture);
  model->set(prefix + "block_count", kTinyLayers);
  model->set(prefix + "context_length", int64_t{64});
  model->set(prefix + "embedding_length", kTinyHidden);
  model->set(prefix + "feed_forward_length", kTinyFf);
  model->set(prefix + "attention.head_count", int64_t{3});
  model->set(prefix + "attention.layer_norm_epsilon", 1e-12);
  model->add_random("token_embd.weight", {kTinyVocab, kTinyHidden});
  model->add_random("token_embd_norm.weight", {kTinyHidden});
  return model;
}

// A reranker with two scores.
inline std::unique_ptr<MemoryCheckpoint> tiny_bert() {
  auto model = tiny_encoder("bert");
  const auto add_with_bias = [&](const std::string& name, std::vector<int64_t> shape) {
    model->add_random(name + ".bias", {shape[0]});
    model->add_random(name + ".weight", std::move(shape));
  };
  model->add_random("token_embd_norm.bias", {kTinyHidden});
  model->add_random("position_embd.weight", {64, kTinyHidden});
  model->add_random("token_types.weight", {2, kTinyHidden});
  add_with_bias("cls", {kTinyHidden, kTinyHidden});
  add_with_bias("cls.output", {2, kTinyHidden});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
      add_with_bias(block_name(i) + name, {kTinyHidden, kTinyHidden});
    add_with_bias(block_name(i) + "attn_output_norm", {kTinyHidden});
    add_with_bias(block_name(i) + "ffn_up", {kTinyFf, kTinyHidden});
    add_with_bias(block_name(i) + "ffn_down", {kTinyHidden, kTinyFf});
    add_with_bias(block_name(i) + "layer_output_norm", {kTinyHidden});
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_modernbert() {
  auto model = tiny_encoder("modern-bert");
  model->set("modern-bert.attention.sliding_window", int64_t{6});
  model->add_random("output_norm.weight", {kTinyHidden});
  for (int64_t i = 0; i < kTinyLayers; ++i) {
    const std::string block = block_name(i);
    if (i > 0) model->add_random(block + "attn_norm.weight", {kTinyHidden});
    model->add_random(block + "attn_qkv.weight", {3 * kTinyHidden, kTinyHidden});
    model->add_random(block + "attn_output.weight", {kTinyHidden, kTinyHidden});
    model->add_random(block + "ffn_norm.weight", {kTinyHidden});
    model->add_random(block + "ffn_up.weight", {2 * kTinyFf, kTinyHidden});
    model->add_random(block + "ffn_down.weight", {kTinyHidden, kTinyFf});
  }
  return model;
}

inline std::unique_ptr<MemoryCheckpoint> tiny_embedding_gemma() {
  auto model = tiny_gemma("gemma-embedding");
  model->set("gemma-embedding.pooling_type", int64_t{1});
  model->add_random("dense_2.weight", {2 * kTinyHidden, kTinyHidden});
  model->add_random("dense_3.weight", {16, 2 * kTinyHidden});
  return model;
}

// Those that give embeddings.
inline std::vector<TinyModel> tiny_embedding_models() {
  std::vector<TinyModel> models;
  models.push_back({"bert", tiny_bert()});
  models.push_back({"modern-bert", tiny_modernbert()});
  models.push_back({"gemma-embedding", tiny_embedding_gemma()});
  models.push_back({"llama", tiny_llama()});
  models.back().checkpoint->set("llama.pooling_type", int64_t{3});
  return models;
}

}  // namespace millrace::testing
