// Gemma 4: an object whose keys have no quotes, and whose texts stand between signs.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax gemma{.name = "gemma",
                       .marks = {"<|tool_call>call:", "<tool_call|>"},
                       .shape = ToolSyntax::Shape::braces,
                       .begins = {"<|tool_call>call:"},
                       .end = "<tool_call|>",
                       .name_end = "{",
                       .key_end = ":",
                       .value_begin = "<|\"|>",
                       .value_end = "<|\"|>",
                       .reasoning_begins = {"<|channel>thought"},
                       .reasoning_ends = {"<channel|>"},
                       .dropped = {"<turn|>", "<|tool_response>"}};

}  // namespace millrace::syntaxes
