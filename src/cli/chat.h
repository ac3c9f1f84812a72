// A conversation in the terminal, and the prompt that a conversation becomes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/answer.h"
#include "cli/loaded_model.h"

namespace millrace {

// {"role": role, "content": text}
Json message(std::string_view role, std::string_view text);

// Messages to token ids, by the model's chat template.
class ChatPrompt {
 public:
  // `thinking`: what the template is told by enable_thinking; nothing: its own default. Throws
  // Error(bad_model) where the model has no tokenizer or no chat template, Error(usage) where the template
  // does not care about `thinking`. `loaded` must outlive it.
  ChatPrompt(const LoadedModel& loaded, std::optional<bool> thinking);

  std::vector<int32_t> encode(const Json::Array& messages) const;

 private:
  void set_thinking(bool thinking);

  const Tokenizer& tokenizer_;
  ChatTemplate template_;
  Json variables_;
};

// The interactive conversation: reads lines, keeps the history, streams answers. Lines that begin with / are
// commands; a line that ends in \ goes on in the next one, """ begins and ends a text of several lines;
// Ctrl-C stops an answer.
class Chat {
 public:
  // `request` holds the sampling and limits of every answer.
  Chat(Engine& engine, const LoadedModel& loaded, Request request, std::vector<std::string> stops,
       std::optional<bool> thinking);

  void set_system(std::string text);
  // Until the end of the input or /exit.
  void run();

 private:
  // False: the conversation ends.
  bool obey(const std::string& command);
  void answer(const std::string& text);
  Json::Array messages() const;

  Engine& engine_;
  const LoadedModel& loaded_;
  ChatPrompt prompt_;
  Request request_;
  std::vector<std::string> stops_;
  std::string system_;
  Json::Array history_;
};

}  // namespace millrace
