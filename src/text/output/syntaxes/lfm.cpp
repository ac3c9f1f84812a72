// LFM2 and 2.5.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax lfm{.name = "lfm",
                     .marks = {"List of tools: ", "<|im_start|>"},
                     .shape = ToolSyntax::Shape::python,
                     .begins = {"<|tool_call_start|>"},
                     .end = "<|tool_call_end|>",
                     .name_end = "(",
                     .reasoning_begins = {"<think>"},
                     .reasoning_ends = {"</think>"}};

}  // namespace millrace::syntaxes
