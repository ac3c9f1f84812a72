// Granite 3.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax granite{.name = "granite",
                         .marks = {"<|tool_call|>", "available_tools"},
                         .others = {"<|/tool_call|>"},
                         .shape = ToolSyntax::Shape::list,
                         .begins = {"<|tool_call|>"},
                         .reasoning_begins = {"<think>"},
                         .reasoning_ends = {"</think>"},
                         .dropped = {"<response>", "</response>", "<|end_of_text|>"}};

}  // namespace millrace::syntaxes
