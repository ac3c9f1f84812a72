// Conversations of OpenAI's chat API and of those that took it over.
#pragma once

#include "serve/dialects/chat_ask.h"
#include "serve/fields.h"

namespace millrace {

// messages, tools and what else becomes part of the prompt: chat_template_kwargs, reasoning_effort,
// continue_final_message, ...
ChatAsk read_chat(Fields& fields, const ServedModel& model);
// The same, as the tokens of its prompt.
std::vector<int32_t> read_chat_prompt(Fields& fields, const ServedModel& model);

// The arguments of a call, JSON in a string: templates were trained with the object.
Json read_arguments(const std::string& text, const std::string& path);

}  // namespace millrace
