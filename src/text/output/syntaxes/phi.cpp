// Phi-4-mini.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax phi{.name = "phi",
                     .marks = {"<|tool|>", "<|/tool|>"},
                     .shape = ToolSyntax::Shape::list,
                     .begins = {"<|tool_call|>"},
                     .end = "<|/tool_call|>",
                     .reasoning_begins = {"<think>"},
                     .reasoning_ends = {"</think>"}};

}  // namespace millrace::syntaxes
