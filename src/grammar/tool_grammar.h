// The grammar of an answer that may, or must, call tools: free text until a call opens, then the syntax of
// the family, with arguments that the schema of the tool accepts.
#pragma once

#include <string_view>

#include "base/json.h"
#include "grammar/rules.h"
#include "text/output/tool_syntax.h"
#include "text/tokenizer.h"

namespace millrace {

struct ToolCalls {
  const ToolSyntax& syntax;
  const Json::Array& tools;          // as OpenAI's API has them: those that may be called
  bool are_required = false;         // else the model may answer without a call
  bool are_parallel = true;          // else at most one
  bool begins_in_reasoning = false;  // the prompt ended with the sign that begins it
};

// Throws Error(usage): a syntax without calls, a tool without a name, a schema that cannot be enforced (with
// the tool's name). `tokenizer` tells which signs are control tokens.
Rules tool_rules(const ToolCalls& calls, const Tokenizer& tokenizer);

}  // namespace millrace
