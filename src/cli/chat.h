// A conversation in the terminal.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/answer.h"
#include "cli/loaded_model.h"
#include "text/chat_prompt.h"

namespace millrace {

// The prompts of the model's chat template, which is asked for reasoning or none (nothing: its own default).
// Throws Error(bad_model) where the model has no tokenizer or no chat template, Error(usage) where the
// template has no switch for reasoning. `loaded` must outlive it.
ChatPrompt chat_prompt_of(const LoadedModel& loaded, std::optional<bool> thinking);

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
