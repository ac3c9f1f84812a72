// A conversation with a model: what was said, the answers to it, and what becomes of the calls in them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "cli/answer.h"
#include "cli/loaded_model.h"
#include "cli/tool_options.h"
#include "grammar/grammar_source.h"
#include "text/chat_prompt.h"
#include "text/chat_tools.h"

namespace millrace {

class Conversation {
 public:
  struct Options {
    std::string system;                    // empty: none
    std::optional<bool> thinking;          // asked of the chat template; nothing: its own default
    std::optional<GrammarSource> content;  // what an answer without a call is
    std::optional<int32_t> max_reasoning;  // tokens
    ToolUse tools;
    std::vector<std::string> stops;
  };
  struct Call {
    std::string id, name;
    Json arguments;
  };

  // `request` holds the sampling and limits of every answer; `engine` and `loaded` must outlive it. Throws
  // Error(bad_model) where the model has no tokenizer or no chat template, Error(usage) where the template
  // has no switch for reasoning or knows none.
  Conversation(Engine& engine, const LoadedModel& loaded, Request request, Options options);

  // Forgets all that was said.
  void begin_again(std::string system);
  void begin_again() { messages_.clear(); }
  // The last question is forgotten with all behind it, and returned; nothing where there is none.
  std::optional<std::string> take_back();

  // Answers, and goes on behind the calls that commands answer. Where the question cannot be answered it
  // throws, and the question is forgotten.
  Answer ask(const std::string& question, const OnText& on_text);
  // Calls of the last answer that nothing has answered: they want results before anything else is said.
  const std::vector<Call>& open_calls() const { return open_calls_; }
  void give_result(const Call& call, std::string_view result);
  // Answers when no call is open.
  Answer go_on(const OnText& on_text);

  // All that was said but the system message, as OpenAI's API has it.
  Json::Array messages_of_api() const;
  // Another seed for what comes.
  void change_seed() { ++request_.sampling.seed; }

 private:
  Answer next(const OnText& on_text);
  void note(const Answer& answer);
  void run_commands();
  std::vector<int32_t> prompt() const;

  Engine& engine_;
  const Tokenizer& tokenizer_;
  ChatPrompt prompt_;
  ChatTools chat_tools_;
  GrammarCache grammars_;
  Request request_;
  Options options_;
  Json::Array messages_;  // as the API has them, but with the arguments of calls as objects
  std::vector<Call> open_calls_;
  int64_t n_calls_ = 0;
};

Json call_of_api(const Conversation::Call& call);
// "call NAME ARGUMENTS", without its line end.
std::string shown(const Conversation::Call& call);

}  // namespace millrace
