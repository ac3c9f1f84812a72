// What OpenAI's routes share.
#pragma once

#include "serve/dialect.h"
#include "serve/fields.h"

namespace millrace {

// The `usage` of chat and completions.
Json openai_usage(const Totals& totals);
// {"error": {...}}
Json openai_error(const ApiError& error);
// "stop" or "length"
std::string_view openai_finish(const Ending& ending);

struct StreamOptions {
  bool includes_usage = false;
  bool is_usage_continuous = false;
};
// `stream_options`, legal only with `stream`.
StreamOptions read_stream_options(Fields& fields, bool is_streamed);

// Conversation, template and tokens of a chat request: messages, chat_template_kwargs, reasoning_effort, ...
std::vector<int32_t> read_chat_prompt(Fields& fields, const ServedModel& model);

Parsed parse_chat_completion(const Incoming& incoming);
Parsed parse_completion(const Incoming& incoming);
Parsed parse_response(const Incoming& incoming);
Parsed parse_embeddings(const Incoming& incoming);
Parsed parse_rerank(const Incoming& incoming);

}  // namespace millrace
