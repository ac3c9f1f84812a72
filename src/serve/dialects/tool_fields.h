// The tools of a request as OpenAI's APIs and those after it have them.
#pragma once

#include <string>

#include "serve/dialects/chat_ask.h"
#include "serve/fields.h"

namespace millrace {

constexpr size_t kMaxTools = 1024;

// A tool as templates know it, of members name, description, parameters and strict: what a tool calls is held
// to its parameters always. `parameters` is their name in this dialect.
Json read_function(Fields& fields, std::string_view parameters = "parameters");

// A list of {"type": "function", "function": {...}}, under `name`.
Json::Array read_tools(Fields& fields, std::string_view name);

// tool_choice, as text or as an object that names tools: {"type": "function", "function": {"name"}}, or flat
// {"type": "function", "name"}; and parallel_tool_calls.
enum class ToolForm { nested, flat };
void read_tool_choice(Fields& fields, ToolForm form, ChatAsk& ask);

// Only the tool of that name may be called, and must be. Throws ApiError(400) where there is none.
void need_call_of(const std::string& name, const std::string& field, ChatAsk& ask);

}  // namespace millrace
