// For tests: one tiny model with random weights for each body of a family, on any machine.
#pragma once

#include "model/testing/tiny/cohere.h"
#include "model/testing/tiny/deepseek.h"
#include "model/testing/tiny/deepseek4.h"
#include "model/testing/tiny/gemma.h"
#include "model/testing/tiny/gemma3n.h"
#include "model/testing/tiny/gemma4.h"
#include "model/testing/tiny/glm4.h"
#include "model/testing/tiny/glm5_next.h"
#include "model/testing/tiny/gpt_oss.h"
#include "model/testing/tiny/kimi_linear.h"
#include "model/testing/tiny/llama.h"
#include "model/testing/tiny/llama4.h"
#include "model/testing/tiny/mixture.h"
#include "model/testing/tiny/olmo2.h"
#include "model/testing/tiny/phi3.h"
#include "model/testing/tiny/qwen3next.h"
#include "model/testing/tiny/starcoder2.h"

namespace millrace::testing {

struct TinyModel {
  std::string_view name;
  std::unique_ptr<MemoryCheckpoint> checkpoint;
};

// Latent attention in its other form.
inline std::unique_ptr<MemoryCheckpoint> expanded(std::unique_ptr<MemoryCheckpoint> model) {
  model->set("millrace.expands_latents", true);
  return model;
}

inline std::vector<TinyModel> tiny_models() {
  std::vector<TinyModel> models;
  models.push_back({"llama", tiny_llama()});
  models.push_back({"qwen3moe", tiny_qwen3moe()});
  models.push_back({"gemma2", tiny_gemma("gemma2")});
  models.push_back({"gemma3", tiny_gemma("gemma3")});
  models.push_back({"phi3", tiny_phi3()});
  models.push_back({"qwen2moe", tiny_qwen2moe()});
  models.push_back({"glm4moe", tiny_glm4moe()});
  models.push_back({"minimax-m2", tiny_minimax()});
  models.push_back({"llama4", tiny_llama4()});
  models.push_back({"gpt-oss", tiny_gpt_oss()});
  models.push_back({"granite", tiny_granite()});
  models.push_back({"command-r", tiny_cohere("command-r")});
  models.push_back({"cohere2", tiny_cohere("cohere2")});
  models.push_back({"olmo2", tiny_olmo2()});
  models.push_back({"starcoder2", tiny_starcoder2()});
  models.push_back({"glm4", tiny_glm4()});
  models.push_back({"gemma3n", tiny_gemma3n()});
  models.push_back({"gemma4", tiny_gemma4(false)});
  models.push_back({"gemma4 with fused experts", tiny_gemma4(true)});
  models.push_back({"deepseek2", tiny_deepseek2()});
  models.push_back({"glm-dsa", tiny_deepseek("glm-dsa")});
  models.push_back({"deepseek2 with expanded latents", expanded(tiny_deepseek2())});
  models.push_back({"glm-dsa with expanded latents", expanded(tiny_deepseek("glm-dsa"))});
  models.push_back({"qwen3next", tiny_qwen35("qwen3next")});
  models.push_back({"qwen35", tiny_qwen35("qwen35")});
  models.push_back({"kimi-linear", tiny_kimi_linear()});
  models.push_back({"glm5-next", tiny_glm5_next()});
  models.push_back({"deepseek4", tiny_deepseek4()});
  return models;
}

}  // namespace millrace::testing
