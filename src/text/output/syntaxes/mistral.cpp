// Mistral since version 11 of its tokenizer: the name, then the arguments.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax mistral{.name = "mistral",
                         .marks = {"[TOOL_CALLS]", "[ARGS]"},
                         .shape = ToolSyntax::Shape::named,
                         .begins = {"[TOOL_CALLS]"},
                         .name_end = "[ARGS]",
                         .index_begin = "[CALL_ID]",
                         .reasoning_begins = {"[THINK]"},
                         .reasoning_ends = {"[/THINK]"}};

}  // namespace millrace::syntaxes
