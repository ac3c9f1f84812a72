// What a conversation asks besides its sampling, however its dialect spells it, and what becomes of that: a
// prompt, a grammar, and a parser of the answer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/dialect.h"
#include "serve/grammar_fields.h"

namespace millrace {

struct ChatAsk {
  // {"role", "content", "tool_calls", ...} as OpenAI's API has them, but with the arguments of calls as
  // objects.
  Json::Array messages;
  bool is_begun = false;            // the last message is the beginning of the answer, which goes on after it
  Json variables = Json::Object();  // of the template

  Json::Array tools;               // that the model is told of, as OpenAI's API has them
  std::vector<std::string> named;  // those that it may call alone; empty: all
  bool are_required = false;       // it must call one
  bool are_parallel = true;        // else at most one

  std::optional<AskedGrammar> content;   // what an answer without a call is
  bool splits_reasoning = true;          // else reasoning is part of the answer
  std::optional<int64_t> max_reasoning;  // tokens
};

// Reasoning on or off. Throws ApiError(400) naming `field` where the model cannot do it.
void set_reasoning(const ServedModel& model, bool is_on, const std::string& field, ChatAsk& ask);
// none, minimal, low, medium, high, xhigh or max
void set_reasoning_effort(const ServedModel& model, const std::string& effort, const std::string& field,
                          ChatAsk& ask);

// At most so many tokens of it.
void limit_reasoning(const ServedModel& model, int64_t max_tokens, const std::string& field, ChatAsk& ask);

// The tokens of the prompt. Throws ApiError(400) where the template refuses the messages, naming `param`.
std::vector<int32_t> encode_messages(const ServedModel& model, const ChatAsk& ask, const std::string& param);

// All of `choice` that the conversation decides; returns the prompt.
std::vector<int32_t> fill_chat(const ServedModel& model, const ChatAsk& ask, const std::string& param,
                               Ask::Choice& choice);

// What was written, joined.
struct WholeOutput {
  std::string content, reasoning;
  struct Call {
    std::string name, arguments;
  };
  std::vector<Call> calls;
};
WholeOutput whole_output(const std::vector<OutputEvent>& output);

// The prefix and 24 drawn letters.
std::string fresh_call_id(std::string_view prefix);

}  // namespace millrace
