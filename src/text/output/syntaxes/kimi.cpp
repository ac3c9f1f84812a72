// Kimi K2: the name with its namespace and a running number.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax kimi{.name = "kimi",
                      .marks = {"<|tool_call_begin|>", "<|tool_call_argument_begin|>"},
                      .shape = ToolSyntax::Shape::named,
                      .begins = {"<|tool_call_begin|>functions.", "<|tool_call_begin|>"},
                      .end = "<|tool_call_end|>",
                      .section_begin = "<|tool_calls_section_begin|>",
                      .section_end = "<|tool_calls_section_end|>",
                      .name_end = "<|tool_call_argument_begin|>",
                      .index_begin = ":",
                      .reasoning_begins = {"<think>", "◁think▷"},
                      .reasoning_ends = {"</think>", "◁/think▷"},
                      .dropped = {"<|im_end|>"}};

}  // namespace millrace::syntaxes
