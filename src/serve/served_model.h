// The model that a server answers with: what every dialect needs of it. const while the server runs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "text/chat_prompt.h"
#include "text/chat_tools.h"
#include "text/tokenizer.h"

namespace millrace {

class GrammarCache;
class KvEventQueue;

struct ServedModel {
  Engine& engine;
  const ModelShape& shape;
  const Tokenizer* tokenizer = nullptr;     // nullptr: prompts are token ids, and there is no text
  const ChatPrompt* chat = nullptr;         // nullptr where the model has no chat template
  const ChatTools* chat_tools = nullptr;    // there with the chat template
  GrammarCache* grammars = nullptr;         // there with the tokenizer
  const KvEventQueue* kv_events = nullptr;  // nullptr: nobody wants them
  bool template_knows_developer = false;    // the role that OpenAI's newer clients send instead of system
  std::vector<std::string> names;           // that requests may call it by; replies use the first
  std::vector<int32_t> end_tokens;
  std::string template_source;  // of the chat template; empty where there is none
  std::string container;        // "gguf" or "safetensors"
  int64_t n_bytes = 0;          // of the weights
  Sampling sampling;            // where a request says nothing
  int64_t created_unix_s = 0;

  int64_t n_ctx() const { return engine.options().n_ctx; }
  // Throw ApiError where there is none.
  const Tokenizer& need_tokenizer() const;
  const ChatPrompt& need_chat() const;
};

}  // namespace millrace
