// Qwen3-Coder, Qwen3.5, Nemotron 3, Step 3.5: a tag for each member.
#include "text/output/syntaxes/all.h"

namespace millrace::syntaxes {

const ToolSyntax qwen_coder{.name = "qwen_coder",
                            .marks = {"<tool_call>", "<function=", "<parameter="},
                            .shape = ToolSyntax::Shape::members,
                            .begins = {"<tool_call>\n<function=", "<tool_call><function=", "<function="},
                            .end = "</function>",
                            .name_end = ">",
                            .member_begin = "<parameter=",
                            .key_end = ">",
                            .value_end = "</parameter>",
                            .reasoning_begins = {"<think>"},
                            .reasoning_ends = {"</think>"},
                            .dropped = {"</tool_call>"}};

}  // namespace millrace::syntaxes
