// Calls as a family writes them: the way back of OutputParser.
#pragma once

#include <string>

#include "base/json.h"
#include "text/output/tool_syntax.h"

namespace millrace {

// `calls`: at least one, as OpenAI's API has them, but with their arguments as objects.
std::string written_calls(const ToolSyntax& syntax, const Json::Array& calls);

}  // namespace millrace
